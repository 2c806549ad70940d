"""wherry rm."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.each import for_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("force", "f", "bool", "", "Force the removal of a running container (uses SIGKILL)"),
    ("link", "l", "bool", "", "Remove the specified link"),
    ("volumes", "v", "bool", "", "Remove anonymous volumes associated with the container"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Removes containers."""
    containers = session.client.containers
    return for_each(
        arguments.positional,
        lambda container: containers.remove(
            container.strip("/") or container,
            force=arguments.flag("force"),
            volumes=arguments.flag("volumes"),
            link=arguments.flag("link"),
        ),
        may_be_gone=arguments.flag("force"),
    )


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    aliases="container rm, container remove, rm",
    options=OPTIONS,
    minimum=1,
)
