"""Query parameters in dockerd's forms."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from wherry.api.message import InvalidNumber, Query
from wherry.api.parameters import parse_filters, parse_terminal_size, parse_timestamp_ns
from wherry.model.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", {}),
        ("null", {}),
        ("{}", {}),
        ('{"label":["a=b","c"]}', {"label": ["a=b", "c"]}),
        ('{"status":{"running":true,"exited":true}}', {"status": ["running", "exited"]}),
        ('{"name":[]}', {"name": []}),
    ],
)
def test_filters_in_both_forms(text: str, filters: dict[str, list[str]]) -> None:
    assert parse_filters(Query("filters=" + quote(text))) == filters


@pytest.mark.parametrize("text", ["x", "[]", '{"a":1}', '{"a":[1]}', '{"a":{"b":2}}', '{"a"'])
def test_bad_filters(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid filter"):
        parse_filters(Query("filters=" + quote(text)))


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("", 0),
        ("0", 0),
        ("5", 5_000_000_000),
        ("5.25", 5_250_000_000),
        ("1.000000001", 1_000_000_001),
    ],
)
def test_timestamps(text: str, nanoseconds: int) -> None:
    assert parse_timestamp_ns(text) == nanoseconds


@pytest.mark.parametrize("text", ["abc", "1.x", "1e5", "٣"])
def test_bad_timestamps(text: str) -> None:
    with pytest.raises(InvalidNumber):
        parse_timestamp_ns(text)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("", False),
        ("a=", False),
        ("a=0", False),
        ("a=No", False),
        ("a=none", False),
        ("a=1", True),
        ("a=x", True),
    ],
)
def test_flags_are_read_as_dockerd_does(query: str, value: bool) -> None:
    assert Query(query).flag("a") is value


def test_the_first_value_counts() -> None:
    query = Query("a=1&a=2&b=%2Fx+y")
    assert (query.get("a"), query.get_all("a"), query.get("b")) == ("1", ["1", "2"], "/x y")


def test_terminal_size() -> None:
    assert parse_terminal_size(Query("h=10&w=20")) == (10, 20)
    with pytest.raises(InvalidArgument, match='invalid resize height "x": invalid syntax'):
        parse_terminal_size(Query("h=x&w=20"))
