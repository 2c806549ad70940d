"""The root made the root: the detached mount attached in init's namespace, and the host's tree let go."""

from __future__ import annotations

import errno
import os

from wherry.kernel import syscalls
from wherry.kernel.consts import AT_FDCWD, MNT, MOVE_MOUNT, MS
from wherry.runtime.context import Context
from wherry.runtime.root import Root, open_root
from wherry.runtime.steps import Step


class EnterRoot(Step):
    """pivot_root into the container's root; afterwards no path leads to the host."""

    __slots__ = ("root",)
    name = "root"
    ahead = True

    def __init__(self, root: Root) -> None:
        self.root = root

    def describe(self) -> str:
        return "enter the root file system"

    def prepare(self, context: Context) -> None:
        context.root = open_root(self.root)

    def apply(self, context: Context) -> None:
        # The host's mounts are copies here, but peers of its own until this: neither the attach
        # nor the final umount may reach them.
        syscalls.mount(None, b"/", None, MS.REC | MS.SLAVE)
        syscalls.move_mount(context.root, b"", AT_FDCWD, b"/", MOVE_MOUNT.F_EMPTY_PATH)
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchdir(context.root)
        try:
            # Old root stacked on the new one (runc's way): no directory is needed in the image.
            syscalls.pivot_root(b".", b".")
            os.fchdir(old)
            syscalls.umount2(b".", MNT.DETACH)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # An initramfs root cannot be pivoted away.
            syscalls.mount(b".", b"/", None, MS.MOVE)
            os.chroot(".")
        os.chdir("/")
        # The last way to the host: no working directory of "/proc/self/fd/N" may find it.
        os.close(old)
