"""A registry per module, and an image service in memory per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.fake_images import FakeImages
from tests.harness.registry import RegistryServer, running_registry


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    with running_registry() as server:
        yield server


@pytest.fixture
def images(tmp_path: Path) -> FakeImages:
    return FakeImages(tmp_path / "images")
