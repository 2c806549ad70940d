"""Of the whole suite: `--update-golden` writes golden files anew; what killed runs have left is removed."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.harness.traces import sweep

# How long an example takes says how busy the machine is.
settings.register_profile("wherry", deadline=None)
settings.load_profile("wherry")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Of earlier runs that were killed; once, and not again in each of xdist's workers."""
    if not hasattr(session.config, "workerinput"):
        sweep()


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))
