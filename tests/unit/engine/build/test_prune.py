"""What `builder prune` takes: limits, filters, and what it leaves alone."""

from __future__ import annotations

import time

import pytest

from wherry.engine.build.prune import PruneOptions, choose
from wherry.engine.build.records import CacheItem
from wherry.engine.clock import format_time
from wherry.model.errors import InvalidArgument

HOUR_NS = 3600 * 10**9
NOW_NS = time.time_ns()
ITEMS = [
    CacheItem(
        key=name * 64,
        kind=kind,
        description=f"RUN {name}",
        parents=parents,
        in_use=name == "e",
        shared=name == "d",
        size_bytes=100,
        last_used=format_time(NOW_NS - hours * HOUR_NS),
        is_folder=kind == "exec.cachemount",
    )
    for name, kind, hours, parents in (
        ("a", "regular", 1, ()),
        ("b", "regular", 3, ("a" * 25,)),
        ("c", "exec.cachemount", 2, ()),
        ("d", "source.local", 9, ()),
        ("e", "regular", 9, ()),
    )
]


def chosen(options: PruneOptions) -> str:
    """The first letters of the keys, in the order in which they go; 1000 bytes are free."""
    return "".join(item.key[0] for item in choose(ITEMS, options, free_bytes=1000))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (PruneOptions(), "bca"),
        (PruneOptions(all_=True), "dbca"),
        # a, b, c and e count, 400 bytes; what an image has is not the cache's
        (PruneOptions(reserved=400), ""),
        (PruneOptions(reserved=399), "b"),
        (PruneOptions(max_used=250), "bc"),
        (PruneOptions(max_used=250, reserved=300), "b"),
        (PruneOptions(min_free=1000), ""),
        (PruneOptions(min_free=1150), "bc"),
        (PruneOptions(min_free=1150, reserved=350), "b"),
        (PruneOptions(min_free=500, max_used=350), "b"),
        (PruneOptions(filters={"until": ["90m"]}), "bc"),
        (PruneOptions(filters={"unused-for": ["2h30m"]}), "b"),
        (PruneOptions(filters={"type": ["exec.cachemount"]}), "c"),
        (PruneOptions(filters={"type!": ["exec.cachemount"]}), "ba"),
        (PruneOptions(filters={"id": ["a" * 12]}), "a"),
        (PruneOptions(filters={"parent": ["a" * 25]}), "b"),
        (PruneOptions(filters={"description": ["RUN b"]}), "b"),
        (PruneOptions(filters={"description": ["RUN"]}), ""),
        (PruneOptions(filters={"description~": ["RUN [ab]"]}), "ba"),
        (PruneOptions(filters={"shared": []}, all_=True), "d"),
        (PruneOptions(filters={"private": ["true"]}, all_=True), "bca"),
        (PruneOptions(filters={"inuse": []}), ""),
        (PruneOptions(filters={"inuse": ["zzz"]}), ""),
    ],
)
def test_what_goes(options: PruneOptions, expected: str) -> None:
    assert chosen(options) == expected


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        ({"foo": ["x"]}, "invalid filter 'foo'"),
        ({"type": ["x", "y"]}, "filters expect only one value"),
        ({"until": ["1h"], "unused-for": ["1h"]}, 'conflicting filters: "until" and "unused-for"'),
        ({"until": ["soon"]}, "\"until\" filter expects a duration (e.g., '24h') or a timestamp"),
        ({"id": ["("]}, "invalid pattern"),
    ],
)
def test_filters_that_cannot_be(filters: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(InvalidArgument) as failure:
        chosen(PruneOptions(filters=filters))
    assert str(failure.value).startswith("failed to prune build cache: ")
    assert sentence in str(failure.value)
