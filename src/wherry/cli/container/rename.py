"""wherry rename."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session


def run(session: Session, arguments: Arguments) -> int:
    """Renames a container."""
    old, new = (name.strip() for name in arguments.positional)
    if not old or not new:
        raise CommandFailed("Error: Neither old nor new names may be empty")
    session.client.containers.rename(old, new)
    return 0


VERB = Verb(
    run, usage="CONTAINER NEW_NAME", aliases="container rename, rename", minimum=2, maximum=2
)
