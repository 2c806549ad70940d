"""Filters of networks and volumes."""

from __future__ import annotations

import time

import pytest

from wherry.api.matching import (
    match_networks,
    match_pruned_networks,
    match_pruned_volumes,
    match_volumes,
)
from wherry.engine.filters import Filters, parse_until
from wherry.model.errors import InvalidArgument
from wherry.model.network import Network, NetworkId
from wherry.model.volume import Volume

BRIDGE = Network(
    id=NetworkId("aa11"), name="bridge", created="2026-01-01T00:00:00.5Z", predefined=True
)
OWN = Network(
    id=NetworkId("bb22"), name="own", created="2026-01-01T00:00:00.123456789Z", labels={"a": "b"}
)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["bridge", "own"]),
        ({"name": ["w"]}, ["own"]),
        ({"id": ["aa", "bb"]}, ["bridge", "own"]),
        ({"id": ["a1"]}, []),
        ({"type": ["custom"]}, ["own"]),
        ({"type": ["builtin"]}, ["bridge"]),
        ({"driver": ["host"]}, []),
        ({"scope": ["local"]}, ["bridge", "own"]),
        ({"label": ["a"]}, ["own"]),
        ({"label": ["a=c"]}, []),
        ({"dangling": ["true"]}, ["own"]),
        ({"dangling": ["false"]}, ["bridge"]),
    ],
)
def test_networks(filters: Filters, names: list[str]) -> None:
    matches = match_networks(filters, lambda _: False)
    assert [network.name for network in (BRIDGE, OWN) if matches(network)] == names


@pytest.mark.parametrize(
    "filters",
    [{"foo": ["x"]}, {"type": ["x"]}, {"dangling": ["x"]}, {"dangling": ["true", "false"]}],
)
def test_bad_network_filters(filters: Filters) -> None:
    with pytest.raises(InvalidArgument):
        match_networks(filters, lambda _: False)


def test_until_excludes_what_is_younger() -> None:
    assert match_pruned_networks({"until": ["2026-01-02T00:00:00Z"]})(OWN)
    assert not match_pruned_networks({"until": ["2025-01-02T00:00:00Z"]})(OWN)
    assert not match_pruned_networks({"label!": ["a=b"]})(OWN)


@pytest.mark.parametrize("text", ["10m", "1h30m", "45s"])
def test_until_as_a_duration(text: str) -> None:
    age_ns = time.time_ns() - parse_until({"until": [text]})
    assert 0 < age_ns <= 5_400_500_000_000


@pytest.mark.parametrize("values", [["x"], ["1h", "2h"], [""]])
def test_bad_until(values: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        parse_until({"until": values})


def test_volumes() -> None:
    volume = Volume(name="data", mountpoint="/m", created_at="2026-01-01T00:00:00Z")
    users = {"data": {"c"}}
    find = lambda name: users.get(name, ())  # noqa: E731 - a stand-in for a method
    assert match_volumes({"name": ["at"]}, find)(volume)
    assert not match_volumes({"dangling": ["1"]}, find)(volume)
    assert match_volumes({"dangling": ["0"]}, find)(volume)
    matches, all_ = match_pruned_volumes({"all": ["true"], "label!": ["x"]})
    assert all_
    assert matches(volume)
