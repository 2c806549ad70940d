"""wherry network disconnect."""

from __future__ import annotations

from wherry.cli.command import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (("force", "f", "bool", "", "Force the container to disconnect from a network"),)


def run(session: Session, arguments: Arguments) -> int:
    """Takes a container off a network."""
    network, container = arguments.positional
    session.client.networks.disconnect(network, container, force=arguments.flag("force"))
    return 0


VERB = Verb(run, usage="[OPTIONS] NETWORK CONTAINER", options=OPTIONS, minimum=2, maximum=2)
