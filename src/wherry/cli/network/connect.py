"""wherry network connect."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("alias", "", "strings", "", "Add network-scoped alias for the container"),
    ("driver-opt", "", "strings", "", "driver options for the network"),
    (
        "gw-priority",
        "",
        "int",
        "",
        "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
    ),
    ("ip", "", "string", "", 'IPv4 address (e.g., "172.30.100.104")'),
    ("ip6", "", "string", "", 'IPv6 address (e.g., "2001:db8::33")'),
    ("link", "", "list", "", "Add link to another container"),
    ("link-local-ip", "", "strings", "", "Add a link-local address for the container"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Puts a container on a network."""
    network, container = arguments.positional
    ipam: Document = {}
    if arguments.text("ip"):
        ipam["IPv4Address"] = arguments.text("ip")
    if arguments.text("ip6"):
        ipam["IPv6Address"] = arguments.text("ip6")
    if arguments.many("link-local-ip"):
        ipam["LinkLocalIPs"] = [*arguments.many("link-local-ip")]
    endpoint: Document = {
        "IPAMConfig": ipam,
        "Links": [*arguments.many("link")] or None,
        "Aliases": [*arguments.many("alias")] or None,
        "GwPriority": arguments.number("gw-priority"),
    }
    options: Document = {}
    for text in arguments.many("driver-opt"):
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise CommandFailed("invalid key/value pair format in driver options")
        options[name.strip().lower()] = value.strip()
    endpoint["DriverOpts"] = options or None
    session.client.networks.connect(network, container, endpoint)
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] NETWORK CONTAINER",
    options=OPTIONS,
    checks={"link": "check_link"},
    minimum=2,
    maximum=2,
)
