"""Namespaces: joined by descriptor, waited for, and what becomes possible inside them."""

from __future__ import annotations

import os

from wherry.kernel import syscalls
from wherry.kernel.consts import CLONE, NSFS_MAGIC
from wherry.runtime.context import Context
from wherry.runtime.errors import StepError
from wherry.runtime.spec import Namespace
from wherry.runtime.steps import Step

FLAGS = {
    "user": CLONE.NEWUSER,
    "cgroup": CLONE.NEWCGROUP,
    "ipc": CLONE.NEWIPC,
    "uts": CLONE.NEWUTS,
    "network": CLONE.NEWNET,
    "pid": CLONE.NEWPID,
    "mount": CLONE.NEWNS,
    "time": CLONE.NEWTIME,
}


class JoinNamespace(Step):
    """Enter a namespace that exists. A pid namespace is entered by the launching process's clone3."""

    __slots__ = ("namespace",)
    name = "namespace"

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    def describe(self) -> str:
        return f"join {self.namespace.kind} namespace {self.namespace.path}"

    def prepare(self, context: Context) -> None:
        fd = os.open(self.namespace.path, os.O_RDONLY | os.O_CLOEXEC)
        context.joins[self.namespace.kind] = fd
        if syscalls.fstatfs_type(fd) != NSFS_MAGIC:
            raise StepError(self.namespace.path, "is not a namespace", 22)

    def detach(self, context: Context) -> None:
        if self.namespace.kind == "pid":
            return
        try:
            syscalls.setns(context.joins[self.namespace.kind], FLAGS[self.namespace.kind])
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.namespace.path) from error


class AwaitParent(Step):
    """Wait until the launching process has attached cgroups, written maps and wired the network."""

    __slots__ = ("why",)
    name = "wait"
    ahead = True
    late = False

    def __init__(self, why: str) -> None:
        self.why = why

    def describe(self) -> str:
        return f"wait for {self.why}"

    def wait(self, context: Context) -> None:
        if context.go < 0:
            return
        if not os.read(context.go, 1):
            raise StepError(self.why, "the launching process is gone", 32)
        os.close(context.go)
        context.go = -1

    def detach(self, context: Context) -> None:
        if context.in_user_namespace:
            self.wait(context)

    def apply(self, context: Context) -> None:
        self.wait(context)


class BecomeRoot(Step):
    """In a new user namespace: take id 0, which the maps have just made exist."""

    __slots__ = ()
    name = "user namespace"

    def describe(self) -> str:
        return "become root of the user namespace"

    def detach(self, context: Context) -> None:  # noqa: ARG002 - the interface's
        syscalls.set_ids(0, 0, None)
        try:
            syscalls.set_ids(0, 0, ())
        except PermissionError:
            pass  # /proc/PID/setgroups says "deny": what groups there are stay


class CgroupNamespace(Step):
    """Made when the cgroups are attached already: its root is where the process is at that moment."""

    __slots__ = ()
    name = "cgroup namespace"
    ahead = True
    late = False

    def describe(self) -> str:
        return "make a cgroup namespace"

    def apply(self, context: Context) -> None:  # noqa: ARG002 - the interface's
        syscalls.unshare(CLONE.NEWCGROUP)
