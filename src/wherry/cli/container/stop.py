"""wherry stop."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.container.stopping import OPTIONS, stop_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session


def run(session: Session, arguments: Arguments) -> int:
    """Stops containers."""
    return stop_each(arguments, session.client.containers.stop)


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    aliases="container stop, stop",
    options=OPTIONS,
    minimum=1,
)
