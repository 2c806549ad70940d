"""Of the whole suite: `--update-golden` writes golden files anew; what killed runs have left is removed; a test
that leaves something open fails.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from tests.harness.processes import children, open_descriptors
from tests.harness.traces import sweep

# How long an example takes, to make or to run, says how busy the machine is.
settings.register_profile("wherry", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wherry")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # once, and not again in each of xdist's workers
        sweep()
    uvloop.new_event_loop().close()  # from its first loop on libuv keeps a pipe


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    """Of the test's own: what fixtures of a wider scope keep was there before."""
    before = open_descriptors().items()
    yield
    assert open_descriptors().items() - before == set()


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    before = children()
    yield
    assert children() - before == set()
