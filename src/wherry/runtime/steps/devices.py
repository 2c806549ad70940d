"""/dev: the nodes every container has, those that were asked for, the links, and the console.

Nodes are made in the tmpfs that this launch mounted, by descriptor. In a user namespace mknod is not
allowed: there the host's nodes are bound instead.
"""

from __future__ import annotations

import os
import stat

from wherry.kernel import syscalls
from wherry.kernel.consts import AT, AT_FDCWD, OPEN_TREE
from wherry.runtime.context import Context
from wherry.runtime.errors import StepError
from wherry.runtime.spec import Device
from wherry.runtime.steps import Step
from wherry.runtime.steps.mounts import attach
from wherry.runtime.steps.paths import ensure_in_root, open_in_root

# name, major, minor; the specification's "Default Devices".
DEFAULT_NODES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class DeviceNodes(Step):
    """The default nodes, then linux.devices."""

    __slots__ = ("devices",)
    name = "device"
    ahead = True
    late = False

    def __init__(self, devices: tuple[Device, ...]) -> None:
        self.devices = devices

    def describe(self) -> str:
        extra = "".join(f" {device.path}" for device in self.devices)
        return f"make the default device nodes{' and' + extra if extra else ''}"

    def prepare(self, context: Context) -> None:
        if not context.in_user_namespace:
            return
        names = [f"/dev/{name}" for name, _, _ in DEFAULT_NODES]
        for path in [*names, *(device.path for device in self.devices)]:
            context.sources[f"device {path}"] = syscalls.open_tree(
                AT_FDCWD, os.fsencode(path), OPEN_TREE.CLONE
            )

    def apply(self, context: Context) -> None:
        dev = open_in_root(context.root, "/dev", os.O_PATH | os.O_DIRECTORY)
        try:
            for name, major, minor in DEFAULT_NODES:
                if context.in_user_namespace:
                    self._bind(context, f"/dev/{name}")
                else:
                    _make_node(dev, name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        finally:
            os.close(dev)
        for device in self.devices:
            if context.in_user_namespace:
                self._bind(context, device.path)
            else:
                self._make(context, device)

    @staticmethod
    def _make(context: Context, device: Device) -> None:
        folder, _, name = device.path.rpartition("/")
        parent, _ = ensure_in_root(context.root, folder or "/", directory=True)
        try:
            mode = _KINDS[device.kind] | stat.S_IMODE(device.file_mode)
            number = os.makedev(device.major, device.minor)
            _make_node(parent, name, mode, number)
            if device.uid or device.gid:
                os.chown(name, device.uid, device.gid, dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)

    @staticmethod
    def _bind(context: Context, path: str) -> None:
        tree = context.sources.pop(f"device {path}")
        target, _ = ensure_in_root(context.root, path, directory=False)
        attach(tree, target)
        os.close(target)
        os.close(tree)


class DeviceLinks(Step):
    """/dev/fd, stdin, stdout, stderr, ptmx, and core where the kernel has one."""

    __slots__ = ()
    name = "device link"
    ahead = True
    late = False

    def describe(self) -> str:
        return "make the links in /dev"

    def apply(self, context: Context) -> None:
        dev = open_in_root(context.root, "/dev", os.O_PATH | os.O_DIRECTORY)
        try:
            links: tuple[tuple[str, str], ...] = LINKS
            if os.path.exists("/proc/kcore"):
                links = (*LINKS, ("/proc/kcore", "core"))
            for target, name in links:
                try:
                    os.symlink(target, name, dir_fd=dev)
                except FileExistsError:
                    if name == "ptmx" and context.mounts.get("/dev/pts", -1) >= 0:
                        # runc replaces an image's own /dev/ptmx.
                        os.unlink(name, dir_fd=dev)
                        os.symlink(target, name, dir_fd=dev)
        finally:
            os.close(dev)


class Console(Step):
    """/dev/console: the pty's slave, bound."""

    __slots__ = ()
    name = "console"

    def describe(self) -> str:
        return "bind the terminal on /dev/console"

    def apply(self, context: Context) -> None:
        target, _ = ensure_in_root(context.root, "/dev/console", directory=False, mode=0o666)
        tree = syscalls.open_tree(context.terminal, b"", OPEN_TREE.CLONE | AT.EMPTY_PATH)
        attach(tree, target)
        os.close(tree)
        os.close(target)


class HostTerminals(Step):
    """With the machine's /dev bound there is no devpts but its own: the terminal is one of that."""

    __slots__ = ()
    name = "console"

    def describe(self) -> str:
        return "take a terminal of the machine's /dev/pts"

    def prepare(self, context: Context) -> None:
        context.devpts = os.open("/dev/pts", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _make_node(parent: int, name: str, mode: int, number: int) -> None:
    try:
        os.mknod(name, mode, number, dir_fd=parent)
    except FileExistsError:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(mode) or found.st_rdev != number:
            raise StepError(f"/dev/{name}", "exists and is another file", 17) from None
        return
    # mknod's mode went through the umask; a fresh node cannot be a link.
    os.chmod(name, stat.S_IMODE(mode), dir_fd=parent)
