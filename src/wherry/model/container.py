"""Containers as frozen records: what was asked for (`ContainerConfig`, `HostConfig`) and what is (`Container`).

Field names are Docker's in snake case, the same as in `wherry.wire.containers`, so that
`msgspec.convert(wire, type=ContainerConfig, from_attributes=True)` is the whole conversion where shapes agree.
These records are also the persisted form (JSON in state.db). Live things (locks, tasks, sockets) are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

ContainerId = NewType("ContainerId", str)  # 64 hexadecimal digits
ExecId = NewType("ExecId", str)  # 64 hexadecimal digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """Docker's HEALTHCHECK; durations in nanoseconds, 0 = inherit."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerConfig:
    """What runs: the portable half, also stored in images. `None` = not given (an image may supply it)."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    entrypoint: tuple[str, ...] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout: int | None = None  # seconds
    shell: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Log driver and its options."""

    type: str = "json-file"
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """`name`: "no" (or ""), "always", "unless-stopped", "on-failure"."""

    name: str = "no"
    maximum_retry_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PortBinding:
    """Where a container port is published; an empty port asks for an ephemeral one."""

    host_ip: str = ""
    host_port: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A host device given to a container."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """One resource limit; -1 = unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightDevice:
    """Block I/O weight of one device."""

    path: str
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleDevice:
    """Block I/O rate of one device, per second."""

    path: str
    rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BindOptions:
    """Options of a `--mount type=bind`."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeOptions:
    """Options of a `--mount type=volume`."""

    no_copy: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    driver_name: str = ""
    driver_options: Mapping[str, str] = field(default_factory=dict)
    subpath: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TmpfsOptions:
    """Options of a `--mount type=tmpfs`."""

    size_bytes: int = 0
    mode: int = 0
    options: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMountOptions:
    """Options of a `--mount type=image`."""

    subpath: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One `--mount`: type is bind, volume, tmpfs or image."""

    type: str
    target: str
    source: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    image_options: ImageMountOptions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits that `docker update` may change; 0 or None = not given."""

    cpu_shares: int = 0
    memory: int = 0  # bytes
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: tuple[WeightDevice, ...] = ()
    blkio_device_read_bps: tuple[ThrottleDevice, ...] = ()
    blkio_device_write_bps: tuple[ThrottleDevice, ...] = ()
    blkio_device_read_iops: tuple[ThrottleDevice, ...] = ()
    blkio_device_write_iops: tuple[ThrottleDevice, ...] = ()
    cpu_period: int = 0  # microseconds
    cpu_quota: int = 0  # microseconds
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    memory_reservation: int = 0
    memory_swap: int = 0  # memory + swap; -1 = unlimited swap
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: tuple[Ulimit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig(Resources):
    """How it runs on this machine: the half that is not portable."""

    binds: tuple[str, ...] = ()
    container_id_file: str = ""
    log_config: LogConfig = field(default_factory=LogConfig)
    network_mode: str = "default"
    port_bindings: Mapping[str, tuple[PortBinding, ...]] = field(default_factory=dict)
    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    console_size: tuple[int, int] = (0, 0)  # rows, columns
    annotations: Mapping[str, str] = field(default_factory=dict)
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    cgroupns_mode: str = ""
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    ipc_mode: str = ""
    cgroup: str = ""
    links: tuple[str, ...] = ()
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: tuple[str, ...] = ()
    storage_opt: Mapping[str, str] = field(default_factory=dict)
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0  # bytes; 0 = 64 MiB
    sysctls: Mapping[str, str] = field(default_factory=dict)
    runtime: str = ""
    isolation: str = ""
    cpu_count: int = (
        0  # this and the next three are for Windows: kept, as by dockerd, and without effect
    )
    cpu_percent: int = 0
    io_maximum_iops: int = 0
    io_maximum_bandwidth: int = 0
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    init: bool | None = None
    shallow_read_only: bool = False  # a read-only bind's submounts are writable, as before API 1.44
    left_out: tuple[str, ...] = ()  # lists that the client did not send, which Go shows as null


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """What was asked of one network endpoint."""

    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    aliases: tuple[str, ...] | None = None
    links: tuple[str, ...] = ()
    mac_address: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    gw_priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a running container has on one network; empty strings while it is not running."""

    network_id: str
    endpoint_id: str = ""
    gateway: str = ""
    ip_address: str = ""
    ip_prefix_len: int = 0
    ipv6_gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: int = 0
    mac_address: str = ""
    dns_names: tuple[str, ...] | None = None
    config: EndpointConfig = field(default_factory=EndpointConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """One mount as `docker inspect` shows it; `source` is the path on this machine."""

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""


class Status(StrEnum):
    """Docker's container states."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class HealthStatus(StrEnum):
    """Docker's states of a health check."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthResult:
    """One probe; -1 when it could not be run or took too long."""

    start: str
    end: str
    exit_code: int
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the probes say; the last five are kept."""

    status: HealthStatus = HealthStatus.STARTING
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """Where a container is in its life. Times are RFC 3339 with nanoseconds, UTC."""

    status: Status = Status.CREATED
    starting: bool = False  # committed before the spec is sent to a shim (pitfall 8)
    pid: int = 0
    pid_start_time: int = 0  # field 22 of /proc/PID/stat: guards against reused pids
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = "0001-01-01T00:00:00Z"
    finished_at: str = "0001-01-01T00:00:00Z"
    has_been_started: bool = False
    has_been_manually_stopped: bool = False
    restart_count: int = 0
    generation: int = 0  # counts starts; RUN paths carry it (pitfall 13)
    health: Health | None = None  # only with a health check


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container, as stored."""

    id: ContainerId
    name: str  # without the slash
    created: str  # RFC 3339, nanoseconds, UTC
    image_id: str  # sha256:... of the image config, or the id of the host image
    image_ref: str  # as the user gave it
    platform: str = "linux"
    driver: str = "overlay2"
    path: str = ""
    args: tuple[str, ...] = ()
    config: ContainerConfig
    host_config: HostConfig
    networks: Mapping[str, EndpointConfig] = field(
        default_factory=dict
    )  # by network name, as asked
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)  # by network name, as it is
    ports: Mapping[str, tuple[PortBinding, ...]] = field(
        default_factory=dict
    )  # published right now
    mount_points: tuple[MountPoint, ...] = ()
    state: ContainerState = field(default_factory=ContainerState)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecConfig:
    """What was asked of one exec."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[int, int] = (0, 0)
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: tuple[str, ...] = ()
    working_dir: str = ""
    cmd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    """One exec; `exit_code` is None until it has ended."""

    id: ExecId
    container_id: ContainerId
    config: ExecConfig
    running: bool = False
    started: bool = False
    exit_code: int | None = None
    pid: int = 0
