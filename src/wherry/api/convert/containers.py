"""Containers and execs: the Engine API's JSON ↔ model records."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from wherry.api.convert.networks import build_endpoint, parse_endpoint
from wherry.api.message import encode_json
from wherry.engine.containers.security import parse_security_options
from wherry.engine.images.changes import Change
from wherry.lib.detach import parse_detach_keys
from wherry.model.container import (
    Container,
    ContainerConfig,
    ContainerState,
    EndpointConfig,
    Exec,
    ExecConfig,
    Health,
    HostConfig,
    Mount,
    PortBinding,
    Resources,
    RestartPolicy,
    Status,
)
from wherry.model.errors import InvalidArgument, NotSupported
from wherry.model.views import (
    ContainerDetails,
    ContainerSummary,
    PathStat,
    WaitResult,
)
from wherry.wire import containers as wire
from wherry.wire.base import to_plain
from wherry.wire.networks import EndpointSettings

Value = TypeVar("Value")
Record = TypeVar("Record")

_NETWORK_DEFAULT = "default"


def _convert(document: dict[str, object], kind: type[Record]) -> Record:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as exc:
        raise InvalidArgument(f"invalid JSON: {exc}") from exc


def _plain(struct: msgspec.Struct) -> dict[str, object]:
    plain = to_plain(struct)
    assert isinstance(plain, dict)
    return plain


def _words(value: object) -> list[str]:
    """Go's strslice: a string stands for a list of one."""
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) else []


def _keys(value: object) -> tuple[str, ...]:
    return tuple(sorted(value)) if isinstance(value, dict) else ()


# -- JSON → records ------------------------------------------------------------------------------


def parse_config(config: wire.ContainerConfig) -> ContainerConfig:
    """The portable half."""
    plain = _plain(config)
    plain["exposed_ports"] = _keys(plain.get("exposed_ports"))
    plain["volumes"] = _keys(plain.get("volumes"))
    for name in ("cmd", "entrypoint", "shell"):
        if name in plain:
            plain[name] = _words(plain[name])
    return _convert(plain, ContainerConfig)


def parse_host_config(host: wire.HostConfig) -> HostConfig:
    """The machine's half."""
    if host.device_requests:
        request = host.device_requests[0]
        raise NotSupported(
            f'could not select device driver "{request.driver}" with capabilities: '
            f"[{' '.join('[' + ' '.join(names) + ']' for names in request.capabilities or [])}]"
        )
    plain = _plain(host)
    plain["mounts"] = [_parse_mount(mount) for mount in host.mounts or ()]
    plain["left_out"] = [name for name in _NULL_WHEN_LEFT_OUT if getattr(host, name) is None]
    plain["network_mode"] = host.network_mode or _NETWORK_DEFAULT
    if host.memory_swappiness == -1:  # the client's word for "not given"
        del plain["memory_swappiness"]
    plain["restart_policy"] = _parse_restart_policy(host.restart_policy)
    for name in ("cap_add", "cap_drop"):
        plain[name] = _words(plain.get(name))
    return _convert(plain, HostConfig)


def parse_update(body: wire.HostConfig) -> tuple[Resources, RestartPolicy | None]:
    """The body of an update: limits, and a restart policy when it names one."""
    policy = body.restart_policy
    resources = _convert(_plain(body), Resources)
    if not policy.name and not policy.maximum_retry_count:
        return resources, None
    return resources, RestartPolicy(
        name=policy.name, maximum_retry_count=policy.maximum_retry_count
    )


def _parse_restart_policy(policy: wire.RestartPolicy) -> dict[str, object]:
    return {
        "name": policy.name or "no",
        "maximum_retry_count": policy.maximum_retry_count,
    }


def _parse_mount(mount: wire.Mount) -> dict[str, object]:
    plain = _plain(mount)
    plain.setdefault("type", "")
    plain.setdefault("target", "")
    options = plain.get("volume_options")
    if isinstance(options, dict):
        driver = options.pop("driver_config", None)
        if isinstance(driver, dict):
            options["driver_name"] = driver.get("name", "")
            options["driver_options"] = driver.get("options", {})
    return plain


def parse_networks(networking: wire.NetworkingConfig | None) -> dict[str, EndpointConfig]:
    """What was asked of endpoints, by network."""
    endpoints: dict[str, EndpointConfig] = {}
    asked = networking.endpoints_config if networking is not None else None
    for name, settings in (asked or {}).items():
        if settings is None:
            raise InvalidArgument(f"invalid config for network {name}: EndpointsConfig is nil")
        endpoints[name] = parse_endpoint(settings)
    return endpoints


def parse_exec(body: wire.ExecCreateRequest) -> ExecConfig:
    """What an exec shall run."""
    plain = _plain(body)
    plain["cmd"] = _words(plain.get("cmd"))
    return _convert(plain, ExecConfig)


# -- records → JSON ------------------------------------------------------------------------------


def _or_none(values: Sequence[Value]) -> list[Value] | None:
    return list(values) or None


def _unless_empty(mapping: Mapping[str, str]) -> dict[str, str] | UnsetType:
    return dict(mapping) or UNSET


def _empties(names: Iterable[str]) -> dict[str, dict[str, str]]:
    return {name: {} for name in names}


def build_config(config: ContainerConfig) -> wire.ContainerConfig:
    """The portable half."""
    health = config.healthcheck
    return wire.ContainerConfig(
        hostname=config.hostname,
        domainname=config.domainname,
        user=config.user,
        attach_stdin=config.attach_stdin,
        attach_stdout=config.attach_stdout,
        attach_stderr=config.attach_stderr,
        exposed_ports=_empties(config.exposed_ports) or UNSET,
        tty=config.tty,
        open_stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        env=list(config.env),
        cmd=None if config.cmd is None else list(config.cmd),
        healthcheck=UNSET
        if health is None
        else wire.HealthConfig(
            test=list(health.test) or UNSET,
            interval=health.interval or UNSET,
            timeout=health.timeout or UNSET,
            start_period=health.start_period or UNSET,
            start_interval=health.start_interval or UNSET,
            retries=health.retries or UNSET,
        ),
        args_escaped=config.args_escaped or UNSET,
        image=config.image,
        volumes=_empties(config.volumes) or None,
        working_dir=config.working_dir,
        entrypoint=None if config.entrypoint is None else list(config.entrypoint),
        network_disabled=config.network_disabled or UNSET,
        mac_address=config.mac_address or UNSET,
        on_build=_or_none(config.on_build),
        labels=dict(config.labels),
        stop_signal=config.stop_signal or UNSET,
        stop_timeout=UNSET if config.stop_timeout is None else config.stop_timeout,
        shell=list(config.shell) if config.shell else UNSET,
    )


_NULL_WHEN_EMPTY = frozenset(
    [
        "binds",
        "volumes_from",
        "cap_add",
        "cap_drop",
        "extra_hosts",
        "group_add",
        "links",
        "security_opt",
        "device_cgroup_rules",
    ]
)
_LEFT_OUT_WHEN_EMPTY = frozenset(["annotations", "storage_opt", "tmpfs", "sysctls"])
_NESTED: Mapping[str, object] = {
    "log_config": wire.LogConfig,
    "restart_policy": wire.RestartPolicy,
    "blkio_weight_device": list[wire.WeightDevice],
    "blkio_device_read_bps": list[wire.ThrottleDevice],
    "blkio_device_write_bps": list[wire.ThrottleDevice],
    "blkio_device_read_iops": list[wire.ThrottleDevice],
    "blkio_device_write_iops": list[wire.ThrottleDevice],
    "devices": list[wire.Device],
    "ulimits": list[wire.Ulimit],
}
_NULL_WHEN_LEFT_OUT = (
    "port_bindings",
    "dns",
    "dns_options",
    "dns_search",
    "blkio_weight_device",
    "blkio_device_read_bps",
    "blkio_device_write_bps",
    "blkio_device_read_iops",
    "blkio_device_write_iops",
    "devices",
    "ulimits",
)
_BUILT = frozenset(["mounts", "port_bindings", "init", "left_out", "shallow_read_only"])
_COPIED = tuple(
    item.name for item in fields(HostConfig) if item.name not in _BUILT and item.name not in _NESTED
)


def build_host_config(host: HostConfig) -> wire.HostConfig:
    """The machine's half."""
    built = wire.HostConfig(port_bindings=build_ports(host.port_bindings))
    for name in _COPIED:
        value = getattr(host, name)
        if not value and name in _NULL_WHEN_EMPTY:
            value = None
        if value or name not in _LEFT_OUT_WHEN_EMPTY:
            setattr(built, name, value)
    for name, kind in _NESTED.items():
        value = getattr(host, name)
        setattr(built, name, msgspec.convert(value, kind, from_attributes=True) if value else ())
    if host.mounts:
        built.mounts = [_build_mount(mount) for mount in host.mounts]
    if host.init is not None:
        built.init = host.init
    for name in host.left_out:
        if not getattr(host, name):
            setattr(built, name, None)
    return built


def _build_mount(mount: Mount) -> wire.Mount:
    bind, volume = mount.bind_options, mount.volume_options
    tmpfs, image = mount.tmpfs_options, mount.image_options
    built = wire.Mount(
        type=mount.type or UNSET,
        source=mount.source or UNSET,
        target=mount.target or UNSET,
        read_only=mount.read_only or UNSET,
        consistency=mount.consistency or UNSET,
    )
    if bind is not None:
        built.bind_options = wire.BindOptions(
            propagation=bind.propagation or UNSET,
            non_recursive=bind.non_recursive or UNSET,
            create_mountpoint=bind.create_mountpoint or UNSET,
            read_only_non_recursive=bind.read_only_non_recursive or UNSET,
            read_only_force_recursive=bind.read_only_force_recursive or UNSET,
        )
    if volume is not None:
        built.volume_options = wire.VolumeOptions(
            no_copy=volume.no_copy or UNSET,
            labels=_unless_empty(volume.labels),
            subpath=volume.subpath or UNSET,
        )
        if volume.driver_name or volume.driver_options:
            built.volume_options.driver_config = wire.VolumeDriver(
                name=volume.driver_name or UNSET, options=_unless_empty(volume.driver_options)
            )
    if tmpfs is not None:
        built.tmpfs_options = wire.TmpfsOptions(
            size_bytes=tmpfs.size_bytes or UNSET,
            mode=tmpfs.mode or UNSET,
            options=[list(option) for option in tmpfs.options] or UNSET,
        )
    if image is not None:
        built.image_options = wire.ImageOptions(subpath=image.subpath or UNSET)
    return built


def build_ports(
    ports: Mapping[str, tuple[PortBinding, ...]],
) -> dict[str, list[wire.PortBinding] | None]:
    """Bindings by port; null for a port that is only exposed."""
    return {
        port: [
            wire.PortBinding(host_ip=binding.host_ip, host_port=binding.host_port)
            for binding in bindings
        ]
        or None
        for port, bindings in ports.items()
    }


def _build_health(health: Health) -> wire.Health:
    return wire.Health(
        status=health.status,
        failing_streak=health.failing_streak,
        log=[
            wire.HealthLog(
                start=result.start,
                end=result.end,
                exit_code=result.exit_code,
                output=result.output,
            )
            for result in health.log
        ],
    )


def _build_state(state: ContainerState) -> wire.State:
    status = state.status
    return wire.State(
        status=status,
        running=status in {Status.RUNNING, Status.PAUSED, Status.RESTARTING},
        paused=status is Status.PAUSED,
        restarting=status is Status.RESTARTING,
        oom_killed=state.oom_killed,
        dead=status is Status.DEAD,
        pid=state.pid,
        exit_code=state.exit_code,
        error=state.error,
        started_at=state.started_at,
        finished_at=state.finished_at,
        health=UNSET if state.health is None else _build_health(state.health),
    )


def _build_mount_points(container: Container) -> list[wire.MountPoint]:
    return [
        wire.MountPoint(
            type=point.type or UNSET,
            name=point.name or UNSET,
            source=point.source,
            destination=point.destination,
            driver=point.driver or UNSET,
            mode=point.mode,
            rw=point.rw,
            propagation=point.propagation,
        )
        for point in container.mount_points
    ]


def _build_networks(container: Container) -> dict[str, EndpointSettings]:
    networks = {
        name: build_endpoint(config, container.endpoints.get(name))
        for name, config in container.networks.items()
    }
    for name, endpoint in container.endpoints.items():
        if name not in networks:
            networks[name] = build_endpoint(endpoint.config, endpoint)
    return networks


def _build_network_settings(container: Container) -> wire.NetworkSettings:
    networks = _build_networks(container)
    running = container.state.pid > 0
    ports = dict(container.ports)
    if running:
        for port in container.config.exposed_ports:
            ports.setdefault(port if "/" in port else f"{port}/tcp", ())
    settings = wire.NetworkSettings(
        sandbox_id=container.id if running and networks else "",
        sandbox_key=f"/proc/{container.state.pid}/ns/net" if running and networks else "",
        ports=build_ports(ports),
        networks=networks,
    )
    default = networks.get("bridge")
    if default is not None:  # the flat fields repeat the default bridge only
        settings.endpoint_id = default.endpoint_id
        settings.gateway = default.gateway
        settings.global_ipv6_address = default.global_ipv6_address
        settings.global_ipv6_prefix_len = default.global_ipv6_prefix_len
        settings.ip_address = default.ip_address
        settings.ip_prefix_len = default.ip_prefix_len
        settings.ipv6_gateway = default.ipv6_gateway
        settings.mac_address = default.mac_address
    return settings


def _config_with_mac(container: Container) -> wire.ContainerConfig:
    """The field of old clients repeats what was asked of the main network."""
    config = build_config(container.config)
    mode = container.host_config.network_mode
    main = container.networks.get(mode)
    if main is not None and main.mac_address and mode not in {"host", "none"}:
        config.mac_address = main.mac_address
    return config


def build_inspect(details: ContainerDetails) -> wire.Inspect:
    """GET /containers/{id}/json."""
    container = details.container
    started = container.state.has_been_started
    return wire.Inspect(
        id=container.id,
        created=container.created,
        path=container.path,
        args=list(container.args),
        state=_build_state(container.state),
        image=container.image_id,
        resolv_conf_path=details.resolv_conf_path if started else "",
        hostname_path=details.hostname_path if started else "",
        hosts_path=details.hosts_path if started else "",
        log_path=details.log_path if started else "",
        name=f"/{container.name}",
        restart_count=container.state.restart_count,
        driver=container.driver,
        platform=container.platform,
        app_armor_profile=parse_security_options(container.host_config.security_opt).apparmor,
        exec_ids=_or_none(details.exec_ids),
        host_config=build_host_config(replace(container.host_config, links=details.links)),
        graph_driver=wire.GraphDriver(
            data=dict(details.graph_data) or None, name=details.graph_driver
        ),
        size_rw=UNSET if details.size_rw is None else details.size_rw,
        size_root_fs=UNSET if details.size_root_fs is None else details.size_root_fs,
        mounts=_build_mount_points(container),
        config=_config_with_mac(container),
        network_settings=_build_network_settings(container),
    )


def parse_unix_time(text: str) -> int:
    """RFC 3339 with any number of digits → seconds since 1970."""
    whole, dot, _ = text.partition(".")
    try:
        return int(datetime.fromisoformat(f"{whole}Z" if dot else text).timestamp())
    except ValueError:
        return 0


def build_command(container: Container) -> str:
    """What the COMMAND column shows: words joined, quoted where they hold a space."""
    words = [f"'{word}'" if " " in word else word for word in container.args]
    return " ".join([container.path, *words]).strip()


def build_summary(summary: ContainerSummary) -> wire.Summary:
    """One row of GET /containers/json."""
    container = summary.container
    networks = _build_networks(container)
    for settings in networks.values():  # a list shows what endpoints have, not what was asked
        settings.aliases = settings.dns_names = settings.links = settings.driver_opts = None
    return wire.Summary(
        id=container.id,
        names=sorted([f"/{container.name}", *summary.link_paths]),
        image=summary.image,
        image_id=container.image_id,
        command=build_command(container),
        created=parse_unix_time(container.created),
        ports=_build_port_list(container),
        size_rw=summary.size_rw or UNSET,
        size_root_fs=summary.size_root_fs or UNSET,
        labels=dict(container.config.labels),
        state=container.state.status,
        status=summary.status,
        host_config=wire.SummaryHostConfig(
            network_mode=container.host_config.network_mode or UNSET,
            annotations=_unless_empty(container.host_config.annotations),
        ),
        network_settings=wire.SummaryNetworks(networks=networks),
        mounts=_build_mount_points(container),
    )


def _build_port_list(container: Container) -> list[wire.Port]:
    if container.state.pid <= 0:
        return []
    ports = []
    published = {_split_port(port): bindings for port, bindings in container.ports.items()}
    for exposed in container.config.exposed_ports:
        published.setdefault(_split_port(exposed), ())
    for (number, protocol), bindings in published.items():
        if not bindings:
            ports.append(wire.Port(private_port=number, type=protocol))
        ports += [
            wire.Port(
                ip=binding.host_ip or UNSET,
                private_port=number,
                public_port=int(binding.host_port) if binding.host_port else UNSET,
                type=protocol,
            )
            for binding in bindings
        ]
    return ports


def _split_port(port: str) -> tuple[int, str]:
    number, _, protocol = port.partition("/")
    return (int(number) if number.isdigit() else 0), protocol or "tcp"


_CHANGE_KINDS = {"C": 0, "A": 1, "D": 2}


def build_change(change: Change) -> wire.Change:
    """One line of `docker diff`."""
    return wire.Change(path=change.path, kind=_CHANGE_KINDS[change.kind])


def build_wait(result: WaitResult) -> wire.WaitResponse:
    """How a container ended."""
    return wire.WaitResponse(
        status_code=result.exit_code,
        error=wire.WaitError(message=result.error) if result.error else UNSET,
    )


def encode_path_stat(stat: PathStat) -> str:
    """The value of X-Docker-Container-Path-Stat."""
    document = wire.PathStat(
        name=stat.name,
        size=stat.size,
        mode=stat.mode,
        mtime=stat.mtime,
        link_target=stat.link_target,
    )
    return base64.b64encode(encode_json(document)).decode()


def _encode_keys(keys: str) -> str:
    """Go's JSON of bytes."""
    return base64.b64encode(parse_detach_keys(keys)).decode() if keys else ""


def build_exec(record: Exec) -> wire.ExecInspect:
    """GET /exec/{id}/json."""
    config = record.config
    entrypoint, *arguments = config.cmd or ("",)
    return wire.ExecInspect(
        id=record.id,
        running=record.running,
        exit_code=record.exit_code,
        process_config=wire.ExecProcessConfig(
            tty=config.tty,
            entrypoint=entrypoint,
            arguments=arguments,
            privileged=config.privileged,
            user=config.user or UNSET,
        ),
        open_stdin=config.attach_stdin,
        open_stderr=config.attach_stderr,
        open_stdout=config.attach_stdout,
        container_id=record.container_id,
        detach_keys=_encode_keys(config.detach_keys),
        pid=record.pid,
    )


_EMPTY_CONFIG = wire.CreateRequest()


def names_anything(body: wire.CreateRequest) -> bool:
    """Whether the portable half has any field; dockerd refuses a body without."""
    return any(
        getattr(body, name) != getattr(_EMPTY_CONFIG, name)
        for name in wire.ContainerConfig.__struct_fields__
    )
