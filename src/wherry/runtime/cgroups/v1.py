"""Control groups version 1: limits, freezer and counters of one group, spread over its hierarchies.

`directories` maps a controller to the group's directory. A limit whose controller is not mounted is
passed over, as the engine has warned of it at create; one the kernel refuses is an OSError.
"""

from __future__ import annotations

import errno
import os
import time

from wherry.runtime.cgroups.devices import DevicePolicy
from wherry.runtime.cgroups.hierarchy import read_number, read_table, read_text, write_text
from wherry.runtime.cgroups.stats import BlockEntry, CgroupStats
from wherry.runtime.errors import StepError
from wherry.runtime.spec import Resources, ThrottleDevice

Directories = dict[str, str]


def prepare_cpuset(directory: str, top: str) -> None:
    """A new cpuset has neither CPUs nor nodes and takes no process: inherit them from above."""
    chain = [directory]
    while chain[-1] != top and len(chain[-1]) > len(top):
        chain.append(os.path.dirname(chain[-1]))
    for child, parent in zip(reversed(chain[:-1]), reversed(chain[1:]), strict=True):
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not read_text(f"{child}/{file}").strip():
                write_text(f"{child}/{file}", read_text(f"{parent}/{file}").strip())


def apply_resources(directories: Directories, resources: Resources) -> None:
    """Write every limit that is given."""
    _apply_memory(directories.get("memory", ""), resources)
    _apply_cpu(directories.get("cpu", ""), resources)
    cpuset = directories.get("cpuset", "")
    if cpuset:
        _write_given(f"{cpuset}/cpuset.cpus", resources.cpuset_cpus or None)
        _write_given(f"{cpuset}/cpuset.mems", resources.cpuset_mems or None)
    if "pids" in directories and resources.pids is not None:
        limit = str(resources.pids) if resources.pids > 0 else "max"
        write_text(f"{directories['pids']}/pids.max", limit)
    _apply_blkio(directories.get("blkio", ""), resources)
    hugetlb = directories.get("hugetlb", "")
    for size, limit_bytes in resources.hugepages if hugetlb else ():
        write_text(f"{hugetlb}/hugetlb.{size}.limit_in_bytes", str(limit_bytes))


def apply_devices(directory: str, policy: DevicePolicy) -> None:
    """Write the device policy into a fresh group."""
    for file, line in policy.lines():
        write_text(f"{directory}/{file}", line)


def _apply_memory(directory: str, resources: Resources) -> None:
    if not directory:
        return
    limit, swap = resources.memory, resources.memory_swap
    limit_file = f"{directory}/memory.limit_in_bytes"
    swap_file = f"{directory}/memory.memsw.limit_in_bytes"
    has_swap = os.path.exists(swap_file)
    if not has_swap:
        swap = None
    writes = [(limit_file, limit), (swap_file, swap)]
    current = read_number(limit_file)
    if swap is not None and (swap < 0 or (current is not None and current < swap)):
        # memory+swap may never be below memory: raise the outer limit first, lower it last.
        writes.reverse()
    try:
        for file, value in writes:
            if value is not None and value != 0:
                write_text(file, str(value))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        usage = read_number(f"{directory}/memory.usage_in_bytes") or 0
        peak = read_number(f"{directory}/memory.max_usage_in_bytes") or 0
        raise StepError(
            directory,
            f"unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})",
            errno.EBUSY,
        ) from error
    _write_given(f"{directory}/memory.soft_limit_in_bytes", resources.memory_reservation or None)
    if resources.swappiness is not None and 0 <= resources.swappiness <= 100:
        write_text(f"{directory}/memory.swappiness", str(resources.swappiness))
    if resources.disable_oom_killer:
        write_text(f"{directory}/memory.oom_control", "1")


def _apply_cpu(directory: str, resources: Resources) -> None:
    if not directory:
        return
    _write_given(f"{directory}/cpu.shares", resources.cpu_shares or None)
    quota_file, period_file = f"{directory}/cpu.cfs_quota_us", f"{directory}/cpu.cfs_period_us"
    quota, period = resources.cpu_quota or None, resources.cpu_period or None
    if quota is not None and period is not None and quota > 0:
        # The ratio may not exceed the parent's at any moment: no quota while the period changes.
        write_text(quota_file, "-1")
    _write_given(period_file, period)
    _write_given(quota_file, quota)
    if resources.cpu_burst is not None:
        write_text(f"{directory}/cpu.cfs_burst_us", str(resources.cpu_burst))
    if resources.cpu_idle is not None:
        write_text(f"{directory}/cpu.idle", str(resources.cpu_idle))
    _write_given(f"{directory}/cpu.rt_period_us", resources.cpu_realtime_period or None)
    _write_given(f"{directory}/cpu.rt_runtime_us", resources.cpu_realtime_runtime or None)


def _apply_blkio(directory: str, resources: Resources) -> None:
    if not directory:
        return
    if resources.blkio_weight:
        for file in ("blkio.weight", "blkio.bfq.weight"):
            if os.path.exists(f"{directory}/{file}"):
                write_text(f"{directory}/{file}", str(resources.blkio_weight))
                break
    for device in resources.blkio_weight_devices:
        for file in ("blkio.weight_device", "blkio.bfq.weight_device"):
            if os.path.exists(f"{directory}/{file}"):
                line = f"{device.major}:{device.minor} {device.weight}"
                write_text(f"{directory}/{file}", line)
                break
    throttles: tuple[tuple[str, tuple[ThrottleDevice, ...]], ...] = (
        ("read_bps_device", resources.read_bps),
        ("write_bps_device", resources.write_bps),
        ("read_iops_device", resources.read_iops),
        ("write_iops_device", resources.write_iops),
    )
    for name, devices in throttles:
        for throttle in devices:
            line = f"{throttle.major}:{throttle.minor} {throttle.rate}"
            write_text(f"{directory}/blkio.throttle.{name}", line)


def set_frozen(directory: str, *, frozen: bool) -> None:
    """Freeze or thaw, and wait for it; a freeze that a racing fork undoes is tried again."""
    wanted = "FROZEN" if frozen else "THAWED"
    file = f"{directory}/freezer.state"
    for attempt in range(1000):
        if attempt % 50 == 49 and frozen:
            # As runc: a task that cannot be frozen right now gets a chance to move on.
            write_text(file, "THAWED")
            time.sleep(0.01)
        write_text(file, wanted)
        for _ in range(10):
            if read_text(file).strip() == wanted:
                return
            time.sleep(0.001)
    if frozen:
        write_text(file, "THAWED")
    raise OSError(errno.EBUSY, f"unable to make the group {wanted}", directory)


def read_stats(directories: Directories) -> CgroupStats:
    """The counters of all hierarchies."""
    stats = CgroupStats(1)
    cpuacct = directories.get("cpuacct", "")
    if cpuacct:
        stats.cpu_total_ns = read_number(f"{cpuacct}/cpuacct.usage") or 0
        stats.cpu_user_ns = read_number(f"{cpuacct}/cpuacct.usage_user") or 0
        stats.cpu_kernel_ns = read_number(f"{cpuacct}/cpuacct.usage_sys") or 0
        stats.cpu_per_cpu_ns = _read_per_cpu(f"{cpuacct}/cpuacct.usage_percpu")
    cpu = directories.get("cpu", "")
    if cpu:
        table = read_table(f"{cpu}/cpu.stat")
        stats.cpu_periods = table.get("nr_periods", 0)
        stats.cpu_throttled_periods = table.get("nr_throttled", 0)
        stats.cpu_throttled_ns = table.get("throttled_time", 0)
    memory = directories.get("memory", "")
    if memory:
        stats.memory_usage = read_number(f"{memory}/memory.usage_in_bytes") or 0
        stats.memory_peak = read_number(f"{memory}/memory.max_usage_in_bytes") or 0
        stats.memory_limit = read_number(f"{memory}/memory.limit_in_bytes") or 0
        stats.memory_failures = read_number(f"{memory}/memory.failcnt") or 0
        stats.memory_stat = read_table(f"{memory}/memory.stat")
    pids = directories.get("pids", "")
    if pids:
        stats.pids_current = read_number(f"{pids}/pids.current") or 0
        stats.pids_limit = read_number(f"{pids}/pids.max") or 0
    blkio = directories.get("blkio", "")
    if blkio:
        stats.blkio_bytes = _read_block(f"{blkio}/blkio.throttle.io_service_bytes_recursive")
        stats.blkio_operations = _read_block(f"{blkio}/blkio.throttle.io_serviced_recursive")
    return stats


def _read_per_cpu(path: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in read_text(path).split())
    except OSError:
        return ()


def _read_block(path: str) -> list[BlockEntry]:
    try:
        lines = read_text(path).splitlines()
    except OSError:
        return []
    entries = []
    for line in lines:
        fields = line.split()
        if len(fields) == 3 and ":" in fields[0]:
            major, minor = fields[0].split(":")
            entries.append(BlockEntry(int(major), int(minor), fields[1], int(fields[2])))
    return entries


def _write_given(path: str, value: int | str | None) -> None:
    if value is not None:
        write_text(path, str(value))
