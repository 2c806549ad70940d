"""wherry network create."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.flags import parse_pairs
from wherry.cli.output import line_error, line_out
from wherry.client.document import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document, Json

OPTIONS = (
    ("attachable", "", "bool", "", "Enable manual container attachment"),
    (
        "aux-address",
        "",
        "map",
        "map[]",
        "Auxiliary IPv4 or IPv6 addresses used by Network driver",
    ),
    ("config-from", "", "string", "", "The network from which to copy the configuration"),
    ("config-only", "", "bool", "", "Create a configuration only network"),
    ("driver", "d", "string", '"bridge"', "Driver to manage the Network"),
    ("gateway", "", "strings", "", "IPv4 or IPv6 Gateway for the master subnet"),
    ("ingress", "", "bool", "", "Create swarm routing-mesh network"),
    ("internal", "", "bool", "", "Restrict external access to the network"),
    ("ip-range", "", "strings", "", "Allocate container ip from a sub-range"),
    ("ipam-driver", "", "string", '"default"', "IP Address Management Driver"),
    ("ipam-opt", "", "map", "map[]", "Set IPAM driver specific options"),
    ("ipv4", "", "bool", "true", "Enable or disable IPv4 address assignment"),
    ("ipv6", "", "bool", "", "Enable or disable IPv6 address assignment"),
    ("label", "", "list", "", "Set metadata on a network"),
    ("opt", "o", "map", "map[]", "Set driver specific options"),
    ("scope", "", "string", "", "Control the network's scope"),
    (
        "subnet",
        "",
        "strings",
        "",
        "Subnet in CIDR format that represents a network segment",
    ),
)


def run(session: Session, arguments: Arguments) -> int:
    """Makes a network and prints its id."""
    options: dict[str, Json] = dict(parse_pairs(arguments.many("opt")))
    ipam_options: dict[str, Json] = dict(parse_pairs(arguments.many("ipam-opt")))
    labels: dict[str, Json] = dict(parse_pairs(arguments.many("label")))
    document: Document = {
        "Name": arguments.positional[0],
        "Driver": arguments.text("driver", "bridge"),
        "Scope": arguments.text("scope"),
        "IPAM": {
            "Driver": arguments.text("ipam-driver", "default"),
            "Options": ipam_options,
            "Config": [*build_pools(arguments)],
        },
        "Internal": arguments.flag("internal"),
        "Attachable": arguments.flag("attachable"),
        "Ingress": arguments.flag("ingress"),
        "ConfigOnly": arguments.flag("config-only"),
        "ConfigFrom": None,
        "Options": options,
        "Labels": labels,
    }
    for family in ("ipv4", "ipv6"):
        if family in arguments.changed:
            document[f"EnableIP{family[2:]}"] = arguments.flag(family)
    if arguments.text("config-from"):
        document["ConfigFrom"] = {"Network": arguments.text("config-from")}
    answer = session.client.networks.create(document)
    warning = text_of(answer, "Warning")
    if warning:
        line_error(f"WARNING: {warning}")
    line_out(text_of(answer, "Id"))
    return 0


def build_pools(arguments: Arguments) -> list[Document]:
    """Each subnet with the range, gateway and addresses that lie in it."""
    import ipaddress

    networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, Document]] = []
    subnets = arguments.many("subnet")
    ranges = arguments.many("ip-range")
    gateways = arguments.many("gateway")
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise CommandFailed("every ip-range or gateway must have a corresponding subnet")
    for subnet in subnets:
        try:
            network = ipaddress.ip_network(subnet, strict=False)
        except ValueError:
            # The engine says what is wrong with it.
            return [{"Subnet": text} for text in subnets]
        for other, _ in networks:
            if other.version == network.version and other.overlaps(network):
                raise CommandFailed("multiple overlapping subnet configuration is not supported")
        pool: Document = {"Subnet": subnet}
        networks.append((network, pool))

    def find(text: str, what: str) -> Document:
        try:
            address = ipaddress.ip_interface(text).ip
        except ValueError as exc:
            raise CommandFailed(f"invalid address: {text}") from exc
        for network, pool in networks:
            if address.version == network.version and address in network:
                return pool
        raise CommandFailed(f"no matching subnet for {what} {text}")

    for text in ranges:
        pool = find(text, "range")
        if "IPRange" in pool:
            raise CommandFailed(
                f"cannot configure multiple ranges ({text}, {pool['IPRange']}) on the same subnet ({pool['Subnet']})"
            )
        pool["IPRange"] = text
    for text in gateways:
        pool = find(text, "gateway")
        if "Gateway" in pool:
            raise CommandFailed(
                f"cannot configure multiple gateways ({text}, {pool['Gateway']}) for the same subnet ({pool['Subnet']})"
            )
        pool["Gateway"] = text
    for name, text in parse_pairs(arguments.many("aux-address")).items():
        pool = find(text, "aux-address")
        addresses = pool.setdefault("AuxiliaryAddresses", {})
        if isinstance(addresses, dict):
            addresses[name] = text
    return [pool for _, pool in networks]


VERB = Verb(
    run,
    usage="[OPTIONS] NETWORK",
    options=OPTIONS,
    checks={"label": "check_label"},
    minimum=1,
    maximum=1,
)
