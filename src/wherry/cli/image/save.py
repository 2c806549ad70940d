"""wherry save."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.output import is_terminal
from wherry.cli.save_to import check_output_path, save_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("output", "o", "string", "", "Write to a file, instead of STDOUT"),
    (
        "platform",
        "",
        "string",
        "",
        'Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
    ),
)


def run(session: Session, arguments: Arguments) -> int:
    """Writes images as one archive."""
    from wherry.cli.platform import encode_platform

    path = arguments.text("output")
    if not path and is_terminal(1):
        raise CommandFailed("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    check_output_path(path, "failed to save image: ")
    response = session.client.images.save(
        arguments.positional, platform=encode_platform(arguments.text("platform"))
    )
    save_to(path, response.chunks())
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] IMAGE [IMAGE...]",
    aliases="image save, save",
    options=OPTIONS,
    minimum=1,
)
