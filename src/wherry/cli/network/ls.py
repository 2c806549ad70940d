"""wherry network ls."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.formats import (
    FORMAT_HELP,
    join_labels,
    label_of,
    natural_key,
    read_filters,
    short_id,
)
from wherry.cli.table import Columns, show
from wherry.client.document import flag_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("filter", "f", "filter", "", 'Provide filter values (e.g. "driver=bridge")'),
    ("format", "", "string", "", FORMAT_HELP),
    ("no-trunc", "", "bool", "", "Do not truncate the output"),
    ("quiet", "q", "bool", "", "Only display network IDs"),
)
DEFAULT = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"


def run(session: Session, arguments: Arguments) -> int:
    """Lists networks."""
    truncate = not arguments.flag("no-trunc")
    columns = Columns(
        "*network.networkContext",
        {
            "CreatedAt": lambda n: _created_at(text_of(n, "Created")),
            "Driver": lambda n: text_of(n, "Driver"),
            "ID": lambda n: short_id(text_of(n, "Id"), truncate=truncate),
            "IPv4": lambda n: _word(flag_of(n, "EnableIPv4")),
            "IPv6": lambda n: _word(flag_of(n, "EnableIPv6")),
            "Internal": lambda n: _word(flag_of(n, "Internal")),
            "Labels": lambda n: join_labels(n.get("Labels")),
            "Name": lambda n: text_of(n, "Name"),
            "Scope": lambda n: text_of(n, "Scope"),
        },
        {
            "ID": "NETWORK ID",
            "Name": "NAME",
            "Driver": "DRIVER",
            "Scope": "SCOPE",
            "IPv4": "IPV4",
            "IPv6": "IPV6",
            "Internal": "INTERNAL",
            "Labels": "LABELS",
            "CreatedAt": "CREATED AT",
        },
        methods={"Label": label_of},
    )
    networks = session.client.networks.list_all(read_filters(arguments))
    networks.sort(key=lambda network: natural_key(text_of(network, "Name")))
    layout = arguments.text("format")
    if not layout and not arguments.flag("quiet") and session.has_config:
        layout = session.config.text("networksFormat")
    if arguments.flag("quiet") and layout in {"", "table"}:
        layout = "{{.ID}}"
    show(columns, networks, layout, default=DEFAULT)
    return 0


def _word(value: bool) -> str:  # noqa: FBT001 - a converter of one value
    return "true" if value else "false"


def _created_at(text: str) -> str:
    """`2026-11-24T04:13:11.98Z` as Go prints a time."""
    day, _, rest = text.partition("T")
    if not rest:
        return text
    if rest.endswith("Z"):
        return f"{day} {rest[:-1]} +0000 UTC"
    offset = rest[-6:].replace(":", "")
    return f"{day} {rest[:-6]} {offset} {offset}"


VERB = Verb(
    run,
    usage="[OPTIONS]",
    aliases="network ls, network list",
    options=OPTIONS,
    maximum=0,
)
