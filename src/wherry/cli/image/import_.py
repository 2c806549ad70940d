"""wherry import."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.image.load import open_archive, read_chunks
from wherry.cli.progress import show_progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("change", "c", "list", "", "Apply Dockerfile instruction to the created image"),
    ("message", "m", "string", "", "Set commit message for imported image"),
    ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Makes an image of an archive."""
    source = arguments.positional[0]
    repository = arguments.positional[1] if len(arguments.positional) > 1 else ""
    if repository:
        from wherry.cli.reference import parse_reference

        parse_reference(repository)
    stream = None
    if source == "-":
        stream = read_chunks(0)
    elif not source.startswith(("http://", "https://")):
        stream = read_chunks(open_archive(source))
        source = "-"
    records = session.client.images.import_(
        source,
        stream,
        repository=repository,
        message=arguments.text("message"),
        changes=arguments.many("change"),
        platform=arguments.text("platform"),
    )
    show_progress(records, 1)
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    aliases="image import, import",
    options=OPTIONS,
    minimum=1,
)
