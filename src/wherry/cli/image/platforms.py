"""wherry images --tree: every image with the platforms that are here."""

from __future__ import annotations

from wherry.cli.output import line_error, write_out
from wherry.cli.table import align
from wherry.cli.units import human_size
from wherry.client.document import (
    documents_of,
    flag_of,
    mapping_of,
    number_of,
    strings_of,
    text_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wherry.cli.session import Session
    from wherry.client.document import Document

NONE = "<untagged>"


def show_platforms(session: Session, filters: Mapping[str, Sequence[str]], *, all_: bool) -> None:
    """Shows the tree."""
    line_error(
        "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."
    )
    images = session.client.images.list_all(all_=all_, manifests=True, filters=filters)
    images.sort(key=lambda image: -number_of(image, "Created"))
    rows = ["IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tUSED"]
    for image in images:
        rows += _rows(image)
    write_out(align("\n".join(rows)) + "\n")


def _rows(image: Document) -> list[str]:
    names = strings_of(image, "RepoTags") or [NONE]
    manifests = [
        manifest
        for manifest in documents_of(image, "Manifests")
        if text_of(manifest, "Kind") in {"", "image"}
    ]
    content = sum(number_of(mapping_of(manifest, "Size"), "Content") for manifest in manifests)
    used = "yes" if number_of(image, "Containers") > 0 else ""
    rows = [f"{name}\t\t\t\t" for name in names[:-1]]
    rows.append(
        f"{names[-1]}\t{text_of(image, 'Id').removeprefix('sha256:')[:12]}"
        f"\t{human_size(number_of(image, 'Size'), 3)}\t{human_size(content, 3)}\t{used}"
    )
    for at, manifest in enumerate(manifests):
        branch = "└─" if at == len(manifests) - 1 else "├─"
        size = mapping_of(manifest, "Size")
        here = "" if flag_of(manifest, "Available") else " (not here)"
        rows.append(
            f"{branch} {_platform(manifest)}{here}"
            f"\t{text_of(manifest, 'ID').removeprefix('sha256:')[:12]}"
            f"\t{human_size(number_of(size, 'Total'), 3)}"
            f"\t{human_size(number_of(size, 'Content'), 3)}\t"
        )
    return rows


def _platform(manifest: Document) -> str:
    platform = mapping_of(mapping_of(manifest, "ImageData"), "Platform")
    if not platform:
        platform = mapping_of(mapping_of(manifest, "Descriptor"), "platform")
    parts = [text_of(platform, key) for key in ("os", "architecture", "variant")]
    return "/".join(part for part in parts if part) or "unknown"
