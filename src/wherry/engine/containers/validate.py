"""What a create request may say: each check with Docker's sentence and kind (moby daemon/container.go). Pure.

A check is a function of the request; CHECKS is their order, which is Docker's where one request can
fail in two ways.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wherry.engine.containers.binds import check_mount, parse_bind, parse_volumes_from
from wherry.engine.containers.links import HOST_MODE
from wherry.engine.containers.restart_policy import check_restart_policy, is_restarting_policy
from wherry.engine.containers.security import normalize_capabilities, parse_security_options
from wherry.engine.containers.signals import parse_signal
from wherry.lib.cleanpath import clean_path
from wherry.model.container import ContainerConfig, EndpointConfig, HostConfig
from wherry.model.errors import Internal, InvalidArgument, NotSupported

NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_MAC = re.compile(
    r"[0-9a-fA-F]{2}(?P<separator>[:-])(?:[0-9a-fA-F]{2}(?P=separator)){4}[0-9a-fA-F]{2}\Z"
)
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(\w+))?\Z")
# Docker's names of its default mean the engine's default, for those who write it down.
OWN_RUNTIMES = ("wherry", "runc", "io.containerd.runc.v2")  # all of them wherry's own
_MINIMUM_DURATION_NS = 1_000_000
_LOG_OPTIONS: Mapping[str, frozenset[str]] = {
    "json-file": frozenset(
        {"max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"}
    ),
    "local": frozenset({"max-file", "max-size", "compress"}),
}
_LOG_COMMON = frozenset(
    {
        "mode",
        "max-buffer-size",
        "cache-disabled",
        "cache-max-size",
        "cache-max-file",
        "cache-compress",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """What the client sent, before the image is looked at."""

    config: ContainerConfig
    host_config: HostConfig
    networks: Mapping[str, EndpointConfig]
    runtimes: frozenset[str]  # those that the engine's options name beside its own


def check_name(name: str) -> str:
    """The name without Docker's leading slash. Raises InvalidArgument."""
    if not NAME.match(name):
        raise InvalidArgument(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return name.removeprefix("/")


def check_request(request: CreateRequest) -> list[str]:
    """Warnings. Raises the first thing that is wrong."""
    warnings: list[str] = []
    for check in CHECKS:
        warnings += check(request) or ()
    return warnings


def _check_hostname(request: CreateRequest) -> None:
    if not request.config.hostname:
        return
    mode = request.host_config.network_mode
    if mode.startswith("container:"):
        raise InvalidArgument("conflicting options: hostname and the network mode")
    if request.host_config.uts_mode == "host":
        raise InvalidArgument("conflicting options: hostname and the UTS mode")


def _check_working_dir(request: CreateRequest) -> None:
    path = request.config.working_dir
    if path and not path.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{path}' is invalid, it needs to be an absolute path"
        )


def _check_env(request: CreateRequest) -> None:
    for entry in request.config.env:
        if not entry.partition("=")[0]:
            raise InvalidArgument(f"invalid environment variable: {entry}")


def _check_stop_signal(request: CreateRequest) -> None:
    if request.config.stop_signal:
        parse_signal(request.config.stop_signal)


def _check_healthcheck(request: CreateRequest) -> None:
    health = request.config.healthcheck
    if health is None:
        return
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value != 0 and value < _MINIMUM_DURATION_NS:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")


def _check_ports(request: CreateRequest) -> None:
    for port, bindings in request.host_config.port_bindings.items():
        first, last, _ = parse_port(port)
        if first != last:
            raise InvalidArgument(f'invalid port specification: "{first}-{last}"')
        for binding in bindings:
            number = binding.host_port.partition("/")[0]
            if number:
                parse_port(number)


def parse_port(text: str) -> tuple[int, int, str]:
    """`80/tcp` or `80-90/udp` as first, last, protocol. Raises InvalidArgument."""
    match = _PORT.match(text)
    first = int(match[1]) if match else -1
    last = int(match[2] or match[1]) if match else -1
    if match is None or not first <= last <= 65535:
        number = text.partition("/")[0]
        raise InvalidArgument(f'invalid port specification: "{number}"')
    return first, last, (match[3] or "tcp").lower()


def _check_auto_remove(request: CreateRequest) -> None:
    host = request.host_config
    if host.auto_remove and is_restarting_policy(host.restart_policy):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")


def _check_restart_policy(request: CreateRequest) -> None:
    check_restart_policy(request.host_config.restart_policy)


def _check_extra_hosts(request: CreateRequest) -> None:
    for entry in request.host_config.extra_hosts:
        name, separator, address = entry.partition(":")
        if not separator or not name:
            raise InvalidArgument(f'bad format for add-host: "{entry}"')
        if address != "host-gateway" and not _is_address(address):
            raise InvalidArgument(f'invalid IP address in add-host: "{address}"')


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_capabilities(request: CreateRequest) -> None:
    normalize_capabilities("CapAdd", request.host_config.cap_add)
    normalize_capabilities("CapDrop", request.host_config.cap_drop)


def _check_modes(request: CreateRequest) -> None:
    host = request.host_config
    if host.ipc_mode not in {"", "none", "private", "shareable", "host"} and not _is_container(
        host.ipc_mode
    ):
        raise InvalidArgument(f"invalid IPC mode: {host.ipc_mode}")
    if host.pid_mode not in {"", "host"} and not _is_container(host.pid_mode, needs_name=True):
        raise InvalidArgument(f"invalid PID mode: {host.pid_mode}")
    if host.uts_mode not in {"", "host"}:
        raise InvalidArgument(f"invalid UTS mode: {host.uts_mode}")
    if host.cgroupns_mode not in {"", "host", "private"}:
        raise InvalidArgument(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.isolation not in {"", "default"}:
        raise InvalidArgument(
            f"invalid isolation ({host.isolation}): linux only supports 'default'"
        )


def _is_container(mode: str, *, needs_name: bool = False) -> bool:
    kind, separator, name = mode.partition(":")
    return kind == "container" and bool(separator) and (bool(name) or not needs_name)


def _check_network_mode(request: CreateRequest) -> list[str]:
    host = request.host_config
    mode = host.network_mode
    if mode in {"container", "container:"}:
        raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    if mode.startswith("container:"):
        if host.links:
            raise InvalidArgument(
                "conflicting options: container type network can't be used with links. "
                "This would result in undefined behavior"
            )
        for given, what in (
            (host.dns, "dns and the network mode"),
            (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
            (request.config.mac_address, "mac-address and the network mode"),
            (
                host.port_bindings or host.publish_all_ports,
                "port publishing and the container type network mode",
            ),
            (request.config.exposed_ports, "port exposing and the container type network mode"),
        ):
            if given:
                raise InvalidArgument(f"conflicting options: {what}")
    if mode == "host":
        if host.links:
            raise InvalidArgument(HOST_MODE)
        if any(host.port_bindings.values()):
            return ["Published ports are discarded when using host network mode"]
    return []


def _check_endpoints(request: CreateRequest) -> None:
    mac = request.config.mac_address
    mode = request.host_config.network_mode
    if mac and not _MAC.match(mac):
        raise InvalidArgument(f"invalid config for network {mode}: invalid MAC address {mac}")
    for name, endpoint in request.networks.items():
        if endpoint.mac_address and not _MAC.match(endpoint.mac_address):
            raise InvalidArgument(
                f"invalid config for network {name}: invalid MAC address {endpoint.mac_address}"
            )


def _check_numbers(request: CreateRequest) -> None:
    host = request.host_config
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if "" in host.annotations:
        raise InvalidArgument(
            "invalid Annotations: the empty string is not permitted as an annotation key"
        )


def _check_logging(request: CreateRequest) -> None:
    log = request.host_config.log_config
    if log.type == "none":  # nothing is looked at
        return
    driver = log.type or "json-file"
    known = _LOG_OPTIONS.get(driver)
    if known is None:
        raise InvalidArgument(
            f'error looking up logging plugin {log.type}: plugin "{log.type}" not found'
        )
    for option in log.config:
        if option not in known | _LOG_COMMON:
            raise InvalidArgument(f"unknown log opt '{option}' for {driver} log driver")
    mode = log.config.get("mode", "")
    if mode not in {"", "blocking", "non-blocking"}:
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")


def _check_security(request: CreateRequest) -> None:
    parse_security_options(request.host_config.security_opt)


def _check_runtime(request: CreateRequest) -> None:
    runtime = request.host_config.runtime
    if not runtime or runtime in OWN_RUNTIMES:
        return
    if runtime in request.runtimes:
        raise NotSupported(f"runtime {runtime}: containers run with wherry's own runtime only")
    raise InvalidArgument(f"unknown or invalid runtime name: {runtime}")


def _check_storage(request: CreateRequest) -> None:
    for option in request.host_config.storage_opt:
        if option != "size":
            raise Internal(f"Unknown option {option}")
        raise Internal(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
        )


def _check_mounts(request: CreateRequest) -> None:
    host = request.host_config
    for path in host.tmpfs:
        if not path.startswith("/"):
            raise InvalidArgument(f"invalid mount path: '{path}' mount path must be absolute")
        if clean_path(path) == "/":
            raise InvalidArgument("invalid specification: destination can't be '/'")
    for spec in host.volumes_from:
        parse_volumes_from(spec)
    for spec in host.binds:
        parse_bind(spec)
    for mount in host.mounts:
        check_mount(mount)


CHECKS: tuple[Callable[[CreateRequest], Sequence[str] | None], ...] = (
    _check_hostname,
    _check_working_dir,
    _check_env,
    _check_stop_signal,
    _check_healthcheck,
    _check_extra_hosts,
    _check_ports,
    _check_auto_remove,
    _check_restart_policy,
    _check_capabilities,
    _check_modes,
    _check_network_mode,
    _check_endpoints,
    _check_numbers,
    _check_logging,
    _check_security,
    _check_runtime,
    _check_storage,
    _check_mounts,
)
