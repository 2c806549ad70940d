"""What of the build cache a prune takes: BuildKit's rules, as dockerd gives them to the API.

Without `all` what an image has stays, since removing it frees nothing. Limits take the least recently used first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wherry.engine.build.records import CacheItem
from wherry.engine.clock import parse_time
from wherry.engine.filters import parse_moment
from wherry.lib.fieldfilter import FieldFilter, Fields, split_operator
from wherry.lib.pattern import PatternError
from wherry.model.errors import InvalidArgument

_FAILED = "failed to prune build cache: "
_AGES = ("until", "unused-for")
_FIELDS = frozenset(("id", "parent", "type", "description", "inuse", "shared", "private"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions:
    """One request. Sizes are bytes, 0 where nothing is asked for."""

    all_: bool = False
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reserved: int = 0
    max_used: int = 0
    min_free: int = 0

    @property
    def is_everything(self) -> bool:
        """Whether nothing is to stay."""
        return self.all_ and not (self.filters or self.reserved or self.max_used or self.min_free)


def choose(items: Sequence[CacheItem], options: PruneOptions, free_bytes: int) -> list[CacheItem]:
    """Those that are to go, in this order. Raises InvalidArgument."""
    try:
        return _choose(items, options, free_bytes)
    except PatternError as error:
        raise InvalidArgument(f"{_FAILED}invalid pattern: {error}") from error


def _choose(items: Sequence[CacheItem], options: PruneOptions, free_bytes: int) -> list[CacheItem]:
    limit_ns = _check(options.filters)
    filters = [
        # dockerd takes an id for a pattern.
        FieldFilter("id~" if name == "id" else name, values)
        for name, values in options.filters.items()
        if name not in _AGES
    ]
    total = sum(item.size_bytes for item in items if not item.shared)
    keep = _bytes_to_keep(total, options, free_bytes)
    chosen: list[CacheItem] = []
    for item in sorted(items, key=lambda item: (item.last_used, item.use_count)):
        if keep is not None and total <= keep:
            break
        if item.in_use or (item.shared and not options.all_):
            continue
        if limit_ns and parse_time(item.last_used) > limit_ns:
            continue
        fields = _fields_of(item)
        if not all(wanted.fits(fields) for wanted in filters):
            continue
        chosen.append(item)
        total -= 0 if item.shared else item.size_bytes
    return chosen


def _bytes_to_keep(total: int, options: PruneOptions, free_bytes: int) -> int | None:
    """None when there is no limit."""
    if not (options.reserved or options.max_used or options.min_free):
        return None
    keep = options.max_used or (total if options.min_free else 0)
    lacking = options.min_free - free_bytes
    if lacking > 0:
        keep = min(keep, total - lacking)
    return max(keep, options.reserved)


def _check(filters: Mapping[str, Sequence[str]]) -> int:
    """The time that `until` means in nanoseconds, 0 when it is absent."""
    limits: list[int] = []
    for name, values in filters.items():
        if name not in _AGES and split_operator(name)[0] not in _FIELDS:
            raise InvalidArgument(f"{_FAILED}invalid filter '{name}'")
        if len(values) > 1:
            raise InvalidArgument(f"{_FAILED}filters expect only one value")
        if name not in _AGES or not values:
            continue
        try:
            limits.append(parse_moment(values[0]))
        except InvalidArgument as error:
            raise InvalidArgument(
                f"{_FAILED}\"until\" filter expects a duration (e.g., '24h') or a timestamp: {error}"
            ) from error
    if len(limits) > 1:
        raise InvalidArgument(f'{_FAILED}conflicting filters: "until" and "unused-for"')
    return min(limits[0], time.time_ns()) if limits else 0


def _fields_of(item: CacheItem) -> Fields:
    return {
        "id": item.id,
        "parent": ";".join(item.parents) or None,
        "type": item.kind,
        "description": item.description or None,
        "inuse": "" if item.in_use else None,
        "shared": "" if item.shared else None,
        "private": None if item.shared else "",
    }
