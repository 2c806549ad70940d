"""wherry builder du: the records of the build cache."""

from __future__ import annotations

from wherry.cli.builder.columns import cache_columns, sort_cache
from wherry.cli.command import Verb
from wherry.cli.formats import FORMAT_HELP
from wherry.cli.output import write_out
from wherry.cli.table import show
from wherry.cli.units import human_size
from wherry.client.document import flag_of, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("format", "", "string", "", FORMAT_HELP),
    ("no-trunc", "", "bool", "", "Don't truncate output"),
)
DEFAULT = "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}\t{{.Description}}"


def run(session: Session, arguments: Arguments) -> int:
    """Lists the build cache, and what of it can be reclaimed."""
    records = sort_cache(session.client.builder.usage())
    layout = arguments.text("format")
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


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
