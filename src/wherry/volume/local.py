"""The `local` volume driver: a directory under ROOT/volumes/<name>/_data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


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

    def delete(self, name: str) -> None:
        """Removes the volume's tree; idempotent. Raises OSError."""
        doomed = self.root / name
        if doomed.is_dir():
            shutil.rmtree(doomed)

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
