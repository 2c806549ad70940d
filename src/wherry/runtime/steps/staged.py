"""What the second part of a start takes over from the first (`wherry.runtime.staging`)."""

from __future__ import annotations

import os

from wherry.kernel import syscalls
from wherry.kernel.consts import AT, AT_FDCWD, OPEN_TREE
from wherry.runtime.context import Context
from wherry.runtime.orders import receive_order, send_order
from wherry.runtime.steps import Step
from wherry.runtime.steps.mounts import attach, mount_error, open_mount_point
from wherry.runtime.steps.paths import open_beneath


class StagedTree(Step):
    """A tree of mounts that was made ahead: /proc, /dev or /sys with all that is below.

    Cloned, not moved: a clone has a mount id after the root's, as if it had been made now, and what reads
    mountinfo in its order finds the root first.
    """

    __slots__ = ("destination", "fstype")
    name = "mount"

    def __init__(self, destination: str, fstype: str) -> None:
        self.destination = destination
        self.fstype = fstype

    def describe(self) -> str:
        return f"take over {self.fstype} on {self.destination}"

    def detach(self, context: Context) -> None:
        flags = OPEN_TREE.CLONE | AT.RECURSIVE
        path = os.fsencode(self.destination)
        context.mounts[self.destination] = syscalls.open_tree(AT_FDCWD, path, flags)

    def apply(self, context: Context) -> None:
        try:
            target, _ = open_mount_point(context.root, self.destination, self.fstype)
            attach(context.mounts[self.destination], target)
            os.close(target)
        except OSError as error:
            raise mount_error(self.fstype, self.destination, error) from error


class StagedTerminals(Step):
    """The launching process gets the container's devpts, as it is mounted now, and gives a terminal back."""

    __slots__ = ("terminal",)
    name = "console"

    def __init__(self, *, terminal: bool) -> None:
        self.terminal = terminal

    def describe(self) -> str:
        return f"hand devpts over{' and take the terminal' if self.terminal else ''}"

    def apply(self, context: Context) -> None:
        if context.orders is None:
            return
        devpts = open_beneath(context.mounts["/dev"], "pts", os.O_PATH | os.O_DIRECTORY)
        send_order(context.orders, {}, [devpts])
        os.close(devpts)
        if self.terminal:
            order = receive_order(context.orders)
            if order is None:
                # The launching process has failed, and says why itself.
                os._exit(1)
            context.terminal = order[1].pop()
