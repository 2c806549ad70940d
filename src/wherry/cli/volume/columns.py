"""The columns of volumes in tables and templates."""

from __future__ import annotations

from wherry.cli.formats import join_labels, label_of
from wherry.cli.table import Columns
from wherry.cli.units import human_size
from wherry.client.document import mapping_of, number_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.document import Document

DEFAULT = "{{.Driver}}\t{{.Name}}"


def volume_columns() -> Columns:
    """The columns."""
    return Columns(
        "*formatter.volumeContext",
        {
            "Availability": lambda v: "N/A",  # noqa: ARG005 - no cluster volumes
            "Driver": lambda v: text_of(v, "Driver"),
            "Group": lambda v: "N/A",  # noqa: ARG005
            "Labels": lambda v: join_labels(v.get("Labels")),
            "Links": _links,
            "Mountpoint": lambda v: text_of(v, "Mountpoint"),
            "Name": lambda v: text_of(v, "Name"),
            "Scope": lambda v: text_of(v, "Scope"),
            "Size": _size,
            "Status": lambda v: "N/A",  # noqa: ARG005
        },
        {
            "Name": "VOLUME NAME",
            "Driver": "DRIVER",
            "Scope": "SCOPE",
            "Availability": "AVAILABILITY",
            "Mountpoint": "MOUNTPOINT",
            "Labels": "LABELS",
            "Links": "LINKS",
            "Size": "SIZE",
            "Group": "GROUP",
            "Status": "STATUS",
        },
        methods={"Label": label_of},
    )


def _links(volume: Document) -> str:
    usage = mapping_of(volume, "UsageData")
    return str(number_of(usage, "RefCount")) if usage else "N/A"


def _size(volume: Document) -> str:
    usage = mapping_of(volume, "UsageData")
    return human_size(number_of(usage, "Size")) if usage else "N/A"
