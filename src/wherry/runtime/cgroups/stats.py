"""What a container uses, in one shape for both versions; times in nanoseconds, sizes in bytes."""

from __future__ import annotations


class BlockEntry:
    """One counter of one block device."""

    __slots__ = ("major", "minor", "operation", "value")

    def __init__(self, major: int, minor: int, operation: str, value: int) -> None:
        self.major = major
        self.minor = minor
        self.operation = operation
        self.value = value


class CgroupStats:
    """Counters and gauges; 0 where the machine does not count."""

    __slots__ = (
        "blkio_bytes",
        "blkio_operations",
        "cpu_kernel_ns",
        "cpu_per_cpu_ns",
        "cpu_periods",
        "cpu_throttled_ns",
        "cpu_throttled_periods",
        "cpu_total_ns",
        "cpu_user_ns",
        "memory_failures",
        "memory_limit",
        "memory_peak",
        "memory_stat",
        "memory_usage",
        "pids_current",
        "pids_limit",
        "version",
    )

    def __init__(self, version: int) -> None:
        self.version = version
        self.cpu_total_ns = 0
        self.cpu_user_ns = 0
        self.cpu_kernel_ns = 0
        self.cpu_per_cpu_ns: tuple[int, ...] = ()
        self.cpu_periods = 0
        self.cpu_throttled_periods = 0
        self.cpu_throttled_ns = 0
        self.memory_usage = 0
        self.memory_peak = 0
        self.memory_limit = 0
        self.memory_failures = 0
        self.memory_stat: dict[str, int] = {}
        self.pids_current = 0
        self.pids_limit = 0
        self.blkio_bytes: list[BlockEntry] = []
        self.blkio_operations: list[BlockEntry] = []
