"""Where writable directories are: ROOT/containers, or memory where ROOT's file system cannot carry them.

overlayfs refuses an upper directory on another overlayfs (an engine inside a container), on NFS and on others
without whiteouts or attributes. What containers write is then on a tmpfs below RUN, and gone after a reboot.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from wherry.image.layer.mount import unmount
from wherry.kernel import syscalls
from wherry.kernel.consts import MS, OVERLAYFS_SUPER_MAGIC
from wherry.model.errors import FULL_DISK

logger = logging.getLogger(__name__)


class UpperSpace:
    """One folder per snapshot below `folder`."""

    def __init__(self, root: Path, run: Path) -> None:
        self._containers = self.folder = root / "containers"
        self.folder.mkdir(mode=0o710, exist_ok=True)
        self.is_in_memory = not can_carry_upper(root / "tmp")
        if not self.is_in_memory:
            return
        self.folder = run / "uppers"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.ismount(self.folder):
            logger.warning(
                "the file system of %s cannot carry overlayfs: what containers write is kept in memory",
                root,
            )
            syscalls.mount(
                b"wherry-uppers",
                os.fsencode(self.folder),
                b"tmpfs",
                MS.NOSUID | MS.NODEV,
                b"mode=700",
            )

    def place(self, key: str) -> Path:
        """The folder of a snapshot."""
        return self.folder / key

    def make(self, key: str) -> Path:
        """Makes the folder of a snapshot, and the one in ROOT in which the engine keeps its container's files."""
        for folder in (self._containers / key, self.place(key)):
            folder.mkdir(mode=0o710, exist_ok=True)
        return self.place(key)

    def remove(self, key: str) -> None:
        """Removes the folders of a snapshot as far as they are empty."""
        for folder in (self.place(key), self._containers / key):
            try:
                folder.rmdir()
            except OSError:
                pass  # the engine keeps a container's log and files there

    def close(self) -> None:
        """Gives the memory back when no snapshot has any of it."""
        if self.is_in_memory and not os.listdir(self.folder):
            unmount(self.folder)


def can_carry_upper(scratch: Path) -> bool:
    """Whether a directory here can be the upper one of an overlay; found by mounting one."""
    try:
        return _try_upper(scratch)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
    # The disk is full: the kind of file system has to do.
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return syscalls.fstatfs_type(fd) != OVERLAYFS_SUPER_MAGIC
    finally:
        os.close(fd)


def _try_upper(scratch: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=scratch, prefix="probe-") as name:
        folder = Path(name)
        for part in ("lower", "upper", "work", "mounted"):
            (folder / part).mkdir()
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        try:
            syscalls.mount(
                b"overlay", os.fsencode(folder / "mounted"), b"overlay", 0, os.fsencode(options)
            )
        except OSError:
            return False
        try:
            (folder / "mounted/file").touch()
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            return False
        finally:
            unmount(folder / "mounted")
    return True
