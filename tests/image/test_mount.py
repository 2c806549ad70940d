"""Mounting EROFS layers: both ways, what must never be mistaken for a layer, and the fallbacks."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.image.support import Tar, make_image, open_images
from wherry.image.content import BadContent
from wherry.image.layer.erofs import build_index
from wherry.image.layer.mount import (
    INDEX_NAME,
    TAR_NAME,
    find_mounter,
    mount_files,
    mount_loops,
    unmount,
)
from wherry.image.layer.tree import LayerTree
from wherry.kernel import syscalls
from wherry.kernel.mountinfo import read_mountinfo
from wherry.lib.tar.reader import TarReader

pytestmark = pytest.mark.needs("mount", "erofs")

CONTENT = os.urandom(5000)


def write_layer(folder: Path) -> tuple[Path, Path]:
    data = Tar().add("file", CONTENT).folder("d").symlink("d/l", "x").bytes()
    source = iter((data,))
    tree = LayerTree()
    for entry in TarReader(lambda _: next(source, b"")):
        tree.add(entry)
    tree.finish()
    index, tar = folder / INDEX_NAME, folder / TAR_NAME
    tar.write_bytes(data)
    index.write_bytes(build_index(tree, len(data)))
    return index, tar


@pytest.mark.parametrize("mounter", [mount_files, mount_loops])
def test_both_ways_show_the_layer(tmp_path: Path, mounter) -> None:
    index, tar = write_layer(tmp_path)
    target = tmp_path / "mounted"
    target.mkdir()
    mounter(index, tar, target)
    try:
        assert (target / "file").read_bytes() == CONTENT
        with pytest.raises(OSError, match="Read-only"):
            (target / "file").write_bytes(b"x")
    finally:
        unmount(target)
    unmount(target)
    assert os.listdir(target) == []


def test_the_files_may_be_deleted_while_mounted(tmp_path: Path) -> None:
    index, tar = write_layer(tmp_path)
    target = tmp_path / "mounted"
    target.mkdir()
    mount_files(index, tar, target)
    try:
        index.unlink()
        tar.unlink()
        assert (target / "file").read_bytes() == CONTENT
    finally:
        unmount(target)


def test_a_file_system_that_cannot_carry_index_files_falls_back(tmp_path: Path) -> None:
    syscalls.mount(b"tmpfs", os.fsencode(tmp_path), b"tmpfs", 0, b"size=8m")
    try:
        assert find_mounter(tmp_path) in {mount_loops, None}
    finally:
        unmount(tmp_path)


@pytest.mark.parametrize(
    ("version", "mounter"),
    [("", mount_files), ("6.12", mount_files), ("6.8", mount_loops), ("6.1", None)],
)
def test_older_kernels_walk_the_fallbacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, mounter
) -> None:
    monkeypatch.setenv("WHERRY_ASSUME_KERNEL", version)
    assert find_mounter(tmp_path) is mounter
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("version", ["6.1", "6.8"])
def test_the_service_on_an_older_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("WHERRY_ASSUME_KERNEL", version)
    with open_images(tmp_path) as images:
        assert images.driver == ("overlay2" if version == "6.1" else "erofs")
        image = asyncio.run(make_image(images, Tar().add("x", b"1")))
        assert (images.layers.tree(image.diff_ids[0]) / "x").read_bytes() == b"1"
        asyncio.run(images.close())
    assert not [m for m in read_mountinfo() if m.mount_point.startswith(str(tmp_path))]


@pytest.fixture
def this_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, whatever the run assumes: what the test is about is a newer kernel's."""
    monkeypatch.delenv("WHERRY_ASSUME_KERNEL", raising=False)


@pytest.mark.usefixtures("this_kernel")
def test_a_tar_that_is_not_the_layers_is_noticed(tmp_path: Path) -> None:
    with open_images(tmp_path, "erofs") as images:
        image = asyncio.run(make_image(images, Tar().add("x", b"1" * 1000)))
        folder = images.layers.folder / image.diff_ids[0][7:]
        (folder / TAR_NAME).unlink()
        (folder / TAR_NAME).write_bytes(Tar().add("x", b"2" * 1000).bytes())
        with pytest.raises(BadContent, match="do not belong together"):
            images.layers.tree(image.diff_ids[0])
        (folder / TAR_NAME).write_bytes(b"")
        with pytest.raises((BadContent, OSError)):
            images.layers.tree(image.diff_ids[0])
        asyncio.run(images.close())
    assert not [m for m in read_mountinfo() if m.mount_point.startswith(str(tmp_path))]


@pytest.mark.usefixtures("this_kernel")
def test_layers_are_mounted_once_and_found_again(tmp_path: Path) -> None:
    with open_images(tmp_path, "erofs") as images:
        image = asyncio.run(make_image(images, Tar().add("x", b"1")))
        for key in ("one", "two"):
            asyncio.run(images.create_snapshot(image, key))
        with open_images(tmp_path, "erofs") as again:
            again.root_mount("one")
        mounts = [m for m in read_mountinfo() if m.mount_point.startswith(str(tmp_path))]
        assert len(mounts) == 1
        for key in ("one", "two"):
            asyncio.run(images.remove_snapshot(key))
        asyncio.run(images.close())


@pytest.mark.usefixtures("this_kernel")
def test_layers_of_a_newer_kernel_are_unpacked_on_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_images(tmp_path, "erofs") as images:
        image = asyncio.run(make_image(images, Tar().add("x", b"1").folder("d", 0o700)))
        asyncio.run(images.create_snapshot(image, "c"))
        asyncio.run(images.close())
        images.layers.close_unused(())
    monkeypatch.setenv("WHERRY_ASSUME_KERNEL", "6.1")
    with open_images(tmp_path) as images:
        asyncio.run(images.start())
        tree = Path(images.root_mount("c").lowers[-1])
        assert (tree / "x").read_bytes() == b"1"
        assert (tree / "d").stat().st_mode & 0o777 == 0o700
        assert asyncio.run(images.check()) == []
        asyncio.run(images.close())
