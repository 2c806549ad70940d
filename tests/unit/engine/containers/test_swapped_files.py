"""A running container swaps what a copy has just made, or is about to read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wherry.engine.containers.archive_worker import write_tree
from wherry.engine.containers.populate import _Copy
from wherry.image.layer.merged import open_stack
from wherry.kernel import syscalls


def test_a_new_file_that_becomes_a_link_to_the_host(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x")
    victim.chmod(0o600)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "name").symlink_to(victim)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="chmod"):
            syscalls.chmod_beneath(fd, "name", 0o4777)
    finally:
        os.close(fd)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_a_file_that_becomes_a_fifo_while_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("first")
    (tmp_path / "b").write_text("second")
    plain_stat = os.stat

    def swap(name, *, dir_fd=None, follow_symlinks=True):
        found = plain_stat(name, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if name == "a":
            os.unlink(tmp_path / "a")
            os.mkfifo(tmp_path / "a")
        return found

    monkeypatch.setattr(os, "stat", swap)
    written: list[bytes] = []
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        write_tree(root, "/.", written.append)
    finally:
        os.close(root)
    archive = b"".join(written)
    assert b"second" in archive
    assert b"first" not in archive


def test_a_file_that_becomes_a_fifo_before_it_is_diffed_or_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening it would let go on, or kill, whoever waits at its other end."""
    (tmp_path / "name").write_text("x")
    opened: list[tuple[object, int]] = []
    plain_open = os.open

    def note(path, flags, *words, **more):
        opened.append((path, flags))
        return plain_open(path, flags, *words, **more)

    with open_stack([str(tmp_path)]) as root:
        (entry,) = root.entries()
        (tmp_path / "name").unlink()
        os.mkfifo(tmp_path / "name")
        monkeypatch.setattr(os, "open", note)
        assert entry.open_file() is None
    assert [path for path, flags in opened if not flags & os.O_PATH] == []


def test_a_folder_of_a_volume_that_becomes_a_link_during_copy_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "file").write_text("of the host")
    image = tmp_path / "image"
    (image / "a").mkdir(parents=True)
    (image / "b").mkdir()
    (image / "a" / "file").write_text("of the image")
    os.link(image / "a" / "file", image / "b" / "file")
    volume = tmp_path / "volume"
    volume.mkdir()
    plain_listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda fd: sorted(plain_listdir(fd)))
    plain_mkdir = os.mkdir

    def replace(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if name == "b":
            (volume / "a" / "file").unlink()
            (volume / "a").rmdir()
            (volume / "a").symlink_to(host)
        plain_mkdir(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", replace)
    flags = os.O_RDONLY | os.O_DIRECTORY
    source, target = os.open(image, flags), os.open(volume, flags)
    try:
        with pytest.raises(OSError, match="openat2"):
            _Copy(target).folder(source, target, "")
    finally:
        os.close(source)
        os.close(target)
    assert (host / "file").stat().st_nlink == 1
