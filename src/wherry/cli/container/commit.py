"""wherry commit."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.output import line_out
from wherry.client.document import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    (
        "author",
        "a",
        "string",
        "",
        'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")',
    ),
    ("change", "c", "list", "", "Apply Dockerfile instruction to the created image"),
    ("message", "m", "string", "", "Commit message"),
    ("pause", "p", "bool", "true", "Pause container during commit"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Makes an image of a container."""
    repository = tag = ""
    if len(arguments.positional) > 1:
        from wherry.cli.reference import parse_reference

        reference = parse_reference(arguments.positional[1])
        repository, tag = reference.name, reference.tag
    answer = session.client.containers.commit(
        arguments.positional[0],
        repository=repository,
        tag=tag,
        author=arguments.text("author"),
        message=arguments.text("message"),
        pause=arguments.flag("pause", default=True),
        changes=arguments.many("change"),
    )
    line_out(text_of(answer, "Id"))
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    aliases="container commit, commit",
    options=OPTIONS,
    minimum=1,
    maximum=2,
)
