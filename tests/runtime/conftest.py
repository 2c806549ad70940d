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
    mounts = Path("/proc/self/mountinfo").read_text()
    before = _descriptors()
    made = Machine(tmp_path)
    yield made
    made.close()
    assert _descriptors() == before
    assert Path("/proc/self/mountinfo").read_text() == mounts
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
