"""wherry restart."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.container.stopping import OPTIONS, stop_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session


def run(session: Session, arguments: Arguments) -> int:
    """Restarts containers."""
    return stop_each(arguments, session.client.containers.restart)


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    aliases="container restart, restart",
    options=OPTIONS,
    minimum=1,
)
