"""wherry rmi."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import sentence_of
from wherry.cli.output import line_error, line_out
from wherry.client.document import text_of
from wherry.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("force", "f", "bool", "", "Force removal of the image"),
    ("no-prune", "", "bool", "", "Do not delete untagged parents"),
    (
        "platform",
        "",
        "strings",
        "",
        'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
    ),
)


def run(session: Session, arguments: Arguments) -> int:
    """Removes images."""
    from wherry.cli.platform import encode_platform

    force = arguments.flag("force")
    platforms = [encode_platform(text, head="") for text in arguments.many("platform")]
    failures = []
    fatal = False
    for image in arguments.positional:
        try:
            removed = session.client.images.remove(
                image,
                force=force,
                prune=not arguments.flag("no-prune"),
                platforms=platforms,
            )
        except ApiError as exc:
            fatal = fatal or exc.status != 404
            failures.append(sentence_of(exc))
            continue
        for record in removed:
            deleted = text_of(record, "Deleted")
            line_out(
                f"Deleted: {deleted}" if deleted else f"Untagged: {text_of(record, 'Untagged')}"
            )
    if failures:
        line_error("\n".join(failures))
        # With --force what is not there counts as removed.
        return 1 if fatal or not force else 0
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] IMAGE [IMAGE...]",
    aliases="image rm, image remove, rmi",
    options=OPTIONS,
    minimum=1,
)
