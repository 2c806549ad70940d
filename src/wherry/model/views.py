"""What services answer beyond the stored records: summaries, details, statistics, reports.

Frozen records without behaviour; field names are Docker's in snake case where Docker has the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wherry.model.container import Container, ContainerId, ExecId


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSummary:
    """One row of `docker ps`; `status` is the sentence ("Up 5 minutes (healthy)"), `image` how it is called now."""

    container: Container
    status: str
    image: str
    link_paths: tuple[str, ...] = ()  # "/parent/alias"
    size_rw: int | None = None  # None = not asked for
    size_root_fs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDetails:
    """What `docker inspect` shows beside the record."""

    container: Container
    links: tuple[str, ...] = ()  # "/child:/parent/alias"
    exec_ids: tuple[ExecId, ...] = ()
    log_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    resolv_conf_path: str = ""
    graph_driver: str = "overlay2"
    graph_data: Mapping[str, str] = field(default_factory=dict)
    image_manifest: str = ""
    size_rw: int | None = None
    size_root_fs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitResult:
    """How a container ended; `error` is empty for an ordinary end."""

    exit_code: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What a prune removed."""

    deleted: tuple[str, ...] = ()
    reclaimed_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTable:
    """`docker top`: the titles of `ps` and a row per process of the container."""

    titles: tuple[str, ...]
    processes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStat:
    """A path inside a container, as `X-Docker-Container-Path-Stat` shows it; `mode` is Go's os.FileMode."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuStats:
    """Processor use; times in nanoseconds. `system_ns` and `online_cpus` belong to the machine."""

    total_ns: int = 0
    kernel_ns: int = 0
    user_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()
    system_ns: int = 0
    online_cpus: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStats:
    """Memory use in bytes; `stats` holds memory.stat as the kernel names it."""

    usage: int = 0
    max_usage: int = 0
    failcnt: int = 0
    limit: int = 0
    stats: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlkioEntry:
    """One counter of one block device."""

    major: int
    minor: int
    op: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlkioStats:
    """Block input and output; None = the cgroup version has no such counter."""

    io_service_bytes_recursive: tuple[BlkioEntry, ...] | None = None
    io_serviced_recursive: tuple[BlkioEntry, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceStats:
    """Counters of one network interface, as seen from inside the container."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStats:
    """One sample of `docker stats`. `read` is 0001-01-01T00:00:00Z for a container that is not running."""

    id: ContainerId
    name: str
    read: str
    pre_read: str
    pids_current: int = 0
    pids_limit: int = 0
    cpu: CpuStats = field(default_factory=CpuStats)
    pre_cpu: CpuStats = field(default_factory=CpuStats)
    memory: MemoryStats = field(default_factory=MemoryStats)
    blkio: BlkioStats = field(default_factory=BlkioStats)
    networks: Mapping[str, InterfaceStats] | None = None
    running: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemInfo:
    """What `docker info` shows of this engine and machine; lists that are constant live in the API."""

    id: str
    containers: int
    containers_running: int
    containers_paused: int
    containers_stopped: int
    images: int
    driver: str
    driver_status: tuple[tuple[str, str], ...]
    docker_root_dir: str
    name: str
    kernel_version: str
    operating_system: str
    os_version: str
    os_type: str
    architecture: str
    ncpu: int
    mem_total: int
    memory_limit: bool
    swap_limit: bool
    cpu_cfs_period: bool
    cpu_cfs_quota: bool
    cpu_shares: bool
    cpu_set: bool
    pids_limit: bool
    oom_kill_disable: bool
    ipv4_forwarding: bool
    cgroup_driver: str
    cgroup_version: str
    n_fd: int
    n_goroutines: int  # asyncio tasks here
    n_events_listener: int
    system_time: str
    server_version: str
    runtimes: tuple[str, ...]
    default_runtime: str
    init_binary: str
    security_options: tuple[str, ...]
    registry_mirrors: tuple[str, ...]
    insecure_registries: tuple[str, ...]
    default_address_pools: tuple[tuple[str, int], ...]
    http_proxy: str
    https_proxy: str
    no_proxy: str
    labels: tuple[str, ...]
    debug: bool
    live_restore_enabled: bool
    firewall_backend: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """What `docker version` shows of the server."""

    version: str
    api_version: str
    min_api_version: str
    git_commit: str
    python_version: str
    os: str
    arch: str
    kernel_version: str
    build_time: str
