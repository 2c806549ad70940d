"""A container's control groups behind one interface, whatever is mounted: v1, v2, or both.

    cgroup = open_cgroup("/docker/<id>")
    cgroup.create(spec.resources); cgroup.attach(pid); ...; cgroup.kill(); cgroup.remove()

The object holds only the path: another process opens the same group by the same path. With systemd as the
owner of the tree (`systemd=True`) the caller gives the slice's path; the layout is the same.
"""

from __future__ import annotations

import errno
import os
import signal as _signal
import time

from wherry.runtime.cgroups import v1, v2
from wherry.runtime.cgroups.devices import DEFAULT_RULES, DevicePolicy
from wherry.runtime.cgroups.hierarchy import (
    Hierarchy,
    hierarchies,
    read_number,
    read_table,
    read_text,
    write_text,
)
from wherry.runtime.cgroups.stats import BlockEntry, CgroupStats
from wherry.runtime.spec import Resources

REMOVE_DEADLINE_S = 5.0
_PIDFDS_AT_ONCE = 256
KILL_DEADLINE_S = 5.0

__all__ = ["BlockEntry", "Cgroup", "CgroupStats", "cgroup_version", "open_cgroup"]


class Cgroup:
    """One group in every hierarchy of this machine."""

    __slots__ = ("_directories", "_groups", "_unified", "path")

    def __init__(self, path: str, mounted: list[Hierarchy]) -> None:
        self.path = path
        relative = os.path.normpath("/" + path).lstrip("/")
        if not relative or relative == ".":
            raise OSError(errno.EINVAL, "a control group needs a path below the root", path)
        self._groups = [(item, f"{item.mount_point}/{relative}") for item in mounted]
        self._directories = {
            controller: directory
            for item, directory in self._groups
            if item.version == 1
            for controller in item.controllers
        }
        unified = [directory for item, directory in self._groups if item.version == 2]
        self._unified = unified[0] if unified else ""

    def is_unified(self) -> bool:
        """Whether version 2 is all there is."""
        return bool(self._unified) and all(item.version == 2 for item, _ in self._groups)

    def create(self, resources: Resources) -> None:
        """Make the group and set its limits; idempotent; raises OSError or StepError, leaving nothing new."""
        made: list[str] = []
        try:
            for item, directory in self._groups:
                if not os.path.isdir(directory):
                    os.makedirs(directory, 0o755, exist_ok=True)
                    made.append(directory)
                if "cpuset" in item.controllers:
                    v1.prepare_cpuset(directory, item.mount_point)
                if item.version == 2:
                    v2.enable_controllers(item.mount_point, directory)
            self.limit(resources)
        except BaseException:
            for directory in reversed(made):
                try:
                    os.rmdir(directory)
                except OSError:
                    continue
            raise

    def limit(self, resources: Resources) -> None:
        """Set the limits and which devices are allowed; raises OSError or StepError."""
        self.update(resources)
        self._apply_devices(resources)

    def update(self, resources: Resources) -> None:
        """Change the limits that are given; devices stay."""
        v1.apply_resources(self._directories, resources)
        if self._unified:
            v2.apply_resources(self._unified, resources)

    def _apply_devices(self, resources: Resources) -> None:
        policy = DevicePolicy((*resources.devices, *DEFAULT_RULES))
        if not resources.devices or (policy.allow_by_default and not policy.exceptions):
            return
        if "devices" in self._directories:
            v1.apply_devices(self._directories["devices"], policy)
        elif self._unified:
            v2.apply_devices(self._unified, policy)

    def attach(self, pid: int) -> None:
        """Move a process into the group."""
        for _, directory in self._groups:
            write_text(f"{directory}/cgroup.procs", str(pid))

    def open_for_clone(self) -> int:
        """A descriptor for clone3's CLONE_INTO_CGROUP, or -1 where version 1 has a say too."""
        if not self.is_unified():
            return -1
        return os.open(self._unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def exists(self) -> bool:
        """Whether the group has been made."""
        return all(os.path.isdir(directory) for _, directory in self._groups)

    def paths(self) -> dict[str, str]:
        """The group's directory by controller; version 2's under ""."""
        found = dict(self._directories)
        for item, directory in self._groups:
            if item.name:
                found[f"name={item.name}"] = directory
        if self._unified:
            found[""] = self._unified
        return found

    def v1_groups(self) -> list[tuple[Hierarchy, str]]:
        """The hierarchies of version 1 with the group's directories, for /sys/fs/cgroup."""
        return [(item, directory) for item, directory in self._groups if item.version == 1]

    def freeze(self) -> None:
        """Stop every process of the group."""
        self._set_frozen(frozen=True)

    def thaw(self) -> None:
        """Let them go on."""
        self._set_frozen(frozen=False)

    def _set_frozen(self, *, frozen: bool) -> None:
        if "freezer" in self._directories:
            v1.set_frozen(self._directories["freezer"], frozen=frozen)
        elif self._unified:
            v2.set_frozen(self._unified, frozen=frozen)
        else:
            raise OSError(errno.ENOTSUP, "no freezer is mounted", self.path)

    def is_frozen(self) -> bool:
        """Whether the group is frozen."""
        try:
            if "freezer" in self._directories:
                return (
                    read_text(f"{self._directories['freezer']}/freezer.state").strip() != "THAWED"
                )
            return read_table(f"{self._unified}/cgroup.events").get("frozen") == 1
        except OSError:
            return False

    def processes(self) -> list[int]:
        """Every process of the group and of groups below it, as this namespace numbers them."""
        return sorted(set().union(*(_pids_below(directory) for directory in self._primary())))

    def _primary(self) -> list[str]:
        for controller in ("freezer", "pids", "memory", "devices", "cpu"):
            if controller in self._directories:
                # A process may leave one hierarchy; those it cannot be tracked by alone are two.
                return [self._directories[controller]] + ([self._unified] if self._unified else [])
        return [directory for _, directory in self._groups[:1]]

    def kill(self, signal: int = _signal.SIGKILL) -> None:
        """Send a signal to every process; with SIGKILL thaw, too, and go on until none is left."""
        if signal != _signal.SIGKILL:
            self._signal_all(signal)
            return
        deadline = time.monotonic() + KILL_DEADLINE_S
        if self.is_unified():
            try:
                write_text(f"{self._unified}/cgroup.kill", "1")
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}:
                    raise
        while True:
            self._signal_all(signal)
            # A frozen task of version 1 does not even die.
            if self.is_frozen():
                self._set_frozen(frozen=False)
            # Not those that had the signal: one of them may have made another before.
            if not any(_is_alive(pid) for pid in self.processes()):
                return
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "processes survive SIGKILL", self.path)
            time.sleep(0.001)

    def _signal_all(self, signal: int) -> None:
        """A member may end, and its pid be another process's, between the list and the signal.

        So a member is who was held by a pidfd before a second list named it.
        """
        pids = self.processes()
        for start in range(0, len(pids), _PIDFDS_AT_ONCE):
            self._signal_members(pids[start : start + _PIDFDS_AT_ONCE], signal)

    def _signal_members(self, pids: list[int], signal: int) -> None:
        pidfds: dict[int, int] = {}
        try:
            for pid in pids:
                try:
                    pidfds[pid] = os.pidfd_open(pid)
                except ProcessLookupError:
                    continue
            for pid in pidfds.keys() & self.processes():
                try:
                    _signal.pidfd_send_signal(pidfds[pid], signal)
                except ProcessLookupError:
                    continue
        finally:
            for pidfd in pidfds.values():
                os.close(pidfd)

    def oom_kills(self) -> int:
        """How many processes the kernel has killed for memory; 0 when the group is gone."""
        if "memory" in self._directories:
            file = f"{self._directories['memory']}/memory.oom_control"
        elif self._unified:
            file = f"{self._unified}/memory.events"
        else:
            return 0
        try:
            return read_table(file).get("oom_kill", 0)
        except FileNotFoundError:
            return 0

    def stats(self) -> CgroupStats:
        """What the group uses and has used."""
        if self._directories:
            return v1.read_stats(self._directories)
        return v2.read_stats(self._unified)

    def memory_limit(self) -> int | None:
        """The limit in force, None = none."""
        if "memory" in self._directories:
            return read_number(f"{self._directories['memory']}/memory.limit_in_bytes")
        return read_number(f"{self._unified}/memory.max")

    def remove(self) -> None:
        """Remove the group and those below it; waits a little for what is dying; idempotent."""
        deadline = time.monotonic() + REMOVE_DEADLINE_S
        pause = 0.0005
        for _, directory in self._groups:
            while not _remove_tree(directory):
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, "the control group is still in use", directory)
                self._signal_all(_signal.SIGKILL)
                time.sleep(pause)
                pause = min(pause * 2, 0.02)


def open_cgroup(path: str, *, systemd: bool = False) -> Cgroup:
    """The group of that path in every hierarchy; nothing is made yet."""
    del systemd  # the layout is the same; who owns the tree is the caller's business
    mounted = hierarchies()
    if not mounted:
        raise OSError(errno.ENOENT, "no control groups are mounted", "/sys/fs/cgroup")
    return Cgroup(path, mounted)


def cgroup_version() -> int:
    """2 when version 2 is all there is, else 1: what Docker calls "Cgroup Version"."""
    return 2 if all(item.version == 2 for item in hierarchies()) else 1


def warm() -> None:
    """Pay for the grace period of the next attach now: a no-op move of this very process.

    The first write to any cgroup.procs after some 15 ms without one waits about 11 ms.
    """
    for item in hierarchies():
        own = _own_group(item)
        if own is not None:
            write_text(f"{item.mount_point}{own}/cgroup.procs", "0")
            return


def _own_group(item: Hierarchy) -> str | None:
    wanted = f"name={item.name}" if item.name else ",".join(item.controllers)
    for line in read_text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if set(controllers.split(",")) == set(wanted.split(",")):
            return path
    return None


def _pids_below(directory: str) -> set[int]:
    pids: set[int] = set()
    for folder, _, _ in os.walk(directory):
        try:
            pids.update(int(line) for line in read_text(f"{folder}/cgroup.procs").split())
        except OSError:
            continue
    pids.discard(0)
    return pids


def _remove_tree(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in {errno.EBUSY, errno.ENOTEMPTY}:
            raise
    else:
        return True
    try:
        for entry in list(os.scandir(directory)):
            if entry.is_dir(follow_symlinks=False):
                _remove_tree(entry.path)
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        state = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in {"Z", "X"}
