"""What makes this process the one engine of its ROOT and RUN: folders, locks, PID file."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class Occupied(Exception):
    """Another engine uses the folder; the message is a sentence for the person at the terminal."""


class FolderLock:
    """An exclusive lock on a folder, held until the process ends. Its file names the holder."""

    def __init__(self, folder: Path) -> None:
        """Raises Occupied, OSError."""
        self._path = folder / "wherryd.lock"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip()
            os.close(self._fd)
            process = f" (process {holder})" if holder else ""
            raise Occupied(f"another engine{process} uses {folder}") from exc
        self._name_holder(f"{os.getpid()}\n".encode())

    def _name_holder(self, name: bytes) -> None:
        """In place, and not on a disk that is too full for it: the lock holds without."""
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, name, 0)
            os.ftruncate(self._fd, len(name))

    def close(self) -> None:
        """Gives the folder free."""
        os.close(self._fd)


def make_folders(root: Path, run: Path) -> None:
    """ROOT 0710 (secrets and other people's files), RUN 0711 (sockets are reached through it)."""
    for folder, mode in ((root, 0o710), (run, 0o711)):
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        folder.chmod(mode)


class PidFile:
    """The PID file; a write is atomic."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(f"{os.getpid()}\n")
        fresh.replace(path)

    def close(self) -> None:
        """Removes it unless another process has written its own."""
        with contextlib.suppress(OSError):
            if self._path.read_text().strip() == str(os.getpid()):
                self._path.unlink()
