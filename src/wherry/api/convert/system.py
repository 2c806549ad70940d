"""The engine itself: model views → the Engine API's JSON."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from wherry.model.event import Event
from wherry.model.views import (
    BlkioEntry,
    ContainerStats,
    CpuStats,
    MemoryStats,
    SystemInfo,
    VersionInfo,
)
from wherry.wire import system as wire

_INDEX = "https://index.docker.io/v1/"
_LOG_DRIVERS = ["json-file", "local"]
_NETWORK_DRIVERS = ["bridge", "host", "null"]


def build_version(version: VersionInfo) -> wire.Version:
    """GET /version. The interpreter's version stands in GoVersion, which clients print as it is."""
    return wire.Version(
        platform=wire.PlatformName(name="wherry"),
        components=[
            wire.Component(
                name="Engine",
                version=version.version,
                details={
                    "ApiVersion": version.api_version,
                    "Arch": version.arch,
                    "BuildTime": version.build_time,
                    "Experimental": "false",
                    "GitCommit": version.git_commit,
                    "GoVersion": version.python_version,
                    "KernelVersion": version.kernel_version,
                    "MinAPIVersion": version.min_api_version,
                    "Os": version.os,
                },
            )
        ],
        version=version.version,
        api_version=version.api_version,
        min_api_version=version.min_api_version,
        git_commit=version.git_commit,
        go_version=version.python_version,
        os=version.os,
        arch=version.arch,
        kernel_version=version.kernel_version,
        build_time=version.build_time,
    )


def build_info(info: SystemInfo) -> wire.Info:
    """GET /info."""
    return wire.Info(
        id=info.id,
        containers=info.containers,
        containers_running=info.containers_running,
        containers_paused=info.containers_paused,
        containers_stopped=info.containers_stopped,
        images=info.images,
        driver=info.driver,
        driver_status=list(info.driver_status),
        plugins=wire.Plugins(
            volume=["local"], network=_NETWORK_DRIVERS, authorization=None, log=_LOG_DRIVERS
        ),
        memory_limit=info.memory_limit,
        swap_limit=info.swap_limit,
        kernel_memory_tcp=True if info.memory_limit and info.cgroup_version == "1" else UNSET,
        cpu_cfs_period=info.cpu_cfs_period,
        cpu_cfs_quota=info.cpu_cfs_quota,
        cpu_shares=info.cpu_shares,
        cpu_set=info.cpu_set,
        pids_limit=info.pids_limit,
        ipv4_forwarding=info.ipv4_forwarding,
        debug=info.debug,
        n_fd=info.n_fd,
        oom_kill_disable=info.oom_kill_disable,
        n_goroutines=info.n_goroutines,
        system_time=info.system_time,
        logging_driver="json-file",
        cgroup_driver=info.cgroup_driver,
        cgroup_version=info.cgroup_version,
        n_events_listener=info.n_events_listener,
        kernel_version=info.kernel_version,
        operating_system=info.operating_system,
        os_version=info.os_version,
        os_type=info.os_type,
        architecture=info.architecture,
        index_server_address=_INDEX,
        registry_config=_build_registries(info),
        ncpu=info.ncpu,
        mem_total=info.mem_total,
        docker_root_dir=info.docker_root_dir,
        http_proxy=info.http_proxy,
        https_proxy=info.https_proxy,
        no_proxy=info.no_proxy,
        name=info.name,
        labels=list(info.labels),
        server_version=info.server_version,
        runtimes={name: wire.Runtime(path=name) for name in info.runtimes},
        default_runtime=info.default_runtime,
        live_restore_enabled=info.live_restore_enabled,
        init_binary=info.init_binary,
        security_options=list(info.security_options),
        default_address_pools=[
            wire.AddressPool(base=base, size=size) for base, size in info.default_address_pools
        ]
        or UNSET,
        firewall_backend=wire.FirewallBackend(driver=info.firewall_backend)
        if info.firewall_backend
        else UNSET,
        warnings=list(info.warnings) or None,
    )


def _build_registries(info: SystemInfo) -> wire.RegistryConfig:
    indexes = {
        "docker.io": wire.IndexConfig(
            mirrors=list(info.registry_mirrors), name="docker.io", official=True, secure=True
        )
    }
    networks = []
    for registry in info.insecure_registries:
        if "/" in registry:
            networks.append(registry)
        else:
            indexes[registry] = wire.IndexConfig(
                mirrors=[], name=registry, official=False, secure=False
            )
    return wire.RegistryConfig(
        index_configs=indexes,
        insecure_registry_cidrs=[*networks, "::1/128", "127.0.0.0/8"],
        mirrors=list(info.registry_mirrors) or None,
    )


def build_event(event: Event) -> wire.Event:
    """One line of GET /events; containers and images also have the fields of the oldest clients."""
    line = wire.Event(
        type=event.type,
        action=event.action,
        actor=wire.Actor(id=event.actor_id, attributes=dict(event.attributes)),
        scope="local",
        time=event.time_ns // 1_000_000_000,
        time_nano=event.time_ns,
    )
    if event.type in {"container", "image"}:
        line.status = event.action
        line.id = event.actor_id
    if event.type == "container":
        line.from_ = event.attributes.get("image") or UNSET
    return line


def build_stats(stats: ContainerStats, *, one_shot: bool = False) -> wire.Stats:
    """One sample of GET /containers/{id}/stats; Docker names the container in all but a one-shot."""
    blkio = stats.blkio
    # Docker fills all eight lists on cgroup v1 (empty without traffic) and leaves them null on v2.
    rest: list[wire.BlkioEntry] | None = [] if stats.cpu.per_cpu_ns else None
    return wire.Stats(
        name=UNSET if one_shot else f"/{stats.name}",
        id=UNSET if one_shot else stats.id,
        read=stats.read,
        preread=stats.pre_read,
        pids_stats=wire.PidsStats(
            current=stats.pids_current or UNSET, limit=stats.pids_limit or UNSET
        ),
        blkio_stats=wire.BlkioStats(
            io_service_bytes_recursive=_build_blkio(blkio.io_service_bytes_recursive),
            io_serviced_recursive=_build_blkio(blkio.io_serviced_recursive),
            io_queue_recursive=rest,
            io_service_time_recursive=rest,
            io_wait_time_recursive=rest,
            io_merged_recursive=rest,
            io_time_recursive=rest,
            sectors_recursive=rest,
        ),
        cpu_stats=_build_cpu(stats.cpu),
        precpu_stats=_build_cpu(stats.pre_cpu),
        memory_stats=_build_memory(stats.memory),
        networks=UNSET
        if stats.networks is None
        else {
            name: wire.InterfaceStats(
                rx_bytes=counters.rx_bytes,
                rx_packets=counters.rx_packets,
                rx_errors=counters.rx_errors,
                rx_dropped=counters.rx_dropped,
                tx_bytes=counters.tx_bytes,
                tx_packets=counters.tx_packets,
                tx_errors=counters.tx_errors,
                tx_dropped=counters.tx_dropped,
            )
            for name, counters in stats.networks.items()
        },
    )


def _build_blkio(entries: Sequence[BlkioEntry] | None) -> list[wire.BlkioEntry] | None:
    if entries is None:
        return None
    return [
        wire.BlkioEntry(major=entry.major, minor=entry.minor, op=entry.op, value=entry.value)
        for entry in entries
    ]


def _build_cpu(cpu: CpuStats) -> wire.CpuStats:
    return wire.CpuStats(
        cpu_usage=wire.CpuUsage(
            total_usage=cpu.total_ns,
            percpu_usage=list(cpu.per_cpu_ns) or UNSET,
            usage_in_kernelmode=cpu.kernel_ns,
            usage_in_usermode=cpu.user_ns,
        ),
        system_cpu_usage=cpu.system_ns or UNSET,
        online_cpus=cpu.online_cpus or UNSET,
        throttling_data=wire.ThrottlingData(
            periods=cpu.periods,
            throttled_periods=cpu.throttled_periods,
            throttled_time=cpu.throttled_ns,
        ),
    )


def _build_memory(memory: MemoryStats) -> wire.MemoryStats:
    return wire.MemoryStats(
        usage=memory.usage or UNSET,
        max_usage=memory.max_usage or UNSET,
        stats=dict(memory.stats) or UNSET,
        failcnt=memory.failcnt or UNSET,
        limit=memory.limit or UNSET,
    )
