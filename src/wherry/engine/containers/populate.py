"""An empty volume takes what the image has at its place (Docker's copy-up), owners and modes included.

`needs_copy` looks through descriptors without following links and says yes when in doubt;
`populate_tree` runs in a worker, on a read-only mount of the image's layers that nobody else sees.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Sequence

from wherry.kernel import syscalls
from wherry.kernel.consts import RESOLVE
from wherry.lib.jsonvalue import JsonObject, get_str, get_strings
from wherry.lib.program import WorkerError, run_worker
from wherry.model.errors import FULL_DISK, Internal, InvalidArgument, Unavailable
from wherry.model.image import RootMount
from wherry.runtime.root import OverlayRoot, open_root

_CHUNK = 1 << 20
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def needs_copy(lowers: Sequence[str], destination: str, volume: str, subpath: str = "") -> bool:
    """Whether the volume, or the folder of it that is used, is empty and the image may have files at the
    destination. Blocking.
    """
    try:
        folder = _open_volume(volume, subpath)
    except OSError:  # what is not a folder of the volume is the start's to say
        return False
    try:
        if os.listdir(folder):
            return False
    finally:
        os.close(folder)
    relative = destination.strip("/") or "."
    for lower in lowers:
        try:
            root = os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return True
        try:
            fd = syscalls.openat2(
                root,
                os.fsencode(relative),
                os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,
                resolve=RESOLVE.IN_ROOT | RESOLVE.NO_SYMLINKS,
            )
        except FileNotFoundError:
            continue
        except OSError:
            return True
        finally:
            os.close(root)
        os.close(fd)
        return True
    return False


def _open_volume(volume: str, subpath: str) -> int:
    top = os.open(volume, _OPEN_FOLDER)
    if not subpath:
        return top
    try:
        return syscalls.openat2(
            top,
            os.fsencode(subpath),
            _OPEN_FOLDER,
            resolve=RESOLVE.BENEATH | RESOLVE.NO_MAGICLINKS,
        )
    finally:
        os.close(top)


async def populate_volume(
    root: RootMount, destination: str, volume: str, subpath: str = ""
) -> None:
    """Copies in a worker. Raises InvalidArgument when the image has no folder there but something else."""
    try:
        await run_worker(
            "wherry.engine.containers.populate:populate_tree",
            {
                "lowers": list(root.lowers),
                "destination": destination,
                "volume": volume,
                "subpath": subpath,
            },
        )
    except WorkerError as error:
        if error.errno == errno.ELOOP:
            raise InvalidArgument(
                f"evalSymlinksInScope: too many links in {destination}"
            ) from error
        if error.errno == errno.ENOTDIR:
            raise InvalidArgument(f"source {destination} is not directory") from error
        if error.errno in FULL_DISK:
            raise Unavailable(f"no space left on device: copy {destination}: {error}") from error
        raise Internal(f"copy {destination} of the image to its volume: {error}") from error


def populate_tree(arguments: JsonObject, report: object = None) -> None:
    """The worker's function."""
    del report
    overlay = OverlayRoot(get_strings(arguments, "lowers"))
    destination = get_str(arguments, "destination").strip("/") or "."
    root = open_root(overlay)
    try:
        source = syscalls.openat2(
            root, os.fsencode(destination), _OPEN_FOLDER, resolve=RESOLVE.IN_ROOT
        )
    except FileNotFoundError:
        return
    finally:
        os.close(root)
    target = _open_volume(get_str(arguments, "volume"), get_str(arguments, "subpath"))
    try:
        _Copy(target).folder(source, target, "")
    finally:
        os.close(source)
        os.close(target)


class _Copy:
    """One tree into an empty folder; hard links stay hard links."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._first_names: dict[tuple[int, int], str] = {}

    def folder(self, source: int, target: int, path: str) -> None:
        """Everything in the folder, then its own attributes."""
        for name in os.listdir(source):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            self._entry(source, target, name, status, f"{path}{name}")
        _copy_attributes(source, target, os.fstat(source))

    def _entry(
        self, source: int, target: int, name: str, status: os.stat_result, path: str
    ) -> None:
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            inner = os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=source)
            made = os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=target)
            try:
                self.folder(inner, made, f"{path}/")
            finally:
                os.close(inner)
                os.close(made)
            return
        if status.st_nlink > 1:
            first = self._first_names.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                self._link(first, target, name)
                return
        if stat.S_ISREG(status.st_mode):
            _copy_file(source, target, name, status)
        else:
            _copy_special(source, target, name, status)

    def _link(self, first: str, target: int, name: str) -> None:
        """Beneath the volume only: another container that has it may have made links of folders."""
        parent, _, base = first.rpartition("/")
        folder = syscalls.openat2(
            self._top,
            os.fsencode(parent or "."),
            os.O_PATH | os.O_DIRECTORY,
            resolve=RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS,
        )
        try:
            os.link(base, name, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(folder)


def _copy_file(source: int, target: int, name: str, status: os.stat_result) -> None:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    made = os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags
    with (
        open(os.open(name, os.O_RDONLY | flags, dir_fd=source), "rb") as reader,
        open(os.open(name, made, 0o600, dir_fd=target), "wb") as writer,
    ):
        shutil.copyfileobj(reader, writer, _CHUNK)
        writer.flush()
        _copy_attributes(reader.fileno(), writer.fileno(), status)


def _copy_special(source: int, target: int, name: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        syscalls.chmod_beneath(target, name, stat.S_IMODE(status.st_mode))


def _copy_attributes(source: int, target: int, status: os.stat_result) -> None:
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith("trusted.overlay."):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
