"""wherry kill."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.each import for_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (("signal", "s", "string", "", "Signal to send to the container"),)


def run(session: Session, arguments: Arguments) -> int:
    """Sends a signal to containers."""
    signal = arguments.text("signal")
    containers = session.client.containers
    return for_each(arguments.positional, lambda container: containers.kill(container, signal))


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    aliases="container kill, kill",
    options=OPTIONS,
    minimum=1,
)
