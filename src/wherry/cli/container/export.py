"""wherry export."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.output import is_terminal
from wherry.cli.save_to import check_output_path, save_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (("output", "o", "string", "", "Write to a file, instead of STDOUT"),)


def run(session: Session, arguments: Arguments) -> int:
    """Writes a container's file system as a tar archive."""
    path = arguments.text("output")
    if not path and is_terminal(1):
        raise CommandFailed("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    check_output_path(path, "failed to export container: ")
    response = session.client.containers.export(arguments.positional[0])
    save_to(path, response.chunks())
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER",
    aliases="container export, export",
    options=OPTIONS,
    minimum=1,
    maximum=1,
)
