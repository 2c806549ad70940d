"""One `Machine` per test, and a check that nothing is left when it is closed."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import open_descriptors
from tests.runtime.bundle import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    gc.collect()  # what other tests left would else be closed in between
    before = open_descriptors()
    made = Machine(tmp_path)
    yield made
    made.close()
    assert open_descriptors() == before
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
