"""/sys/fs/cgroup inside the container, in Docker's shape for either version.

Version 1: a tmpfs with one directory per hierarchy, bound from the host's (or, in a cgroup namespace,
mounted afresh), and a link per controller of a joint hierarchy. Version 2: cgroup2 itself.
"""

from __future__ import annotations

import os

from wherry.kernel import syscalls
from wherry.kernel.consts import AT, AT_FDCWD, MOUNT_ATTR, MS, OPEN_TREE
from wherry.runtime.cgroups import Cgroup
from wherry.runtime.context import Context
from wherry.runtime.steps import Step
from wherry.runtime.steps.mounts import attach, change_propagation, make_filesystem, mount_error
from wherry.runtime.steps.options import MountOptions
from wherry.runtime.steps.paths import ensure_in_root


class CgroupMount(Step):
    """A mount of type cgroup or cgroup2."""

    __slots__ = ("cgroup", "destination", "in_namespace", "options")
    name = "mount"
    ahead = True
    late = False

    def __init__(
        self, destination: str, options: MountOptions, cgroup: Cgroup, *, in_namespace: bool
    ) -> None:
        self.destination = destination
        self.options = options
        self.cgroup = cgroup
        self.in_namespace = in_namespace

    def describe(self) -> str:
        return f"mount cgroups on {self.destination}"

    def prepare(self, context: Context) -> None:
        if self.in_namespace:
            return
        if self.cgroup.is_unified():
            if context.in_user_namespace:
                # cgroup2 can be mounted only by the owner of the cgroup namespace: bind what is ours.
                context.sources["cgroup"] = self._clone(self.cgroup.paths()[""])
            return
        for item, directory in self.cgroup.v1_groups():
            context.sources[f"cgroup {item.label()}"] = self._clone(directory)

    def _clone(self, directory: str) -> int:
        tree = syscalls.open_tree(AT_FDCWD, os.fsencode(directory), OPEN_TREE.CLONE)
        change_propagation(tree, MS.PRIVATE)
        syscalls.mount_setattr(tree, b"", AT.EMPTY_PATH, attr_set=self.options.attr_set)
        return tree

    def apply(self, context: Context) -> None:
        try:
            target, _ = ensure_in_root(context.root, self.destination, directory=True)
            try:
                if self.cgroup.is_unified():
                    tree = context.sources.pop("cgroup", -1)
                    if tree < 0:
                        tree = make_filesystem(b"cgroup2", b"cgroup", [], self.options.attr_set)
                    attach(tree, target)
                else:
                    tree = make_filesystem(
                        b"tmpfs",
                        b"tmpfs",
                        [(b"mode", b"755")],
                        self.options.attr_set & ~MOUNT_ATTR.RDONLY,
                    )
                    attach(tree, target)
                    self._fill(context, tree)
                context.mounts[self.destination] = tree
            finally:
                os.close(target)
        except OSError as error:
            raise mount_error("cgroup", self.destination, error) from error

    def _fill(self, context: Context, top: int) -> None:
        for item, _ in self.cgroup.v1_groups():
            label = item.label()
            os.mkdir(label, 0o755, dir_fd=top)
            target = os.open(label, os.O_PATH | os.O_CLOEXEC, dir_fd=top)
            tree = context.sources.pop(f"cgroup {label}", -1)
            if tree < 0:
                source = item.name or "cgroup"
                options: list[tuple[bytes, bytes | None]] = (
                    [(b"none", None), (b"name", os.fsencode(item.name))]
                    if item.name
                    else [(os.fsencode(controller), None) for controller in item.controllers]
                )
                tree = make_filesystem(
                    b"cgroup", os.fsencode(source), options, self.options.attr_set
                )
            attach(tree, target)
            os.close(tree)
            os.close(target)
            if len(item.controllers) > 1:
                for controller in item.controllers:
                    if controller != label:
                        os.symlink(label, controller, dir_fd=top)
