"""wherry builder du: the records of the build cache."""

from __future__ import annotations

from wherry.cli.builder.columns import PARENTS, cache_columns, sort_cache
from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.formats import FORMAT_HELP, read_filters, since
from wherry.cli.output import write_out
from wherry.cli.table import show
from wherry.cli.timestamps import to_timestamp
from wherry.cli.units import human_size
from wherry.client.document import flag_of, number_of, strings_of, text_of
from wherry.lib.fieldfilter import FieldFilter
from wherry.lib.pattern import PatternError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document
    from wherry.lib.fieldfilter import Fields

OPTIONS = (
    (
        "filter",
        "",
        "filter",
        "",
        'Provide filter values (e.g. "type=regular", "description~=COPY")',
    ),
    ("format", "", "string", "", FORMAT_HELP),
    ("no-trunc", "", "bool", "", "Don't truncate output"),
    ("verbose", "", "bool", "", "Show all that is known of each record"),
)
DEFAULT = "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}\t{{.Description}}"


def run(session: Session, arguments: Arguments) -> int:
    """Lists the build cache, and what of it can be reclaimed."""
    records = _find(session, read_filters(arguments))
    layout = arguments.text("format")
    if arguments.flag("verbose") and not layout:
        for record in records:
            write_out(_describe(record))
    else:
        show(
            cache_columns(truncate=not arguments.flag("no-trunc")),
            records,
            layout,
            default=DEFAULT,
        )
    if layout in {"", "table"}:
        shared = sum(number_of(item, "Size") for item in records if flag_of(item, "Shared"))
        total = sum(number_of(item, "Size") for item in records)
        used = sum(number_of(item, "Size") for item in records if flag_of(item, "InUse"))
        write_out(
            f"\nShared:\t\t{human_size(shared)}\nPrivate:\t{human_size(total - shared)}\n"
            f"Reclaimable:\t{human_size(total - used)}\nTotal:\t\t{human_size(total)}\n"
        )
    return 0


def _find(session: Session, asked: dict[str, list[str]]) -> list[Document]:
    try:
        filters = [
            FieldFilter("id~" if name == "id" else name, values) for name, values in asked.items()
        ]
        return [
            record
            for record in sort_cache(session.client.builder.usage())
            if all(wanted.fits(_fields_of(record)) for wanted in filters)
        ]
    except PatternError as exc:
        raise CommandFailed(f"invalid pattern in a filter: {exc}") from exc


def _fields_of(record: Document) -> Fields:
    shared = flag_of(record, "Shared")
    return {
        "id": text_of(record, "ID"),
        "parents": ";".join(strings_of(record, PARENTS)) or None,
        "type": text_of(record, "Type"),
        "description": text_of(record, "Description") or None,
        "inuse": "" if flag_of(record, "InUse") else None,
        "shared": "" if shared else None,
        "private": None if shared else "",
    }


def _describe(record: Document) -> str:
    """As `docker buildx du --verbose`."""
    parents = strings_of(record, PARENTS)
    used = text_of(record, "LastUsedAt")
    rows = [
        ("ID", text_of(record, "ID")),
        ("Parents", "" if not parents else "\n" + "\n".join(f" - {name}" for name in parents)),
        ("Created at", text_of(record, "CreatedAt")),
        ("Reclaimable", "false" if flag_of(record, "InUse") else "true"),
        ("Shared", "true" if flag_of(record, "Shared") else "false"),
        ("Size", human_size(number_of(record, "Size"))),
        ("Description", text_of(record, "Description")),
        ("Usage count", str(number_of(record, "UsageCount"))),
        ("Last used", since(float(to_timestamp(used))) if used else ""),
        ("Type", text_of(record, "Type")),
    ]
    lines = [
        f"{name}:{text}" if text.startswith("\n") else f"{name + ':':<14}{text}"
        for name, text in rows
        if text
    ]
    return "\n".join(lines) + "\n\n"


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
