"""Overlay's merged view of a stack of trees, computed by reading them: for export, diff and image trees.

A running container's upper directory is read beside its mount, which overlayfs allows, and never mounted
a second time, which it does not. The container may change it meanwhile: everything goes by descriptors
of directories, no symlink is followed, and what vanishes between two calls is left out.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from wherry.lib.regular import open_regular

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DEPTH = 20_000  # a path of one-letter names in a container can be deeper than Python's default
_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
_OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")


class Entry:
    """One name of a merged directory; `tree` is the index of the tree that has it."""

    __slots__ = ("_folder", "name", "status", "tree")

    def __init__(self, folder: Folder, name: bytes, status: os.stat_result, tree: int) -> None:
        self._folder = folder
        self.name = name
        self.status = status
        self.tree = tree

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def size(self) -> int:
        """The bytes of a regular file, else 0."""
        return self.status.st_size if stat.S_ISREG(self.status.st_mode) else 0

    @property
    def is_whiteout(self) -> bool:
        """Whether it only hides a name (`raw` directories list those too)."""
        return is_whiteout(self.status)

    def open_folder(self) -> Folder | None:
        """The merged directory below; None when it has just gone."""
        return self._folder.open_child(self.name, self.tree)

    def open_file(self) -> int | None:
        """A descriptor of a regular file; None when it has just gone or become something else."""
        try:
            return open_regular(self._folder.fds[self.tree], self.name)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise

    def read_link(self) -> bytes:
        """The target of a symlink; empty when it has just gone."""
        try:
            return os.readlink(self.name, dir_fd=self._folder.fds[self.tree])
        except OSError:
            return b""

    def xattrs(self) -> dict[bytes, bytes]:
        """Its extended attributes, without overlay's own."""
        path = b"/proc/self/fd/%d/%s" % (self._folder.fds[self.tree], self.name)
        try:
            names = os.listxattr(path, follow_symlinks=False)
            return {
                os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
                for name in names
                if not name.startswith(_OVERLAY_XATTRS)
            }
        except OSError as error:
            if error.errno in _GONE or error.errno in {errno.EOPNOTSUPP, errno.ENODATA}:
                return {}
            raise


class Folder:
    """One merged directory: a descriptor per tree that has it, None for the others, topmost first."""

    __slots__ = ("fds",)

    def __init__(self, fds: Sequence[int | None]) -> None:
        self.fds: dict[int, int] = {tree: fd for tree, fd in enumerate(fds) if fd is not None}

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its descriptors."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()

    def entries(self, *, raw: bool = False) -> list[Entry]:
        """What it holds, sorted by name; `raw` keeps whiteouts."""
        found: dict[bytes, Entry] = {}
        for tree, fd in self.fds.items():
            for name in map(os.fsencode, os.listdir(fd)):
                if name not in found:
                    status = _status(name, fd)
                    if status is not None:
                        found[name] = Entry(self, name, status, tree)
        kept = (entry for entry in found.values() if raw or not entry.is_whiteout)
        return sorted(kept, key=lambda entry: entry.name)

    def find(self, name: bytes) -> Entry | None:
        """One name of it."""
        for tree, fd in self.fds.items():
            status = _status(name, fd)
            if status is not None:
                return None if is_whiteout(status) else Entry(self, name, status, tree)
        return None

    def is_opaque(self) -> bool:
        """Whether its topmost tree hides what is below."""
        return any(_is_opaque(fd) for fd in list(self.fds.values())[:1])

    def open_child(self, name: bytes, first: int) -> Folder | None:
        """The merged directory `name`, from the tree `first` down."""
        opened: dict[int, int] = {}
        for tree, fd in self.fds.items():
            if tree < first:
                continue
            try:
                child = os.open(name, _FOLDER_FLAGS, dir_fd=fd)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                if error.errno == errno.ENOENT:
                    continue
                break  # a file or a whiteout hides what is below
            opened[tree] = child
            if _is_opaque(child):
                break
        if first not in opened:
            for fd in opened.values():
                os.close(fd)
            return None
        folder = Folder(())
        folder.fds = opened
        return folder


@contextmanager
def open_stack(trees: Sequence[str]) -> Iterator[Folder]:
    """The root of the merged view of trees, topmost first."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # one descriptor per level and tree
    sys.setrecursionlimit(_MAX_DEPTH)
    fds: list[int] = []
    try:
        for tree in trees:
            fds.append(os.open(tree, _FOLDER_FLAGS))  # noqa: PERF401 - what is open must be known on failure
        folder = Folder(fds)
        fds = []
        with folder:
            yield folder
    finally:
        for fd in fds:
            os.close(fd)


def is_whiteout(status: os.stat_result) -> bool:
    """Whether a file is overlay's mark for a deleted name."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _status(name: bytes, fd: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False
