"""wherry logout."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.credentials import HUB, erase_account, server_key
from wherry.cli.errors import CommandFailed
from wherry.cli.output import line_error, line_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session


def run(session: Session, arguments: Arguments) -> int:
    """Forgets an account."""
    server = arguments.positional[0] if arguments.positional else ""
    server = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    key = server_key(server) if server else HUB
    line_out(f"Removing login credentials for {server or HUB}")
    try:
        erase_account(session, key)
    except CommandFailed as exc:
        line_error(f"WARNING: could not erase credentials:\n{key}: {exc}")
    return 0


VERB = Verb(
    run,
    usage="[SERVER]",
    description="Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    maximum=1,
)
