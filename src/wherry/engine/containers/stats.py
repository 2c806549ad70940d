"""`docker stats`: a container's counters from its cgroup, its network namespace and the machine."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping

from wherry.engine.clock import ZERO_TIME, format_time
from wherry.engine.containers import state
from wherry.engine.containers.handle import ContainerHandle
from wherry.engine.containers.host_side import cgroup_path
from wherry.engine.settings import EngineSettings
from wherry.lib.blocking import run_blocking
from wherry.model.container import Container
from wherry.model.views import (
    BlkioEntry,
    BlkioStats,
    ContainerStats,
    CpuStats,
    InterfaceStats,
    MemoryStats,
)
from wherry.runtime.cgroups import CgroupStats, open_cgroup

_INTERVAL_S = 1.0


class Statistics:
    """Samples containers."""

    def __init__(self, *, settings: EngineSettings) -> None:
        self._settings = settings

    def stats(
        self, handle: ContainerHandle, *, stream: bool, one_shot: bool
    ) -> AsyncIterator[ContainerStats]:
        """A sample per second while the container exists, or a single one (after a second unless one_shot)."""
        return self._iterate(handle, stream=stream, one_shot=one_shot)

    async def _iterate(
        self, handle: ContainerHandle, *, stream: bool, one_shot: bool
    ) -> AsyncIterator[ContainerStats]:
        previous: ContainerStats | None = None
        if not stream and not one_shot and handle.record.state.status in state.ALIVE:
            previous = await self._sample(handle.record, None)
            await asyncio.sleep(_INTERVAL_S)
        while True:
            sample = await self._sample(handle.record, previous)
            yield sample
            if not stream or handle.removing:
                return
            previous = sample if sample.running else None
            await asyncio.sleep(_INTERVAL_S)

    async def _sample(self, record: Container, previous: ContainerStats | None) -> ContainerStats:
        if record.state.status not in state.ALIVE:
            return _empty(record)
        try:
            return await run_blocking(
                _read_sample, record, cgroup_path(self._settings, record), previous
            )
        except OSError:
            return _empty(record)  # it has just ended


def _empty(record: Container) -> ContainerStats:
    return ContainerStats(
        id=record.id, name=record.name, read=ZERO_TIME, pre_read=ZERO_TIME, running=False
    )


def _read_sample(record: Container, path: str, previous: ContainerStats | None) -> ContainerStats:
    counters = open_cgroup(path).stats()
    moment = format_time(time.time_ns())
    return ContainerStats(
        id=record.id,
        name=record.name,
        read=moment,
        pre_read=previous.read if previous is not None else ZERO_TIME,
        pids_current=counters.pids_current,
        pids_limit=counters.pids_limit,
        cpu=_cpu(counters),
        pre_cpu=previous.cpu if previous is not None else CpuStats(),
        memory=_memory(counters),
        blkio=_blkio(counters),
        networks=(
            read_interfaces(record.state.pid) if record.host_config.network_mode != "host" else None
        ),
    )


def _cpu(counters: CgroupStats) -> CpuStats:
    return CpuStats(
        total_ns=counters.cpu_total_ns,
        kernel_ns=counters.cpu_kernel_ns,
        user_ns=counters.cpu_user_ns,
        per_cpu_ns=counters.cpu_per_cpu_ns,
        system_ns=read_system_cpu_ns(),
        online_cpus=os.cpu_count() or 1,
        periods=counters.cpu_periods,
        throttled_periods=counters.cpu_throttled_periods,
        throttled_ns=counters.cpu_throttled_ns,
    )


def _memory(counters: CgroupStats) -> MemoryStats:
    limit = counters.memory_limit
    total = read_total_memory()
    return MemoryStats(
        usage=counters.memory_usage,
        max_usage=counters.memory_peak,
        failcnt=counters.memory_failures,
        limit=min(limit, total) if limit else total,
        stats=counters.memory_stat,
    )


def _blkio(counters: CgroupStats) -> BlkioStats:
    return BlkioStats(
        io_service_bytes_recursive=tuple(
            BlkioEntry(major=e.major, minor=e.minor, op=e.operation, value=e.value)
            for e in counters.blkio_bytes
        ),
        io_serviced_recursive=tuple(
            BlkioEntry(major=e.major, minor=e.minor, op=e.operation, value=e.value)
            for e in counters.blkio_operations
        ),
    )


def read_system_cpu_ns() -> int:
    """What all processors of the machine have done (the first line of /proc/stat, without guests)."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = sum(int(field) for field in file.readline().split()[1:9])
    return ticks * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def read_total_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def read_interfaces(pid: int) -> Mapping[str, InterfaceStats]:
    """Counters of a process's network namespace, without `lo`."""
    with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
        return parse_interfaces(file.read())


def parse_interfaces(text: str) -> Mapping[str, InterfaceStats]:
    """/proc/net/dev as records."""
    found: dict[str, InterfaceStats] = {}
    for line in text.splitlines()[2:]:
        name, separator, numbers = line.partition(":")
        name = name.strip()
        if not separator or name == "lo":
            continue
        values = [int(number) for number in numbers.split()]
        found[name] = InterfaceStats(
            rx_bytes=values[0],
            rx_packets=values[1],
            rx_errors=values[2],
            rx_dropped=values[3],
            tx_bytes=values[8],
            tx_packets=values[9],
            tx_errors=values[10],
            tx_dropped=values[11],
        )
    return found
