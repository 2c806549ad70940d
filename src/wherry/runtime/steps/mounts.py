"""Mounts of `mounts`: file systems made in the container's namespaces, and trees bound from the host.

Everything is made detached, given its attributes and propagation, and only then moved onto a target that
was resolved inside the root by descriptor: nothing is ever visible half made, nor mounted by a path.
"""

from __future__ import annotations

import errno
import os
import stat

from wherry.kernel import syscalls
from wherry.kernel.consts import (
    AT,
    AT_FDCWD,
    FSCONFIG,
    MOUNT_ATTR,
    MOVE_MOUNT,
    MS,
    OPEN_TREE,
    PROC_SUPER_MAGIC,
)
from wherry.kernel.mountinfo import find_mount, read_mountinfo
from wherry.runtime.context import Context
from wherry.runtime.errors import StepError
from wherry.runtime.steps import Step
from wherry.runtime.steps.copy import copy_tree
from wherry.runtime.steps.options import MountOptions
from wherry.runtime.steps.paths import ensure_in_root, open_beneath, open_in_root

_BY_DESCRIPTOR = MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH

# Where runc lets a bind mount into /proc go (libcontainer, checkProcMount).
_PROC_TARGETS = frozenset(
    {
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/slabinfo",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/crypto/fips_enabled",
        "/proc/net/dev",
    }
)


# What is mounted there is the same for every container of a class, and made ahead as a whole.
STAGED_TREES = ("/proc", "/dev", "/sys")


def is_staged(destination: str) -> bool:
    """Whether a clean path is one of those trees or below it."""
    return f"{destination}/".startswith(tuple(f"{tree}/" for tree in STAGED_TREES))


def open_mount_point(root_fd: int, destination: str, fstype: str) -> tuple[int, bool]:
    """Where a file system of its own goes: an O_PATH descriptor, and whether the directory was made just now."""
    target, made = ensure_in_root(root_fd, destination, directory=True)
    # A link here would put the mount, and with it its masks, somewhere else.
    ordinary = fstype in {"proc", "sysfs"}
    if ordinary and not made and not _is_plain_directory(root_fd, destination):
        os.close(target)
        raise StepError(
            destination,
            f'filesystem "{fstype}" must be mounted on ordinary directory',
            errno.ENOTDIR,
        )
    return target, made


def attach(mount_fd: int, target_fd: int) -> None:
    """Move a detached mount onto what `target_fd` is."""
    syscalls.move_mount(mount_fd, b"", target_fd, b"", _BY_DESCRIPTOR)


def make_filesystem(
    fstype: bytes,
    source: bytes,
    options: list[tuple[bytes, bytes | None]],
    attributes: int = 0,
) -> int:
    """A new detached file system; an option without a value is a flag."""
    fs = syscalls.fsopen(fstype)
    try:
        syscalls.fsconfig(fs, FSCONFIG.SET_STRING, b"source", source)
        for key, value in options:
            command = FSCONFIG.SET_FLAG if value is None else FSCONFIG.SET_STRING
            syscalls.fsconfig(fs, command, key, value)
        syscalls.fsconfig(fs, FSCONFIG.CMD_CREATE)
        return syscalls.fsmount(fs, attributes)
    finally:
        os.close(fs)


class FilesystemMount(Step):
    """A file system of its own: proc, sysfs, tmpfs, mqueue, devpts, cgroup2, ..."""

    __slots__ = ("ahead", "destination", "fstype", "late", "options", "source")
    name = "mount"

    def __init__(self, destination: str, fstype: str, source: str, options: MountOptions) -> None:
        self.ahead = is_staged(destination)
        self.late = not self.ahead
        self.destination = destination
        self.fstype = fstype
        self.source = source or fstype
        self.options = options

    def describe(self) -> str:
        return f"mount {self.fstype} on {self.destination}"

    def detach(self, context: Context) -> None:
        if self.fstype in {"proc", "sysfs"}:
            context.mounts[self.destination] = self._make(())

    def apply(self, context: Context) -> None:
        try:
            target, made = open_mount_point(context.root, self.destination, self.fstype)
            try:
                mount_fd = context.mounts.get(self.destination, -1)
                if mount_fd < 0:
                    covers = self.fstype == "tmpfs" and not made
                    mount_fd = self._make(self._inherited_mode(target) if covers else ())
                    if covers and self.options.copy_up:
                        copy_tree(target, mount_fd)
                attach(mount_fd, target)
                if self.destination == "/proc" and self.fstype == "proc":
                    context.proc_sys = open_beneath(mount_fd, "sys", os.O_PATH | os.O_DIRECTORY)
                for flags in self.options.propagation:
                    change_propagation(mount_fd, flags)
                context.mounts[self.destination] = mount_fd
            finally:
                os.close(target)
        except OSError as error:
            raise self._sentence(error) from error

    def _make(self, extra: tuple[tuple[bytes, bytes | None], ...]) -> int:
        options = [*extra]
        options += [(os.fsencode(word), None) for word in self.options.super_block]
        # As mount(2) does, "ro" makes the file system itself read-only too.
        if self.options.attr_set & MOUNT_ATTR.RDONLY:
            options.append((b"ro", None))
        for key, value in self.options.data:
            options.append((os.fsencode(key), None if value is None else os.fsencode(value)))
        return make_filesystem(
            os.fsencode(self.fstype), os.fsencode(self.source), options, self.options.attr_set
        )

    @staticmethod
    def _inherited_mode(target: int) -> tuple[tuple[bytes, bytes | None], ...]:
        return ((b"mode", b"%04o" % stat.S_IMODE(os.fstat(target).st_mode)),)

    def _sentence(self, error: OSError) -> StepError:
        return mount_error(self.source, self.destination, error)


class PreparedMount(Step):
    """A mount that the launching process has made already: its devpts."""

    __slots__ = ("destination", "options")
    name = "mount"
    ahead = True
    late = False

    def __init__(self, destination: str, options: MountOptions) -> None:
        self.destination = destination
        self.options = options

    def describe(self) -> str:
        return f"mount devpts on {self.destination}"

    def prepare(self, context: Context) -> None:
        options = [
            (os.fsencode(key), None if value is None else os.fsencode(value))
            for key, value in self.options.data
        ]
        context.devpts = make_filesystem(b"devpts", b"devpts", options, self.options.attr_set)

    def apply(self, context: Context) -> None:
        try:
            target, _ = ensure_in_root(context.root, self.destination, directory=True)
            attach(context.devpts, target)
            os.close(target)
        except OSError as error:
            raise mount_error("devpts", self.destination, error) from error
        context.mounts[self.destination] = context.devpts


class BindMount(Step):
    """A tree or file of the host, cloned before anything of the container runs."""

    __slots__ = ("destination", "options", "source")
    name = "mount"

    def __init__(self, destination: str, source: str, options: MountOptions) -> None:
        self.destination = destination
        self.source = source
        self.options = options

    def describe(self) -> str:
        return f"bind {self.source} on {self.destination}"

    def prepare(self, context: Context) -> None:
        try:
            context.sources[self.destination] = self._clone()
        except OSError as error:
            raise mount_error(self.source, self.destination, error) from error

    def _clone(self) -> int:
        options = self.options
        self._check_propagation()
        recursive = AT.RECURSIVE if options.recursive else 0
        tree = syscalls.open_tree(AT_FDCWD, os.fsencode(self.source), OPEN_TREE.CLONE | recursive)
        try:
            # A clone of a shared mount is its peer: cut that before the container can act.
            for flags in options.propagation or [MS.PRIVATE | MS.REC]:
                change_propagation(tree, flags)
            if options.recursive_set or options.recursive_clr:
                syscalls.mount_setattr(
                    tree,
                    b"",
                    AT.EMPTY_PATH | AT.RECURSIVE,
                    attr_set=options.recursive_set,
                    attr_clr=options.recursive_clr & ~options.recursive_set,
                )
            if options.attr_set or options.attr_clr:
                syscalls.mount_setattr(
                    tree, b"", AT.EMPTY_PATH, attr_set=options.attr_set, attr_clr=options.attr_clr
                )
        except BaseException:
            os.close(tree)
            raise
        return tree

    def _check_propagation(self) -> None:
        wanted = 0
        for flags in self.options.propagation:
            wanted |= flags
        if not wanted & (MS.SHARED | MS.SLAVE):
            return
        path = os.path.realpath(self.source)
        mount = find_mount(path, read_mountinfo())
        if mount is None or mount.is_shared():
            return
        if wanted & MS.SHARED:
            raise StepError(
                self.source,
                f"path {self.source} is mounted on {mount.mount_point} but it is not a shared mount",
            )
        if not mount.is_slave():
            raise StepError(
                self.source,
                f"path {self.source} is mounted on {mount.mount_point} but it is not a shared or slave mount",
            )

    def apply(self, context: Context) -> None:
        tree = context.sources.pop(self.destination)
        try:
            directory = stat.S_ISDIR(os.fstat(tree).st_mode)
            target, _ = ensure_in_root(context.root, self.destination, directory=directory)
            try:
                self._check_target(context, target)
                if self.destination == "/proc" and syscalls.fstatfs_type(tree) == PROC_SUPER_MAGIC:
                    context.proc_sys = open_beneath(tree, "sys", os.O_PATH | os.O_DIRECTORY)
                if directory != stat.S_ISDIR(os.fstat(target).st_mode):
                    # move_mount's EINVAL says less than mount(2)'s ENOTDIR did.
                    raise OSError(errno.ENOTDIR, "move_mount: Not a directory", self.destination)
                attach(tree, target)
            finally:
                os.close(target)
        except OSError as error:
            raise mount_error(self.source, self.destination, error) from error
        finally:
            os.close(tree)

    def _check_target(self, context: Context, target: int) -> None:
        if syscalls.fstatfs_type(target) != PROC_SUPER_MAGIC:
            return
        if os.path.normpath(self.destination) not in _PROC_TARGETS and not _is_proc_root(
            context, target
        ):
            raise StepError(
                self.destination,
                f'"{self.destination}" cannot be mounted because it is inside /proc',
                errno.EPERM,
            )


class RemountOfRoot(Step):
    """The root itself made read-only, last of all mounts."""

    __slots__ = ()
    name = "readonly root"

    def describe(self) -> str:
        return "make the root read-only"

    def apply(self, context: Context) -> None:
        syscalls.mount_setattr(context.root, b"", AT.EMPTY_PATH, attr_set=MOUNT_ATTR.RDONLY)


class RootPropagation(Step):
    """linux.rootfsPropagation."""

    __slots__ = ("flags",)
    name = "root propagation"

    def __init__(self, flags: int) -> None:
        self.flags = flags

    def describe(self) -> str:
        return f"make the root {self.flags!r}"

    def apply(self, context: Context) -> None:
        change_propagation(context.root, self.flags)


def change_propagation(mount_fd: int, flags: int) -> None:
    """Set the propagation of a mount, with MS_REC of its whole tree."""
    where = AT.EMPTY_PATH | (AT.RECURSIVE if flags & MS.REC else 0)
    syscalls.mount_setattr(mount_fd, b"", where, propagation=flags & ~MS.REC)


def mount_error(source: str, destination: str, error: OSError) -> StepError:
    """runc's sentence for a mount that failed: clients and people look for its end."""
    number = error.errno or 0
    why = os.strerror(number).lower()
    call = (error.strerror or "").partition(":")
    what = f"{call[0]}: {why}" if call[1] else f"create mountpoint: {why}"
    text = f'error mounting "{source}" to rootfs at "{destination}": {what}'
    return StepError(destination, text, number)


def _is_plain_directory(root_fd: int, path: str) -> bool:
    parent, _, leaf = path.rstrip("/").rpartition("/")
    fd = open_in_root(root_fd, parent or "/")
    try:
        return stat.S_ISDIR(os.stat(leaf or "/", dir_fd=fd, follow_symlinks=False).st_mode)
    finally:
        os.close(fd)


def _is_proc_root(context: Context, target: int) -> bool:
    mount_fd = context.mounts.get("/proc", -1)
    if mount_fd < 0:
        return True
    here, there = os.fstat(target), os.fstat(mount_fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
