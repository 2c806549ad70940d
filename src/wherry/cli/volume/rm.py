"""wherry volume rm."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.each import for_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (("force", "f", "bool", "", "Force the removal of one or more volumes"),)


def run(session: Session, arguments: Arguments) -> int:
    """Removes volumes."""
    force = arguments.flag("force")
    volumes = session.client.volumes
    return for_each(arguments.positional, lambda name: volumes.remove(name, force=force))


VERB = Verb(
    run,
    usage="[OPTIONS] VOLUME [VOLUME...]",
    description="Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    aliases="volume rm, volume remove",
    options=OPTIONS,
    minimum=1,
)
