"""ROOT on a file system that fills up: Docker's words, nothing half made, and work goes on when there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.support import Tar, make_image, mounted, open_images, stream
from wherry.image.layer.mount import unmount
from wherry.model.container import ContainerConfig
from wherry.model.errors import EngineError

pytestmark = pytest.mark.needs("mount", "overlay", "program:mkfs.ext4")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on 24 MB of ext4."""
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield folder
    finally:
        unmount(folder)


@pytest.mark.parametrize("driver", ["erofs", "overlay2"])
def test_a_layer_that_does_not_fit(small: Path, driver: str) -> None:
    with open_images(small, driver) as images:
        fits = asyncio.run(make_image(images, Tar().add("x", os.urandom(1 << 20))))
        before = sorted(images.content.digests())
        with pytest.raises(EngineError, match=r"(?i)no space left on device"):
            asyncio.run(make_image(images, Tar().add("x", os.urandom(40 << 20))))
        assert sorted(images.content.digests()) == before
        assert list((small / "root/tmp").iterdir()) == []
        mount = asyncio.run(images.create_snapshot(fits, "c"))
        with mounted(mount, small / "mounted") as root:
            (root / "new").write_bytes(os.urandom(1 << 20))
        asyncio.run(images.commit("c", config=ContainerConfig(cmd=("x",)), repository="made"))
        asyncio.run(images.remove_snapshot("c"))
        assert asyncio.run(images.check()) == []
        asyncio.run(images.close())


def test_an_archive_that_does_not_fit(small: Path) -> None:
    async def load(data: bytes) -> None:
        async for _ in images.load(stream(data)):
            pass

    with open_images(small) as images:
        with pytest.raises(EngineError, match=r"(?i)no space left on device"):
            asyncio.run(load(Tar().add("layer.tar", os.urandom(40 << 20)).bytes()))
        assert list((small / "root/tmp").iterdir()) == []
        asyncio.run(images.close())
