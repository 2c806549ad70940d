"""The engine itself in the Engine API's JSON: info, version, disk usage, statistics, events."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field

from wherry.wire.containers import Summary as ContainerSummary
from wherry.wire.images import Summary as ImageSummary
from wherry.wire.volumes import Volume


class ErrorResponse(Struct):
    """The body of every error."""

    message: str


class PlatformName(Struct, kw_only=True, rename="pascal"):
    """The product's name."""

    name: str = ""


class Component(Struct, kw_only=True, rename="pascal"):
    """A part of the engine with its version."""

    name: str
    version: str
    details: dict[str, str]


class Version(Struct, kw_only=True, rename="pascal"):
    """GET /version."""

    platform: PlatformName
    components: list[Component]
    version: str
    api_version: str
    min_api_version: str = field(name="MinAPIVersion")
    git_commit: str
    go_version: str
    os: str
    arch: str
    kernel_version: str
    experimental: bool | UnsetType = UNSET
    build_time: str


class Plugins(Struct, kw_only=True, rename="pascal"):
    """Drivers by kind."""

    volume: list[str]
    network: list[str]
    authorization: list[str] | None
    log: list[str]


class IndexConfig(Struct, kw_only=True, rename="pascal"):
    """A registry."""

    mirrors: list[str]
    name: str
    official: bool
    secure: bool


class RegistryConfig(Struct, kw_only=True, rename="pascal"):
    """The registries' options."""

    index_configs: dict[str, IndexConfig]
    insecure_registry_cidrs: list[str] = field(name="InsecureRegistryCIDRs")
    mirrors: list[str] | None
    # Both API < 1.47
    allow_nondistributable_artifacts_cidrs: None | UnsetType = field(
        name="AllowNondistributableArtifactsCIDRs", default=UNSET
    )
    allow_nondistributable_artifacts_hostnames: None | UnsetType = UNSET


class Runtime(Struct, kw_only=True):
    """An OCI runtime."""

    path: str | UnsetType = UNSET


class Swarm(Struct, kw_only=True, rename="pascal"):
    """There is no swarm."""

    node_id: str = field(name="NodeID", default="")
    node_addr: str = ""
    local_node_state: str = "inactive"
    control_available: bool = False
    error: str = ""
    remote_managers: list[str] | None = None


class Commit(Struct, kw_only=True):
    """The commit of a helper program."""

    id: str = field(name="ID", default="")
    expected: str | UnsetType = field(name="Expected", default=UNSET)  # API < 1.49


class AddressPool(Struct, kw_only=True, rename="pascal"):
    """Where subnets of new networks come from."""

    base: str
    size: int


class FirewallBackend(Struct, kw_only=True, rename="pascal"):
    """What programs the packet filter."""

    driver: str


class Info(Struct, kw_only=True, rename="pascal"):
    """GET /info."""

    id: str = field(name="ID")
    containers: int
    containers_running: int
    containers_paused: int
    containers_stopped: int
    images: int
    driver: str
    driver_status: list[tuple[str, str]]
    plugins: Plugins
    memory_limit: bool
    swap_limit: bool
    kernel_memory: bool | UnsetType = UNSET  # API < 1.42
    kernel_memory_tcp: bool | UnsetType = field(name="KernelMemoryTCP", default=UNSET)
    cpu_cfs_period: bool
    cpu_cfs_quota: bool
    cpu_shares: bool = field(name="CPUShares")
    cpu_set: bool = field(name="CPUSet")
    pids_limit: bool
    ipv4_forwarding: bool = field(name="IPv4Forwarding")
    # API < 1.50
    bridge_nf_iptables: bool | UnsetType = field(name="BridgeNfIptables", default=UNSET)
    bridge_nf_ip6tables: bool | UnsetType = field(name="BridgeNfIp6tables", default=UNSET)
    debug: bool
    n_fd: int = field(name="NFd")
    oom_kill_disable: bool
    n_goroutines: int = field(name="NGoroutines")
    system_time: str
    logging_driver: str
    cgroup_driver: str
    cgroup_version: str
    n_events_listener: int = field(name="NEventsListener")
    kernel_version: str
    operating_system: str
    os_version: str = field(name="OSVersion")
    os_type: str = field(name="OSType")
    architecture: str
    index_server_address: str
    registry_config: RegistryConfig
    ncpu: int = field(name="NCPU")
    mem_total: int
    generic_resources: list[str] | None = None
    docker_root_dir: str
    http_proxy: str
    https_proxy: str
    no_proxy: str
    name: str
    labels: list[str]
    experimental_build: bool = False
    server_version: str
    runtimes: dict[str, Runtime]
    default_runtime: str
    swarm: Swarm = field(default_factory=Swarm)
    live_restore_enabled: bool
    isolation: str = ""
    init_binary: str
    containerd_commit: Commit = field(default_factory=Commit)
    runc_commit: Commit = field(default_factory=Commit)
    init_commit: Commit = field(default_factory=Commit)
    security_options: list[str]
    default_address_pools: list[AddressPool] | UnsetType = UNSET
    firewall_backend: FirewallBackend | UnsetType = UNSET
    cdi_spec_dirs: list[str] = field(name="CDISpecDirs", default_factory=list)
    warnings: list[str] | None


class BuildCacheRecord(Struct, kw_only=True, rename="pascal"):
    """One record of the build cache."""

    id: str = field(name="ID")
    # With a space, as in dockerd 28 and its clients.
    parents: list[str] | UnsetType = field(name=" Parents", default=UNSET)
    type: str
    description: str
    in_use: bool
    shared: bool
    size: int
    created_at: str
    last_used_at: str | None
    usage_count: int


class DiskUsage(Struct, kw_only=True, rename="pascal"):
    """GET /system/df; what was not asked for is null."""

    layers_size: int = 0
    images: list[ImageSummary] | None = None
    containers: list[ContainerSummary] | None = None
    volumes: list[Volume] | None = None
    build_cache: list[BuildCacheRecord] | None = None
    builder_size: int | UnsetType = UNSET  # API < 1.42


class Actor(Struct, kw_only=True, rename="pascal"):
    """What an event is about."""

    id: str = field(name="ID")
    attributes: dict[str, str]


class Event(Struct, kw_only=True):
    """One line of GET /events; the first three are Docker's older names of the same."""

    status: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    from_: str | UnsetType = field(name="from", default=UNSET)
    type: str = field(name="Type")
    action: str = field(name="Action")
    actor: Actor = field(name="Actor")
    scope: str | UnsetType = UNSET
    time: int
    time_nano: int = field(name="timeNano")


class PidsStats(Struct, kw_only=True):
    """Processes."""

    current: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET


class BlkioEntry(Struct, kw_only=True):
    """A counter of a block device."""

    major: int
    minor: int
    op: str
    value: int


class BlkioStats(Struct, kw_only=True):
    """Block I/O; most lists exist on cgroup v1 only and are null on v2."""

    io_service_bytes_recursive: list[BlkioEntry] | None
    io_serviced_recursive: list[BlkioEntry] | None
    io_queue_recursive: list[BlkioEntry] | None
    io_service_time_recursive: list[BlkioEntry] | None
    io_wait_time_recursive: list[BlkioEntry] | None
    io_merged_recursive: list[BlkioEntry] | None
    io_time_recursive: list[BlkioEntry] | None
    sectors_recursive: list[BlkioEntry] | None


class StorageStats(Struct, kw_only=True):
    """Windows only."""


class CpuUsage(Struct, kw_only=True):
    """Processor time, in nanoseconds."""

    total_usage: int
    percpu_usage: list[int] | UnsetType = UNSET
    usage_in_kernelmode: int
    usage_in_usermode: int


class ThrottlingData(Struct, kw_only=True):
    """Throttling by the CFS quota."""

    periods: int
    throttled_periods: int
    throttled_time: int


class CpuStats(Struct, kw_only=True):
    """Processor use of a container and of the machine."""

    cpu_usage: CpuUsage
    system_cpu_usage: int | UnsetType = UNSET
    online_cpus: int | UnsetType = UNSET
    throttling_data: ThrottlingData


class MemoryStats(Struct, kw_only=True):
    """Memory use."""

    usage: int | UnsetType = UNSET
    max_usage: int | UnsetType = UNSET
    stats: dict[str, int] | UnsetType = UNSET
    failcnt: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET


class InterfaceStats(Struct, kw_only=True):
    """Counters of an interface."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


class Stats(Struct, kw_only=True):
    """One sample of GET /containers/{id}/stats."""

    name: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    read: str
    preread: str
    pids_stats: PidsStats
    blkio_stats: BlkioStats
    num_procs: int = 0
    storage_stats: StorageStats = field(default_factory=StorageStats)
    cpu_stats: CpuStats
    precpu_stats: CpuStats
    memory_stats: MemoryStats
    networks: dict[str, InterfaceStats] | UnsetType = UNSET


class JsonErrorDetail(Struct, kw_only=True):
    """An error in a stream."""

    message: str
    code: int | UnsetType = UNSET


class ProgressDetail(Struct, kw_only=True):
    """How far a step has come."""

    current: int | UnsetType = UNSET
    total: int | UnsetType = UNSET


class StreamLine(Struct, kw_only=True):
    """One line of a JSON stream (pull, push, load, import, build)."""

    stream: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    progress_detail: ProgressDetail | UnsetType = field(name="progressDetail", default=UNSET)
    progress: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    error_detail: JsonErrorDetail | UnsetType = field(name="errorDetail", default=UNSET)
    error: str | UnsetType = UNSET
