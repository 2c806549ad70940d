"""Mounts EROFS layers: file-backed where the kernel can (6.12), through loop devices where it cannot.

A layer is mounted once per machine, since two mounts of one image do not share page cache. mount(8) is
not used: it would set up a loop device for the index and never find the tar.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from wherry.image.layer.erofs import build_index
from wherry.image.layer.tree import LayerTree
from wherry.kernel import syscalls
from wherry.kernel.consts import AT_FDCWD, FSCONFIG, MNT, MOUNT_ATTR, MOVE_MOUNT
from wherry.lib.tar.reader import TarReader
from wherry.lib.tar.writer import TarWriter
from wherry.model.errors import FULL_DISK

INDEX_NAME = "index.erofs"
TAR_NAME = "layer.tar"
PROBE_SIZE = 4096

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_READ_ONLY = 1
_LO_FLAGS_AUTOCLEAR = 4
# struct loop_config: fd, block_size, struct loop_info64 (flags at 52 of 232), reserved
_LOOP_CONFIG = struct.Struct("=II52xI176x64x")

Mounter = Callable[[Path, Path, Path], None]


def mount_files(index: Path, tar: Path, target: Path) -> None:
    """Mounts from the two files themselves. Raises OSError(ENOTBLK) where the kernel cannot."""
    context = syscalls.fsopen(b"erofs")
    try:
        syscalls.fsconfig(context, FSCONFIG.SET_STRING, b"source", os.fsencode(index))
        syscalls.fsconfig(context, FSCONFIG.SET_STRING, b"device", os.fsencode(tar))
        syscalls.fsconfig(context, FSCONFIG.SET_FLAG, b"ro")
        syscalls.fsconfig(context, FSCONFIG.CMD_CREATE)
        mounted = syscalls.fsmount(
            context, MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV
        )
    finally:
        os.close(context)
    try:
        syscalls.move_mount(mounted, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT.F_EMPTY_PATH)
    finally:
        os.close(mounted)


def mount_loops(index: Path, tar: Path, target: Path) -> None:
    """Mounts through two loop devices, which go away with the mount."""
    index_fd, index_loop = _attach_loop(index)
    try:
        tar_fd, tar_loop = _attach_loop(tar)
        try:
            mount_files(index_loop, tar_loop, target)
        finally:
            os.close(tar_fd)
    finally:
        os.close(index_fd)


def unmount(target: Path) -> None:
    """Unmounts a layer; overlays that use it keep it alive. Idempotent."""
    try:
        syscalls.umount2(os.fsencode(target), MNT.DETACH)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOENT}:
            raise


def find_mounter(scratch: Path) -> Mounter | None:
    """The way that works on this machine for files under `scratch`, found by trying; None = unpack.

    Where the disk is full, and a start is the way to free some of it, each mount tries for itself.
    """
    # 6.4 brought blocks smaller than a page, 6.12 mounts from files.
    candidates = [
        way
        for way, since in ((mount_files, (6, 12)), (mount_loops, (6, 4)))
        if _assumed_kernel() >= since
    ]
    try:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="probe-") as folder:
            return next((way for way in candidates if _works(way, Path(folder))), None)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        return mount_either if candidates else None


def mount_either(index: Path, tar: Path, target: Path) -> None:
    """From the files, or through loop devices."""
    try:
        mount_files(index, tar, target)
    except OSError:
        mount_loops(index, tar, target)


def _assumed_kernel() -> tuple[int, ...]:
    """WHERRY_ASSUME_KERNEL=6.1 makes a newer kernel walk the fallbacks."""
    version = os.environ.get("WHERRY_ASSUME_KERNEL", "")
    return tuple(map(int, version.split("."))) if version else (1 << 31,)


def read_probe(root: Path, path: str) -> str:
    """sha256 of a file's first bytes: proves that a mounted index and its tar belong together."""
    fd = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return hashlib.sha256(os.pread(fd, PROBE_SIZE, 0)).hexdigest()
    finally:
        os.close(fd)


def _attach_loop(path: Path) -> tuple[int, Path]:
    backing = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            device = Path(f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}")
            fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
            config = _LOOP_CONFIG.pack(backing, 512, _LO_FLAGS_READ_ONLY | _LO_FLAGS_AUTOCLEAR)
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(fd)
                if error.errno != errno.EBUSY:  # EBUSY: another process took this free device
                    raise
            else:
                return fd, device
    finally:
        os.close(control)
        os.close(backing)


def _works(mounter: Mounter, folder: Path) -> bool:
    content = os.urandom(16) * 40
    index, tar, target = folder / INDEX_NAME, folder / TAR_NAME, folder / "mounted"
    with tar.open("wb") as file:
        writer = TarWriter(file.write)
        writer.file(b"probe", content)
        writer.close()
    tree = LayerTree()
    with tar.open("rb") as file:
        for entry in TarReader(file.read):
            tree.add(entry)
    tree.finish()
    index.write_bytes(build_index(tree, tar.stat().st_size))
    target.mkdir(exist_ok=True)
    try:
        mounter(index, tar, target)
    except OSError:
        return False
    try:
        return (target / "probe").read_bytes() == content
    except OSError:
        return False
    finally:
        unmount(target)
