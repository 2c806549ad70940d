"""Writing much to descriptors, without the libraries that compress: the engine imports this, too."""

from __future__ import annotations

import os
from collections.abc import Callable

_GATHER = 1 << 18


class Buffered:
    """Gathers small writes into large ones."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Takes bytes; passes them on now and then."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _GATHER:
            self.flush()

    def flush(self) -> None:
        """Passes on what is left."""
        if self._pieces:
            self._write(b"".join(self._pieces))
            self._pieces.clear()
            self._size = 0


def write_all(fd: int, data: bytes) -> None:
    """write(2) until all is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
