"""Both layer drivers, through the one suite; and that they make the same tree."""

from __future__ import annotations

import pytest

from tests.suites.snapshot import SnapshotSuite


@pytest.mark.needs("mount", "erofs")
class TestErofs(SnapshotSuite):
    driver = "erofs"


@pytest.mark.needs("mount", "overlay")
class TestOverlay(SnapshotSuite):
    driver = "overlay2"
