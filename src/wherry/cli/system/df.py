"""wherry system df."""

from __future__ import annotations

from wherry.cli.builder.columns import cache_columns, sort_cache
from wherry.cli.command import Verb
from wherry.cli.container.columns import container_columns
from wherry.cli.formats import FORMAT_HELP
from wherry.cli.image.columns import NONE, image_columns
from wherry.cli.output import write_out
from wherry.cli.table import Columns, TableRow, parse_template, resolve_layout, run_template, show
from wherry.cli.units import human_size
from wherry.cli.volume.columns import volume_columns
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
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("format", "", "string", "", FORMAT_HELP),
    ("verbose", "v", "bool", "", "Show detailed information on space usage"),
)
IMAGES = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}"
CONTAINERS = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}"
VOLUMES = "{{.Name}}\t{{.Links}}\t{{.Size}}"
CACHE = "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}"
RUNNING = frozenset({"running", "paused", "restarting"})


def run(session: Session, arguments: Arguments) -> int:
    """Shows what images, containers, volumes and build cache take."""
    usage = session.client.system.disk_usage()
    layout = arguments.text("format")
    if arguments.flag("verbose"):
        if layout in {"", "table"}:
            _show_verbose(usage)
        else:
            _show_verbose_template(usage, layout)
        return 0
    columns = Columns(
        "*formatter.diskUsageImagesContext",
        {
            "Active": lambda d: text_of(d, "active"),
            "Reclaimable": lambda d: text_of(d, "reclaimable"),
            "Size": lambda d: human_size(number_of(d, "size")),
            "TotalCount": lambda d: text_of(d, "total"),
            "Type": lambda d: text_of(d, "type"),
        },
        {
            "Type": "TYPE",
            "TotalCount": "TOTAL",
            "Active": "ACTIVE",
            "Size": "SIZE",
            "Reclaimable": "RECLAIMABLE",
        },
    )
    rows = [_images(usage), _containers(usage), _volumes(usage), _cache(usage)]
    show(
        columns,
        rows,
        layout,
        default="{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
        raw="type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
    )
    return 0


def _row(kind: str, total: int, active: int, size: int, reclaimable: str) -> Document:
    return {
        "type": kind,
        "total": str(total),
        "active": str(active),
        "size": size,
        "reclaimable": reclaimable,
    }


def _share(part: int, whole: int) -> str:
    if whole > 0:
        return f"{human_size(part)} ({part * 100 // whole}%)"
    return human_size(part)


def _images(usage: Document) -> Document:
    images = documents_of(usage, "Images")
    total = number_of(usage, "LayersSize")
    used = [image for image in images if number_of(image, "Containers") > 0]
    taken = sum(
        number_of(image, "Size") - number_of(image, "SharedSize")
        for image in used
        if number_of(image, "Size") >= 0 and number_of(image, "SharedSize") >= 0
    )
    return _row("Images", len(images), len(used), total, _share(max(total - taken, 0), total))


def _containers(usage: Document) -> Document:
    containers = documents_of(usage, "Containers")
    active = [item for item in containers if text_of(item, "State") in RUNNING]
    total = sum(number_of(item, "SizeRw") for item in containers)
    idle = total - sum(number_of(item, "SizeRw") for item in active)
    return _row("Containers", len(containers), len(active), total, _share(idle, total))


def _volumes(usage: Document) -> Document:
    volumes = [mapping_of(volume, "UsageData") for volume in documents_of(usage, "Volumes")]
    total = sum(max(number_of(item, "Size"), 0) for item in volumes)
    idle = sum(
        max(number_of(item, "Size"), 0) for item in volumes if number_of(item, "RefCount") == 0
    )
    active = sum(number_of(item, "RefCount") > 0 for item in volumes)
    return _row("Local Volumes", len(volumes), active, total, _share(idle, total))


def _cache(usage: Document) -> Document:
    records = documents_of(usage, "BuildCache")
    total = sum(number_of(item, "Size") for item in records if not flag_of(item, "Shared"))
    active = [item for item in records if flag_of(item, "InUse")]
    taken = sum(number_of(item, "Size") for item in active if not flag_of(item, "Shared"))
    return _row("Build Cache", len(records), len(active), total, human_size(total - taken))


def _named_images(usage: Document) -> list[Document]:
    images = []
    for image in documents_of(usage, "Images"):
        tags = strings_of(image, "RepoTags")
        repository, _, tag = (tags[0] if tags else f"{NONE}:{NONE}").rpartition(":")
        images.append({**image, "repository": repository, "tag": tag, "digest": ""})
    return images


def _bare_containers(usage: Document) -> list[Document]:
    return [{**item, "SizeRootFs": 0} for item in documents_of(usage, "Containers")]


def _show_verbose(usage: Document) -> None:
    write_out("Images space usage:\n\n")
    show(image_columns(truncate=True), _named_images(usage), "", default=IMAGES)
    write_out("\nContainers space usage:\n\n")
    show(container_columns(truncate=True), _bare_containers(usage), "", default=CONTAINERS)
    write_out("\nLocal Volumes space usage:\n\n")
    show(volume_columns(), documents_of(usage, "Volumes"), "", default=VOLUMES)
    size = number_of(_cache(usage), "size")
    write_out(f"\nBuild cache usage: {human_size(size)}\n\n")
    show(
        cache_columns(truncate=True),
        sort_cache(documents_of(usage, "BuildCache")),
        "",
        default=CACHE,
    )


def _show_verbose_template(usage: Document, layout: str) -> None:
    template = parse_template(resolve_layout(layout, "")[0])
    groups = {
        "Images": (image_columns(truncate=False), _named_images(usage)),
        "Containers": (container_columns(truncate=False), _bare_containers(usage)),
        "Volumes": (volume_columns(), documents_of(usage, "Volumes")),
        "BuildCache": (
            cache_columns(truncate=False),
            sort_cache(documents_of(usage, "BuildCache")),
        ),
    }
    value = {
        name: [TableRow(columns, document) for document in documents]
        for name, (columns, documents) in groups.items()
    }
    write_out(run_template(template, value))


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
