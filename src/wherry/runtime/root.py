"""A container's root file system: where it comes from, and how it becomes one detached mount.

`open_root` is called in the host's mount namespace by the process that launches; the mount exists only as
a descriptor until init attaches it in a namespace of its own. See pitfalls: overlay options, volatile.
"""

from __future__ import annotations

import errno
import os
import signal

from wherry.kernel import syscalls
from wherry.kernel.consts import AT, AT_FDCWD, CLONE, FSCONFIG, MOUNT_ATTR, MS, OPEN_TREE
from wherry.kernel.release import may_use
from wherry.runtime.errors import StepError

MAX_LAYERS = 125
_LOWERDIR_PLUS = (6, 8)
_STRING_BYTES = 255  # of one fsconfig value
_FIXED_OPTIONS = (
    # Without xino each layer has a device number of its own; the others would change what files are.
    (b"xino", b"auto"),
    (b"index", b"off"),
    (b"redirect_dir", b"off"),
    (b"metacopy", b"off"),
)


class OverlayRoot:
    """Overlay of directories, topmost lower first; without `upper` it is read-only."""

    __slots__ = ("lowers", "upper", "volatile", "work")

    def __init__(
        self, lowers: tuple[str, ...], upper: str = "", work: str = "", *, volatile: bool = False
    ) -> None:
        self.lowers = lowers
        self.upper = upper
        self.work = work
        self.volatile = volatile


class DirectoryRoot:
    """A plain directory, with what is mounted below it."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class EmptyRoot:
    """An empty tmpfs: the root of an init that waits for its container."""

    __slots__ = ()


Root = OverlayRoot | DirectoryRoot | EmptyRoot


def open_root(root: Root) -> int:
    """A descriptor of a detached mount of `root`; raises OSError or StepError."""
    if isinstance(root, EmptyRoot):
        return _open_empty()
    if isinstance(root, DirectoryRoot):
        flags = OPEN_TREE.CLONE | AT.RECURSIVE
        fd = syscalls.open_tree(AT_FDCWD, os.fsencode(root.path), flags)
        syscalls.mount_setattr(fd, b"", AT.EMPTY_PATH | AT.RECURSIVE, propagation=MS.PRIVATE)
        return fd
    if len(root.lowers) > MAX_LAYERS:
        raise StepError("overlay", "max depth exceeded")
    return _open_overlay(root)


def _open_empty() -> int:
    fs = syscalls.fsopen(b"tmpfs")
    try:
        syscalls.fsconfig(fs, FSCONFIG.SET_STRING, b"mode", b"755")
        syscalls.fsconfig(fs, FSCONFIG.CMD_CREATE)
        return syscalls.fsmount(fs, 0)
    finally:
        os.close(fs)


def _open_overlay(root: OverlayRoot) -> int:
    if len(root.lowers) == 1 and not root.upper:
        # Overlay wants two layers; the only one, bound read-only, is the same.
        fd = syscalls.open_tree(AT_FDCWD, os.fsencode(root.lowers[0]), OPEN_TREE.CLONE)
        syscalls.mount_setattr(
            fd, b"", AT.EMPTY_PATH, attr_set=MOUNT_ATTR.RDONLY, propagation=MS.PRIVATE
        )
        return fd
    if may_use(*_LOWERDIR_PLUS):
        try:
            layers = [(b"lowerdir+", os.fsencode(path)) for path in root.lowers]
            if root.upper:
                layers.append((b"upperdir", os.fsencode(root.upper)))
                layers.append((b"workdir", os.fsencode(root.work)))
            return _mount_overlay(root, layers)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return _open_overlay_short(root)


def _mount_overlay(root: OverlayRoot, layers: list[tuple[bytes, bytes]]) -> int:
    fs = syscalls.fsopen(b"overlay")
    try:
        syscalls.fsconfig(fs, FSCONFIG.SET_STRING, b"source", b"overlay")
        for key, value in [*layers, *_FIXED_OPTIONS]:
            syscalls.fsconfig(fs, FSCONFIG.SET_STRING, key, value)
        if root.volatile and root.upper:
            syscalls.fsconfig(fs, FSCONFIG.SET_FLAG, b"volatile")
        syscalls.fsconfig(fs, FSCONFIG.CMD_CREATE)
        return syscalls.fsmount(fs, 0)
    finally:
        os.close(fs)


def _open_overlay_short(root: OverlayRoot) -> int:
    """Before lowerdir+ all lowers are one string, of at most 255 bytes: name them by descriptor."""
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    opened: list[int] = []
    try:
        layers = _enter_names(root, opened)
        if all(len(value) <= _STRING_BYTES for _, value in layers):
            return _mount_overlay(root, layers)
    finally:
        os.fchdir(here)
        for fd in (*opened, here):
            os.close(fd)
    return _mount_in_helper(root)


def _enter_names(root: OverlayRoot, opened: list[int]) -> list[tuple[bytes, bytes]]:
    """Make /proc/self/fd the working directory: there every directory has a short name, without a comma."""
    for path in (*root.lowers, root.upper, root.work):
        if path:
            opened += [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    os.chdir("/proc/self/fd")
    names = [b"%d" % fd for fd in opened]
    layers = [(b"lowerdir", b":".join(names[: len(root.lowers)]))]
    if root.upper:
        layers += [(b"upperdir", names[-2]), (b"workdir", names[-1])]
    return layers


def _mount_in_helper(root: OverlayRoot) -> int:
    """mount(2) takes a page of options but needs a place: a child with its own mount namespace is one."""
    ready, ready_end = os.pipe2(os.O_CLOEXEC)
    pid = syscalls.clone3(CLONE.NEWNS, exit_signal=signal.SIGCHLD)
    if pid == 0:
        try:
            os.write(ready_end, b"%d" % _mount_by_options(root))
        except OSError as error:
            os.write(ready_end, b"-%d" % (error.errno or errno.EIO))
        signal.pause()
        os._exit(0)
    os.close(ready_end)
    try:
        answer = int(os.read(ready, 16) or b"-5")
        if answer < 0:
            raise OSError(-answer, f"mount: {os.strerror(-answer)}", "overlay")
        pidfd = os.pidfd_open(pid)
        try:
            return syscalls.pidfd_getfd(pidfd, answer)
        finally:
            os.close(pidfd)
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _mount_by_options(root: OverlayRoot) -> int:
    syscalls.mount(None, b"/", None, MS.REC | MS.PRIVATE)
    # Opened here: overlay takes only layers of the caller's own mount namespace.
    options = [*_enter_names(root, []), *_FIXED_OPTIONS]
    words = [key + b"=" + value for key, value in options]
    if root.volatile and root.upper:
        words.append(b"volatile")
    place = os.fsencode(root.lowers[0])
    syscalls.mount(b"overlay", place, b"overlay", 0, b",".join(words))
    return syscalls.open_tree(AT_FDCWD, place, OPEN_TREE.CLONE)
