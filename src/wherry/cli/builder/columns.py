"""The columns of build cache records."""

from __future__ import annotations

from wherry.cli.formats import SHORT_ID, since
from wherry.cli.table import Columns
from wherry.cli.timestamps import to_timestamp
from wherry.cli.units import human_size
from wherry.client.document import flag_of, number_of, strings_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.document import Document


PARENTS = " Parents"  # so the API has it


def cache_columns(*, truncate: bool) -> Columns:
    """The columns; ids are cut if `truncate`."""

    def identity(record: Document) -> str:
        text = text_of(record, "ID")
        text = text[:SHORT_ID] if truncate else text
        return f"{text}*" if flag_of(record, "InUse") else text

    return Columns(
        "*formatter.buildCacheContext",
        {
            "CacheType": lambda r: text_of(r, "Type"),
            "CreatedAt": lambda r: text_of(r, "CreatedAt"),
            "CreatedSince": lambda r: _since(text_of(r, "CreatedAt")),
            "Description": lambda r: text_of(r, "Description"),
            "ID": identity,
            "InUse": lambda r: "true" if flag_of(r, "InUse") else "false",
            "LastUsedAt": lambda r: text_of(r, "LastUsedAt"),
            "LastUsedSince": lambda r: _since(text_of(r, "LastUsedAt")),
            "Parent": lambda r: ", ".join(strings_of(r, PARENTS)),
            "Shared": lambda r: "true" if flag_of(r, "Shared") else "false",
            "Size": lambda r: human_size(number_of(r, "Size"), 3),
            "UsageCount": lambda r: str(number_of(r, "UsageCount")),
        },
        {
            "ID": "CACHE ID",
            "Parent": "PARENT",
            "CacheType": "CACHE TYPE",
            "Size": "SIZE",
            "CreatedSince": "CREATED",
            "LastUsedSince": "LAST USED",
            "UsageCount": "USAGE",
            "Shared": "SHARED",
            "Description": "DESCRIPTION",
            "InUse": "IN USE",
        },
    )


def sort_cache(records: list[Document]) -> list[Document]:
    """The records as Docker lists them: by last use, then by use."""
    return sorted(records, key=lambda r: (text_of(r, "LastUsedAt"), number_of(r, "UsageCount")))


def _since(moment: str) -> str:
    return since(float(to_timestamp(moment))) if moment else ""
