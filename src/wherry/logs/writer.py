"""The json-file on disk: appends whole records, rotates by size, survives a full disk.

Knows files and sizes, and of records only that each ends with a newline. Rotation is Docker's: a file that
has reached `max_size` is renamed to `.1` (and `.1` to `.2`, …) before the next record is written, at most
`max_file` files are kept, with one it is emptied. When the disk is full records are dropped, never cut: the
program goes on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections.abc import Callable

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_MODE = 0o640
_COPY_SIZE = 1 << 20


class LogWriter:
    """One open log. `warn` is called with a sentence when records begin to be dropped.

    While `compressing` is set the file grows beyond its size instead of being rotated: `compress` was
    called with the path of a rotated file, and who did it clears the mark when that is finished.
    """

    __slots__ = (
        "_compress",
        "_dropping",
        "_fd",
        "_max_file",
        "_max_size",
        "_path",
        "_size",
        "_warn",
        "compressing",
    )

    def __init__(
        self,
        path: str,
        *,
        max_size: int = 0,
        max_file: int = 1,
        compress: Callable[[str], None] | None = None,
        warn: Callable[[str], None],
    ) -> None:
        """Opens or creates the file. Raises OSError."""
        self.compressing = False
        self._path = path
        self._max_size = max_size
        self._max_file = max(1, max_file)
        self._compress = compress
        self._warn = warn
        self._dropping = False
        self._fd = _open(path)
        self._size = os.fstat(self._fd).st_size

    def write(self, records: bytes) -> None:
        """Appends whole records, with as many rotations as they need."""
        if not self._max_size:
            self._append(records)
            return
        start = 0
        while start < len(records):
            if self._size >= self._max_size and not self.compressing:
                self._rotate()
            # The record that reaches the limit still belongs to this file.
            room = self._max_size - self._size
            end = records.find(b"\n", start + room - 1) + 1 if room > 0 else 0
            end = end or len(records)
            self._append(records[start:end])
            start = end

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)

    def _append(self, records: bytes) -> None:
        view = memoryview(records)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            if not self._dropping:
                self._dropping = True
                self._warn(f"log output is lost: write {self._path}: {error.strerror}")
            self._size += records.rfind(b"\n", 0, len(records) - len(view)) + 1
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            return
        self._dropping = False
        self._size += len(records)

    def _rotate(self) -> None:
        try:
            self._move_files()
        except OSError as error:
            if not self._dropping:
                self._dropping = True
                self._warn(f"rotate log {self._path}: {error.strerror}")

    def _move_files(self) -> None:
        path = self._path
        if self._max_file == 1:
            os.ftruncate(self._fd, 0)
            self._size = 0
            return
        for suffix in ("", ".gz"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}.{self._max_file - 1}{suffix}")
            for number in range(self._max_file - 2, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{path}.{number}{suffix}", f"{path}.{number + 1}{suffix}")
        os.rename(path, f"{path}.1")
        new_fd = _open(path)
        os.close(self._fd)
        self._fd = new_fd
        self._size = 0
        if self._compress is not None:
            self.compressing = True
            self._compress(f"{path}.1")


def compress_file(path: str) -> None:
    """Replaces the file by `path`.gz. Long: for a process with nothing else to do."""
    temporary = f"{path}.tmp"
    packer = zlib.compressobj(level=6, wbits=31)
    with open(path, "rb") as source, open(temporary, "wb") as target:
        os.fchmod(target.fileno(), _MODE)
        while chunk := source.read(_COPY_SIZE):
            target.write(packer.compress(chunk))
        target.write(packer.flush())
    os.rename(temporary, f"{path}.gz")
    os.unlink(path)


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
