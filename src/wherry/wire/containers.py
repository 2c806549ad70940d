"""Containers and execs in the Engine API's JSON, in dockerd's order of fields."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field

from wherry.wire.networks import EndpointSettings

StrSlice = str | list[str] | None
Empty = dict[str, dict[str, str]]


class HealthConfig(Struct, kw_only=True, rename="pascal"):
    """HEALTHCHECK; durations in nanoseconds."""

    test: list[str] | UnsetType = UNSET
    interval: int | UnsetType = UNSET
    timeout: int | UnsetType = UNSET
    start_period: int | UnsetType = UNSET
    start_interval: int | UnsetType = UNSET
    retries: int | UnsetType = UNSET


class ContainerConfig(Struct, kw_only=True, rename="pascal"):
    """The portable half of a container's configuration."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: Empty | UnsetType = UNSET
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: StrSlice = None
    healthcheck: HealthConfig | UnsetType = UNSET
    args_escaped: bool | UnsetType = UNSET
    image: str = ""
    volumes: Empty | None = None
    working_dir: str = ""
    entrypoint: StrSlice = None
    network_disabled: bool | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | UnsetType = UNSET
    stop_timeout: int | UnsetType = UNSET
    shell: StrSlice | UnsetType = UNSET


class LogConfig(Struct, kw_only=True, rename="pascal"):
    """Log driver and options."""

    type: str = ""
    config: dict[str, str] | None = None


class PortBinding(Struct, kw_only=True, rename="pascal"):
    """Where a port is published."""

    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(Struct, kw_only=True, rename="pascal"):
    """When the engine starts a container again."""

    name: str = ""
    maximum_retry_count: int = 0


class WeightDevice(Struct, kw_only=True, rename="pascal"):
    """Block I/O weight."""

    path: str = ""
    weight: int = 0


class ThrottleDevice(Struct, kw_only=True, rename="pascal"):
    """Block I/O rate."""

    path: str = ""
    rate: int = 0


class Device(Struct, kw_only=True, rename="pascal"):
    """A device of this machine."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Struct, kw_only=True, rename="pascal"):
    """A device asked for by capabilities (`--gpus`)."""

    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = field(name="DeviceIDs", default=None)
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Ulimit(Struct, kw_only=True, rename="pascal"):
    """A resource limit."""

    name: str = ""
    hard: int = 0
    soft: int = 0


class BindOptions(Struct, kw_only=True, rename="pascal"):
    """Options of a bind mount."""

    propagation: str | UnsetType = UNSET
    non_recursive: bool | UnsetType = UNSET
    create_mountpoint: bool | UnsetType = UNSET
    read_only_non_recursive: bool | UnsetType = UNSET
    read_only_force_recursive: bool | UnsetType = UNSET


class VolumeDriver(Struct, kw_only=True, rename="pascal"):
    """Driver of a volume mount."""

    name: str | UnsetType = UNSET
    options: dict[str, str] | UnsetType = UNSET


class VolumeOptions(Struct, kw_only=True, rename="pascal"):
    """Options of a volume mount."""

    no_copy: bool | UnsetType = UNSET
    labels: dict[str, str] | UnsetType = UNSET
    subpath: str | UnsetType = UNSET
    driver_config: VolumeDriver | UnsetType = UNSET


class TmpfsOptions(Struct, kw_only=True, rename="pascal"):
    """Options of a tmpfs mount."""

    size_bytes: int | UnsetType = UNSET
    mode: int | UnsetType = UNSET
    options: list[list[str]] | UnsetType = UNSET


class ImageOptions(Struct, kw_only=True, rename="pascal"):
    """Options of an image mount."""

    subpath: str | UnsetType = UNSET


class Mount(Struct, kw_only=True, rename="pascal"):
    """One `--mount`."""

    type: str | UnsetType = UNSET
    source: str | UnsetType = UNSET
    target: str | UnsetType = UNSET
    read_only: bool | UnsetType = UNSET
    consistency: str | UnsetType = UNSET
    bind_options: BindOptions | UnsetType = UNSET
    volume_options: VolumeOptions | UnsetType = UNSET
    image_options: ImageOptions | UnsetType = UNSET
    tmpfs_options: TmpfsOptions | UnsetType = UNSET


class HostConfig(Struct, kw_only=True, rename="pascal"):
    """The half of a container's configuration that belongs to this machine; also the body of an update.

    The limits stand between the other fields because Go embeds its struct Resources there.
    """

    binds: list[str] | None = None
    container_id_file: str = field(name="ContainerIDFile", default="")
    log_config: LogConfig = field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: tuple[int, int] = (0, 0)
    annotations: dict[str, str] | UnsetType = UNSET
    cap_add: StrSlice = None
    cap_drop: StrSlice = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | UnsetType = UNSET
    tmpfs: dict[str, str] | UnsetType = UNSET
    uts_mode: str = field(name="UTSMode", default="")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | UnsetType = UNSET
    runtime: str = ""
    isolation: str = ""
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = field(
        name="BlkioDeviceReadIOps", default=None
    )
    blkio_device_write_iops: list[ThrottleDevice] | None = field(
        name="BlkioDeviceWriteIOps", default=None
    )
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[Device] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = field(name="IOMaximumIOps", default=0)
    io_maximum_bandwidth: int = field(name="IOMaximumBandwidth", default=0)
    mounts: list[Mount] | UnsetType = UNSET
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | UnsetType = UNSET


class NetworkingConfig(Struct, kw_only=True, rename="pascal"):
    """Endpoints asked for at create."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class CreateRequest(ContainerConfig, kw_only=True, rename="pascal"):
    """POST /containers/create."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None
    runtime: str = ""  # where docker-py says it; dockerd knows it in HostConfig only


class CreateResponse(Struct, kw_only=True, rename="pascal"):
    """The new container."""

    id: str
    warnings: list[str] = field(default_factory=list)


class UpdateResponse(Struct, kw_only=True, rename="pascal"):
    """Warnings of an update."""

    warnings: list[str] | None = None


class HealthLog(Struct, kw_only=True, rename="pascal"):
    """One probe."""

    start: str = ""
    end: str = ""
    exit_code: int = 0
    output: str = ""


class Health(Struct, kw_only=True, rename="pascal"):
    """A container's health."""

    status: str = ""
    failing_streak: int = 0
    log: list[HealthLog] | None = None


class State(Struct, kw_only=True, rename="pascal"):
    """Where a container is in its life."""

    status: str
    running: bool
    paused: bool
    restarting: bool
    oom_killed: bool = field(name="OOMKilled")
    dead: bool
    pid: int
    exit_code: int
    error: str
    started_at: str
    finished_at: str
    health: Health | UnsetType = UNSET


class GraphDriver(Struct, kw_only=True, rename="pascal"):
    """Folders of the storage driver."""

    data: dict[str, str] | None = None
    name: str = ""


class MountPoint(Struct, kw_only=True, rename="pascal"):
    """One mount of a container."""

    type: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    source: str = ""
    destination: str = ""
    driver: str | UnsetType = UNSET
    mode: str = ""
    rw: bool = field(name="RW", default=False)
    propagation: str = ""


class Address(Struct, kw_only=True, rename="pascal"):
    """A secondary address; Docker has none any more."""

    addr: str = ""
    prefix_len: int = 0


class NetworkSettings(Struct, kw_only=True, rename="pascal"):
    """The network of a container; the flat fields repeat those of the default bridge."""

    bridge: str = ""
    sandbox_id: str = field(name="SandboxID", default="")
    sandbox_key: str = ""
    ports: dict[str, list[PortBinding] | None] | None = None
    hairpin_mode: bool = False
    link_local_ipv6_address: str = field(name="LinkLocalIPv6Address", default="")
    link_local_ipv6_prefix_len: int = field(name="LinkLocalIPv6PrefixLen", default=0)
    secondary_ip_addresses: list[Address] | None = field(name="SecondaryIPAddresses", default=None)
    secondary_ipv6_addresses: list[Address] | None = field(
        name="SecondaryIPv6Addresses", default=None
    )
    endpoint_id: str = field(name="EndpointID", default="")
    gateway: str = ""
    global_ipv6_address: str = field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = field(name="GlobalIPv6PrefixLen", default=0)
    ip_address: str = field(name="IPAddress", default="")
    ip_prefix_len: int = field(name="IPPrefixLen", default=0)
    ipv6_gateway: str = field(name="IPv6Gateway", default="")
    mac_address: str = ""
    networks: dict[str, EndpointSettings] | None = None


class Inspect(Struct, kw_only=True, rename="pascal"):
    """GET /containers/{id}/json."""

    id: str
    created: str
    path: str
    args: list[str]
    state: State
    image: str
    resolv_conf_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    log_path: str = ""
    name: str = ""
    restart_count: int = 0
    driver: str = ""
    platform: str = "linux"
    mount_label: str = ""
    process_label: str = ""
    app_armor_profile: str = ""
    exec_ids: list[str] | None = field(name="ExecIDs", default=None)
    host_config: HostConfig
    graph_driver: GraphDriver
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET
    mounts: list[MountPoint]
    config: ContainerConfig
    network_settings: NetworkSettings


class Port(Struct, kw_only=True, rename="pascal"):
    """A port in a list of containers."""

    ip: str | UnsetType = field(name="IP", default=UNSET)
    private_port: int = 0
    public_port: int | UnsetType = UNSET
    type: str = ""


class SummaryHostConfig(Struct, kw_only=True, rename="pascal"):
    """The host configuration as lists show it."""

    network_mode: str | UnsetType = UNSET
    annotations: dict[str, str] | UnsetType = UNSET


class SummaryNetworks(Struct, kw_only=True, rename="pascal"):
    """The networks as lists show them."""

    networks: dict[str, EndpointSettings]


class Summary(Struct, kw_only=True, rename="pascal"):
    """One row of GET /containers/json."""

    id: str
    names: list[str]
    image: str
    image_id: str = field(name="ImageID")
    command: str
    created: int
    ports: list[Port]
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET
    labels: dict[str, str]
    state: str
    status: str
    host_config: SummaryHostConfig
    network_settings: SummaryNetworks
    mounts: list[MountPoint]


class WaitError(Struct, kw_only=True, rename="pascal"):
    """Why a wait did not end well."""

    message: str


class WaitResponse(Struct, kw_only=True, rename="pascal"):
    """How a container ended."""

    error: WaitError | UnsetType = UNSET
    status_code: int


class TopResponse(Struct, kw_only=True, rename="pascal"):
    """Processes of a container."""

    processes: list[list[str]]
    titles: list[str]


class Change(Struct, kw_only=True, rename="pascal"):
    """What differs from the image; kind 0 modified, 1 added, 2 deleted."""

    path: str
    kind: int


class PathStat(Struct, kw_only=True):
    """X-Docker-Container-Path-Stat, before base64; `mode` is Go's os.FileMode."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str = field(name="linkTarget", default="")


class PruneReport(Struct, kw_only=True, rename="pascal"):
    """POST /containers/prune."""

    containers_deleted: list[str] | None
    space_reclaimed: int


class ExecCreateRequest(Struct, kw_only=True, rename="pascal"):
    """POST /containers/{id}/exec."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: StrSlice = None


class IdResponse(Struct, kw_only=True, rename="pascal"):
    """An id alone."""

    id: str


class ExecStartRequest(Struct, kw_only=True, rename="pascal"):
    """POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None


class ExecProcessConfig(Struct, kw_only=True):
    """The program of an exec."""

    tty: bool
    entrypoint: str
    arguments: list[str]
    privileged: bool | UnsetType = UNSET
    user: str | UnsetType = UNSET


class ExecInspect(Struct, kw_only=True, rename="pascal"):
    """GET /exec/{id}/json."""

    id: str = field(name="ID")
    running: bool
    exit_code: int | None
    process_config: ExecProcessConfig
    open_stdin: bool
    open_stderr: bool
    open_stdout: bool
    can_remove: bool = False
    container_id: str = field(name="ContainerID")
    detach_keys: str
    pid: int
