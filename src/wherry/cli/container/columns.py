"""The columns of containers in tables and templates."""

from __future__ import annotations

from wherry.cli.formats import (
    ellipsis,
    go_time,
    join_labels,
    label_of,
    short_id,
    since,
)
from wherry.cli.gofmt import quote_go
from wherry.cli.table import Columns
from wherry.cli.units import human_size
from wherry.client.document import documents_of, mapping_of, number_of, strings_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.document import Document

HEADERS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
DEFAULT = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
RAW = (
    "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n"
    "state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n"
    "labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
)
COMMAND_WIDTH = 20
MOUNT_WIDTH = 15


def container_columns(*, truncate: bool) -> Columns:
    """The columns; long values are cut if `truncate`."""
    return Columns(
        "*formatter.ContainerContext",
        {
            "Command": lambda c: _command(c, truncate=truncate),
            "CreatedAt": lambda c: go_time(number_of(c, "Created")),
            "ID": lambda c: short_id(text_of(c, "Id"), truncate=truncate),
            "Image": lambda c: _image(c, truncate=truncate),
            "Labels": lambda c: join_labels(c.get("Labels")),
            "LocalVolumes": lambda c: str(
                sum(text_of(mount, "Driver") == "local" for mount in documents_of(c, "Mounts"))
            ),
            "Mounts": lambda c: _mounts(c, truncate=truncate),
            "Names": lambda c: _names(c, truncate=truncate),
            "Networks": lambda c: ",".join(
                mapping_of(mapping_of(c, "NetworkSettings"), "Networks")
            ),
            "Platform": lambda c: c.get("ImageManifestDescriptor") and _platform(c),
            "Ports": lambda c: show_ports(documents_of(c, "Ports")),
            "RunningFor": lambda c: since(number_of(c, "Created")),
            "Size": _size,
            "State": lambda c: text_of(c, "State"),
            "Status": lambda c: text_of(c, "Status"),
        },
        HEADERS,
        methods={"Label": label_of},
    )


def _command(container: Document, *, truncate: bool) -> str:
    command = text_of(container, "Command")
    return quote_go(ellipsis(command, COMMAND_WIDTH) if truncate else command)


def _names(container: Document, *, truncate: bool) -> str:
    names = [name.removeprefix("/") for name in strings_of(container, "Names")]
    if truncate:
        # The other names are those of links.
        for name in names:
            if "/" not in name:
                return name
    return ",".join(names)


def _image(container: Document, *, truncate: bool) -> str:
    image = text_of(container, "Image")
    if not image:
        return "<no image>"
    if not truncate:
        return image
    identity = short_id(text_of(container, "ImageID"))
    if identity == short_id(image):
        return identity
    return image.partition("@")[0] if "@" in image else image


def _mounts(container: Document, *, truncate: bool) -> str:
    names = [
        text_of(mount, "Name") or text_of(mount, "Source")
        for mount in documents_of(container, "Mounts")
    ]
    return ",".join(ellipsis(name, MOUNT_WIDTH) if truncate else name for name in names)


def _platform(container: Document) -> object:
    platform = mapping_of(mapping_of(container, "ImageManifestDescriptor"), "platform")
    return dict(platform) or None


def _size(container: Document) -> str:
    written = human_size(number_of(container, "SizeRw"), 3)
    whole = number_of(container, "SizeRootFs")
    return f"{written} (virtual {human_size(whole, 3)})" if whole > 0 else written


def show_ports(ports: list[Document]) -> str:
    """`0.0.0.0:8080->80/tcp, 443/tcp`, neighbouring ports as ranges."""
    ordered = sorted(
        ports,
        key=lambda port: (
            number_of(port, "PrivatePort"),
            text_of(port, "IP"),
            number_of(port, "PublicPort"),
            text_of(port, "Type"),
        ),
    )
    groups: dict[tuple[str, str], list[int]] = {}
    shown: list[str] = []
    mappings: list[str] = []
    for port in ordered:
        private, public = number_of(port, "PrivatePort"), number_of(port, "PublicPort")
        address, protocol = text_of(port, "IP"), text_of(port, "Type")
        if address and public != private:
            mappings.append(f"{_host(address)}:{public}->{private}/{protocol}")
            continue
        key = (address, protocol)
        group = groups.get(key)
        if group is None:
            groups[key] = [private, private]
        elif private == group[1] + 1:
            group[1] = private
        else:
            shown.append(_range(key, group))
            groups[key] = [private, private]
    shown += [_range(key, group) for key, group in groups.items()]
    return ", ".join(shown + mappings)


def _range(key: tuple[str, str], group: list[int]) -> str:
    address, protocol = key
    ports = str(group[0]) if group[0] == group[1] else f"{group[0]}-{group[1]}"
    if address:
        return f"{_host(address)}:{ports}->{ports}/{protocol}"
    return f"{ports}/{protocol}"


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
