"""Which containers may use a slot: only those whose limits the helper of a start would not feel."""

from __future__ import annotations

import pytest

from wherry.shim.slots import slot_class

PATH = "/docker/" + "a" * 64


@pytest.mark.parametrize(
    "resources",
    [
        {},
        {"memory": {"limit": 64 << 20, "swap": -1}},
        {"pids": {"limit": -1}},
        {"pids": {"limit": 100}},
        {"cpu": {"shares": 2, "quota": 50_000, "period": 100_000}},
        {"cpu": {"cpus": "0"}},
        {"devices": [{"allow": False, "access": "rwm"}]},
    ],
)
def test_served(resources: dict[str, object]) -> None:
    assert slot_class({"linux": {"resources": resources}}, PATH) == "/docker"


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"limit": 6 << 20}},
        {"memory": {"limit": -1, "swap": 32 << 20}},
        {"pids": {"limit": 1}},
        {"cpu": {"quota": 1000, "period": 100_000}},
        {"cpu": {"quota": 10_000}},
        {"cpu": {"realtimeRuntime": 950_000}},
        {"cpu": {"idle": 1}},
    ],
)
def test_not_served(resources: dict[str, object]) -> None:
    assert slot_class({"linux": {"resources": resources}}, PATH) is None


@pytest.mark.parametrize("path", ["/a", "", "/docker/", "a"])
def test_paths_without_a_parent(path: str) -> None:
    assert slot_class({}, path) is None


def test_the_parent_is_the_class() -> None:
    assert slot_class({}, "/a/b/c") == "/a/b"
