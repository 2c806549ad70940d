"""The json-file on disk: rotation as Docker's, and a disk that is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from wherry.logs.writer import LogWriter, compress_file

RECORD = b'{"log":"0123456789\\n"}\n'


def open_writer(path: Path, warnings: list[str], **options: int) -> LogWriter:
    return LogWriter(str(path), warn=warnings.append, **options)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_appends_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for count in (1, 2):
        writer = open_writer(path, [])
        writer.write(RECORD * count)
        writer.close()
    assert path.read_bytes() == RECORD * 3
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_rotation_does_not_depend_on_batches(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "log"
    writer = open_writer(path, [], max_size=len(RECORD) * 3 - 5, max_file=3)
    for _ in range(0, 100, batch):
        writer.write(RECORD * batch)
    writer.close()
    assert names(tmp_path) == ["log", "log.1", "log.2"]
    assert {(tmp_path / name).stat().st_size for name in ("log.1", "log.2")} == {len(RECORD) * 3}


def test_one_file_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = open_writer(path, [], max_size=len(RECORD) * 2, max_file=1)
    for _ in range(5):
        writer.write(RECORD)
    writer.close()
    assert names(tmp_path) == ["log"]
    assert path.read_bytes() == RECORD


def test_compressed_files_are_shifted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(
        str(path), max_size=len(RECORD), max_file=4, compress=compress_file, warn=pytest.fail
    )
    for _ in range(10):
        writer.write(RECORD)
        writer.compressing = False
    writer.close()
    assert names(tmp_path) == ["log", "log.1.gz", "log.2.gz", "log.3.gz"]


def test_no_rotation_while_a_file_is_compressed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    rotated: list[str] = []
    writer = LogWriter(
        str(path), max_size=len(RECORD), max_file=4, compress=rotated.append, warn=pytest.fail
    )
    for _ in range(4):
        writer.write(RECORD)
    writer.close()
    assert rotated == [f"{path}.1"]
    assert path.read_bytes() == RECORD * 3


def test_full_disk_drops_whole_records_and_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    warnings: list[str] = []
    writer = open_writer(path, warnings)
    writer.write(RECORD)
    write = os.write

    def write_some(fd: int, data: memoryview) -> int:
        if len(data) < len(RECORD):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:5])

    monkeypatch.setattr("os.write", write_some)
    writer.write(RECORD)
    writer.write(RECORD)
    monkeypatch.undo()
    assert path.read_bytes() == RECORD
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]
    writer.write(RECORD)
    writer.close()
    assert path.read_bytes() == RECORD * 2


def test_full_disk_keeps_the_records_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    writer = open_writer(path, [])
    write = os.write
    room = len(RECORD) * 2 + 5

    def write_until_full(fd: int, data: memoryview) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(fd, data[:room])
        room -= written
        return written

    monkeypatch.setattr("os.write", write_until_full)
    writer.write(RECORD * 5)
    monkeypatch.undo()
    assert path.read_bytes() == RECORD * 2
    writer.write(RECORD)
    writer.close()
    assert path.read_bytes() == RECORD * 3
