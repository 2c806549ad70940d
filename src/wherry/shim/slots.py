"""Slots: a shim and its helper forked ahead, the helper already in cgroups that the next container will take over.

On cgroup v1 the first write to a `cgroup.procs` after some 15 ms waits for an RCU grace period, 11 ms, longer
than the rest of a start. A slot has paid for it: its helper sits in groups named `slot-…` below the
parent, which are renamed at the start, and the container's init inherits them by being cloned. On version 2
init is cloned into its group, which costs nothing, so that a slot saves two forks there.

Nothing of a container is decided ahead but the cgroup parent. What a slot cannot serve is a container whose
limits the helper itself would feel, as it is a member of the group until the start is done.
"""

from __future__ import annotations

import contextlib
import os

from wherry.lib.jsonvalue import JsonObject, get_int, get_object
from wherry.runtime.cgroups import Cgroup, open_cgroup
from wherry.runtime.cgroups.hierarchy import hierarchies
from wherry.runtime.spec import Resources, parse_resources

SLOT_PREFIX = "slot-"

_LEAST_MEMORY = 64 << 20
_LEAST_PIDS = 32
_LEAST_CPUS = 0.5
_LIMITED = ("realtimeRuntime", "idle")


def slot_class(oci: JsonObject, cgroup_path: str) -> str | None:
    """The class of slots that may serve this container, which is its cgroup's parent, or None.

    Pure. Whatever is not known to be harmless for the helper is None.
    """
    resources = get_object(get_object(oci, "linux"), "resources")
    memory = get_object(resources, "memory")
    limits = (get_int(memory, "limit"), get_int(memory, "swap"))
    if any(0 < limit < _LEAST_MEMORY for limit in limits):
        return None
    if 0 < get_int(get_object(resources, "pids"), "limit") < _LEAST_PIDS:
        return None
    cpu = get_object(resources, "cpu")
    quota, period = get_int(cpu, "quota"), get_int(cpu, "period") or 100_000
    if 0 < quota < period * _LEAST_CPUS or any(cpu.get(key) for key in _LIMITED):
        return None
    parent, _, name = cgroup_path.rpartition("/")
    return parent if parent and name else None


def remove_stale_slots(parent: str) -> None:
    """Removes slots' groups that nobody is in: an engine, its spawner and slots were killed together."""
    for item in hierarchies():
        folder = f"{item.mount_point}/{parent.lstrip('/')}"
        try:
            names = [name for name in os.listdir(folder) if name.startswith(SLOT_PREFIX)]
        except OSError:
            continue
        for name in names:
            with contextlib.suppress(OSError):
                os.rmdir(f"{folder}/{name}")


class SlotCgroup(Cgroup):
    """The groups of a slot: made and entered by the helper, then taken over under a container's name.

    To the runtime it is the container's cgroup, of which the calling process is a member already.
    """

    __slots__ = ("_slot",)

    def __init__(self, slot_path: str) -> None:
        self._slot = open_cgroup(slot_path)
        super().__init__(slot_path, hierarchies())

    def enter(self) -> None:
        """Makes the groups of version 1 and moves this process into them. Raises OSError."""
        if self._slot.is_unified():
            return
        self._slot.create(parse_resources({}))
        own_pid = str(os.getpid())
        for _, directory in self._slot.v1_groups():
            with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(own_pid)

    def rename(self, path: str) -> None:
        """Names what `create` will make. Nothing happens yet."""
        super().__init__(path, hierarchies())

    def create(self, resources: Resources) -> None:
        """Takes the slot's groups over and sets the limits. Raises OSError."""
        renamed = {item.label(): directory for item, directory in self.v1_groups()}
        for item, directory in self._slot.v1_groups():
            if os.path.isdir(directory):
                os.rename(directory, renamed[item.label()])
        super().create(resources)
        # Version 2's groups cannot be renamed; the slot's own has never had a member.
        self._slot.remove()

    def open_for_clone(self) -> int:
        """Version 2's group, for clone3, also beside version 1: the rest is inherited."""
        unified = self.paths().get("")
        if unified is None:
            return -1
        return os.open(unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def attach(self, pid: int) -> None:
        """Nothing to do: a child of a member is a member."""

    def remove(self) -> None:
        """Not while this process is a member: the shim does it after its helper's end."""
