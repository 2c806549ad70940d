"""wherry pause."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.each import for_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = ()


def run(session: Session, arguments: Arguments) -> int:
    """Freezes containers."""
    return for_each(arguments.positional, session.client.containers.pause)


VERB = Verb(
    run,
    usage="CONTAINER [CONTAINER...]",
    aliases="container pause, pause",
    options=OPTIONS,
    minimum=1,
)
