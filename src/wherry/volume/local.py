"""The `local` volume driver: a directory under ROOT/volumes/<name>/_data.

A removal that was begun is seen by `.removed-<name>`, which goes last (no volume's name begins with a dot).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Container
from pathlib import Path

_REMOVED = ".removed-"


class LocalVolumes:
    """Directories of named volumes. Blocking: call it off the event loop where trees may be large."""

    def __init__(self, root: Path) -> None:
        """`root` is ROOT/volumes."""
        self.root = root

    def mountpoint(self, name: str) -> Path:
        """Where a volume's files are."""
        return self.root / name / "_data"

    def make(self, name: str) -> Path:
        """Makes the directory; idempotent. Raises OSError."""
        self.root.mkdir(mode=0o701, parents=True, exist_ok=True)
        (self.root / name).mkdir(mode=0o701, exist_ok=True)
        path = self.mountpoint(name)
        path.mkdir(mode=0o755, exist_ok=True)
        return path

    def empty(self, name: str) -> None:
        """Takes the volume's tree away; idempotent. `forget` ends the removal. Raises OSError."""
        doomed, trash = self.root / name, self._trash(name)
        if doomed.is_dir():
            # What is there already was left by a removal that failed.
            trash.mkdir(mode=0o700, exist_ok=True)
            doomed.rename(trash / secrets.token_hex(8))
        if trash.is_dir():
            for path in trash.iterdir():
                shutil.rmtree(path)

    def forget(self, name: str) -> None:
        """The last step of a removal, when no record names the volume; idempotent. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self._trash(name).rmdir()

    def half_removed(self) -> list[str]:
        """Names of volumes whose removal was begun and not ended, and which were not made anew since."""
        return [
            path.name.removeprefix(_REMOVED)
            for path in self.root.glob(f"{_REMOVED}*")
            if not (self.root / path.name.removeprefix(_REMOVED)).exists()
        ]

    def remove_strays(self, known: Container[str]) -> None:
        """Removes folders that were made for a volume which was never recorded: empty ones."""
        for path in self.root.glob("[!.]*"):
            if path.name not in known:
                with contextlib.suppress(OSError):
                    self.mountpoint(path.name).rmdir()
                    path.rmdir()

    def _trash(self, name: str) -> Path:
        return self.root / f"{_REMOVED}{name}"

    def size(self, name: str) -> int:
        """Bytes in regular files, hard links counted once."""
        seen: set[tuple[int, int]] = set()
        total = 0
        for folder, _, files in os.walk(self.mountpoint(name)):
            for file in files:
                try:
                    status = os.lstat(os.path.join(folder, file))
                except OSError:
                    continue
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_size
        return total
