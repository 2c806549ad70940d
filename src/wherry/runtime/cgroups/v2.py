"""Control groups version 2: limits, freezer and counters of one group.

See Documentation/admin-guide/cgroup-v2.rst. Conversions from version 1's units are runc's.
"""

from __future__ import annotations

import errno
import os
import time

from wherry.kernel import bpf
from wherry.runtime.cgroups.devices import DevicePolicy
from wherry.runtime.cgroups.hierarchy import read_number, read_table, read_text, write_text
from wherry.runtime.cgroups.stats import BlockEntry, CgroupStats
from wherry.runtime.spec import Resources

FREEZE_DEADLINE_S = 10.0


def enable_controllers(top: str, directory: str) -> None:
    """Make every controller that the root has available in `directory`, by way of its parents."""
    available = read_text(f"{top}/cgroup.controllers").split()
    if not available:
        return
    current = top
    for part in os.path.relpath(directory, top).split("/"):
        enabled = read_text(f"{current}/cgroup.subtree_control").split()
        for controller in available:
            if controller not in enabled:
                try:
                    write_text(f"{current}/cgroup.subtree_control", f"+{controller}")
                except OSError as error:
                    # Processes in an inner group, or a controller that is busy in version 1.
                    if error.errno not in {errno.EBUSY, errno.ENOENT, errno.EINVAL, errno.ENOTSUP}:
                        raise
        current = f"{current}/{part}"


def apply_resources(directory: str, resources: Resources) -> None:
    """Write every limit that is given and whose controller is there."""
    for file, value in limits_of(resources):
        path = f"{directory}/{file}"
        if os.path.exists(path):
            write_text(path, value)
    _apply_weight(directory, resources)
    for file, value in resources.unified.items():
        if "/" in file:
            raise OSError(errno.EINVAL, f"unified resource {file!r} must be a file name", file)
        write_text(f"{directory}/{file}", value)


def limits_of(resources: Resources) -> list[tuple[str, str]]:
    """(control file, value) pairs, in the order in which they must be written."""
    limits: list[tuple[str, str]] = []
    memory, swap = resources.memory, resources.memory_swap
    if swap is not None and swap != 0:
        if swap < 0:
            limits.append(("memory.swap.max", "max"))
        elif memory is not None and memory > 0 and swap >= memory:
            limits.append(("memory.swap.max", str(swap - memory)))
    if memory is not None and memory != 0:
        limits.append(("memory.max", _or_max(memory)))
    if resources.memory_reservation:
        limits.append(("memory.low", _or_max(resources.memory_reservation)))
    if resources.cpu_idle is not None:
        limits.append(("cpu.idle", str(resources.cpu_idle)))
    if resources.cpu_shares:
        limits.append(("cpu.weight", str(weight_of_shares(resources.cpu_shares))))
    if resources.cpu_quota or resources.cpu_period:
        quota = resources.cpu_quota or -1
        period = resources.cpu_period or 100000
        limits.append(("cpu.max", f"{quota if quota > 0 else 'max'} {period}"))
    if resources.cpu_burst is not None:
        limits.append(("cpu.max.burst", str(resources.cpu_burst)))
    if resources.cpuset_cpus:
        limits.append(("cpuset.cpus", resources.cpuset_cpus))
    if resources.cpuset_mems:
        limits.append(("cpuset.mems", resources.cpuset_mems))
    if resources.pids is not None:
        limits.append(("pids.max", str(resources.pids) if resources.pids > 0 else "max"))
    for throttles, key in (
        (resources.read_bps, "rbps"),
        (resources.write_bps, "wbps"),
        (resources.read_iops, "riops"),
        (resources.write_iops, "wiops"),
    ):
        limits += [("io.max", f"{t.major}:{t.minor} {key}={t.rate}") for t in throttles]
    limits += [(f"hugetlb.{size}.max", str(limit)) for size, limit in resources.hugepages]
    return limits


def weight_of_shares(shares: int) -> int:
    """cpu.shares (2..262144) as cpu.weight (1..10000)."""
    return 1 + (max(2, min(shares, 262144)) - 2) * 9999 // 262142


def _apply_weight(directory: str, resources: Resources) -> None:
    weight = resources.blkio_weight
    if not weight:
        return
    if os.path.exists(f"{directory}/io.bfq.weight"):
        write_text(f"{directory}/io.bfq.weight", str(weight))
    elif os.path.exists(f"{directory}/io.weight"):
        # blkio.weight is 10..1000, io.weight 1..10000.
        write_text(f"{directory}/io.weight", str(1 + (weight - 10) * 9999 // 990))


def apply_devices(directory: str, policy: DevicePolicy) -> None:
    """Attach the device policy as a program, and take off those that were there before."""
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        old = bpf.attached_device_programs(cgroup)
        try:
            program = bpf.load_device_program(policy.program())
            try:
                bpf.attach_device_program(cgroup, program)
            finally:
                os.close(program)
            for fd in old:
                bpf.detach_device_program(cgroup, fd)
        finally:
            for fd in old:
                os.close(fd)
    finally:
        os.close(cgroup)


def set_frozen(directory: str, *, frozen: bool) -> None:
    """Freeze or thaw, and wait for it."""
    write_text(f"{directory}/cgroup.freeze", "1" if frozen else "0")
    deadline = time.monotonic() + FREEZE_DEADLINE_S
    while read_table(f"{directory}/cgroup.events").get("frozen") != int(frozen):
        if time.monotonic() > deadline:
            raise OSError(errno.EBUSY, "timeout waiting for the freezer", directory)
        time.sleep(0.001)


def read_stats(directory: str) -> CgroupStats:
    """The counters of one group."""
    stats = CgroupStats(2)
    cpu = read_table(f"{directory}/cpu.stat")
    stats.cpu_total_ns = cpu.get("usage_usec", 0) * 1000
    stats.cpu_user_ns = cpu.get("user_usec", 0) * 1000
    stats.cpu_kernel_ns = cpu.get("system_usec", 0) * 1000
    stats.cpu_periods = cpu.get("nr_periods", 0)
    stats.cpu_throttled_periods = cpu.get("nr_throttled", 0)
    stats.cpu_throttled_ns = cpu.get("throttled_usec", 0) * 1000
    stats.memory_usage = read_number(f"{directory}/memory.current") or 0
    stats.memory_peak = read_number(f"{directory}/memory.peak") or 0
    stats.memory_limit = read_number(f"{directory}/memory.max") or 0
    stats.memory_failures = read_table(f"{directory}/memory.events").get("max", 0)
    stats.memory_stat = read_table(f"{directory}/memory.stat")
    stats.pids_current = read_number(f"{directory}/pids.current") or 0
    stats.pids_limit = read_number(f"{directory}/pids.max") or 0
    _read_io(directory, stats)
    return stats


_BYTES = {"rbytes": "Read", "wbytes": "Write", "dbytes": "Discard"}
_OPERATIONS = {"rios": "Read", "wios": "Write", "dios": "Discard"}


def _read_io(directory: str, stats: CgroupStats) -> None:
    try:
        lines = read_text(f"{directory}/io.stat").splitlines()
    except OSError:
        return
    for line in lines:
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        if not minor.isdigit():
            continue
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in _BYTES:
                entry = BlockEntry(int(major), int(minor), _BYTES[key], int(value))
                stats.blkio_bytes.append(entry)
            elif key in _OPERATIONS:
                entry = BlockEntry(int(major), int(minor), _OPERATIONS[key], int(value))
                stats.blkio_operations.append(entry)


def _or_max(value: int) -> str:
    return str(value) if value > 0 else "max"
