"""One `Machine` per test, and a check that nothing is left when it is closed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.bundle import Machine


def _descriptors() -> set[str]:
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    before = _descriptors()
    made = Machine(tmp_path)
    yield made
    made.close()
    assert _descriptors() == before
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
