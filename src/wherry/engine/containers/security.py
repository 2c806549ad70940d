"""What confines a container: capabilities, `--security-opt`, masked and read-only paths. Pure, once loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from wherry.kernel.caps import NAMES, NUMBERS, own_sets
from wherry.lib.jsonvalue import JsonObject
from wherry.lib.words import words
from wherry.model.container import HostConfig
from wherry.model.errors import Internal, InvalidArgument

# moby daemon/pkg/oci/caps/defaults.go
DEFAULT_CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in words(
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP",
        "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE",
    )
)

# moby daemon/pkg/oci/defaults.go
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

_ALL = "ALL"


def _read_available() -> tuple[str, ...]:
    permitted = own_sets()["Prm"]
    return tuple(name for name in NAMES if permitted >> NUMBERS[name] & 1)


AVAILABLE = _read_available()
"""What this engine has itself: it cannot give more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityOptions:
    """`--security-opt` as values. `seccomp`: a profile's text, "unconfined", "builtin", "" = the engine's."""

    seccomp: str = ""
    no_new_privileges: bool = False
    apparmor: str = ""
    labels: tuple[str, ...] = ()
    unmask_system_paths: bool = False
    writable_cgroups: bool = False


def parse_security_options(
    options: Sequence[str], *, no_new_privileges: bool = False
) -> SecurityOptions:
    """Raises Internal with Docker's sentence (which has status 500, moby daemon_unix.go)."""
    parsed = SecurityOptions(no_new_privileges=no_new_privileges)
    for option in options:
        parsed = _parse_option(parsed, option)
    return parsed


def _parse_option(parsed: SecurityOptions, option: str) -> SecurityOptions:
    if option == "no-new-privileges":
        return replace(parsed, no_new_privileges=True)
    if option == "disable":
        return replace(parsed, labels=(*parsed.labels, "disable"))
    if option == "writable-cgroups":
        return replace(parsed, writable_cgroups=True)
    separator = "=" if "=" in option else ":"
    name, found, value = option.partition(separator)
    if not found:
        raise Internal(f'invalid --security-opt 1: "{option}"')
    match name:
        case "label":
            return replace(parsed, labels=(*parsed.labels, value))
        case "apparmor":
            return replace(parsed, apparmor=value)
        case "seccomp":
            return replace(parsed, seccomp=value)
        case "systempaths" if value == "unconfined":
            return replace(parsed, unmask_system_paths=True)
        case "no-new-privileges" | "writable-cgroups":
            if value not in _BOOLEANS:
                raise Internal(f'invalid --security-opt 2: "{option}"')
            if name == "no-new-privileges":
                return replace(parsed, no_new_privileges=_BOOLEANS[value])
            return replace(parsed, writable_cgroups=_BOOLEANS[value])
        case _:
            raise Internal(f'invalid --security-opt 2: "{option}"')


_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def decode_seccomp(profile: str) -> JsonObject:
    """A profile in Docker's format. Raises Internal with Docker's sentence."""
    try:
        document = json.loads(profile)
    except (ValueError, RecursionError) as exc:
        raise Internal(f"Decoding seccomp profile failed: {exc}") from exc
    if not isinstance(document, dict):
        raise Internal("Decoding seccomp profile failed: expected an object")
    return document


def normalize_capabilities(option: str, names: Iterable[str]) -> tuple[str, ...]:
    """`net_admin` → `CAP_NET_ADMIN`, sorted and unique. Raises InvalidArgument for an unknown one."""
    normal = set()
    for name in names:
        upper = name.upper()
        if upper != _ALL and not upper.startswith("CAP_"):
            upper = f"CAP_{upper}"
        if upper != _ALL and upper not in NUMBERS:
            raise InvalidArgument(f'invalid {option}: unknown capability: "{upper}"')
        if upper != _ALL and upper not in AVAILABLE:
            raise InvalidArgument(
                f"invalid {option}: capability not supported by your kernel "
                f'or not available in the current environment: "{upper}"'
            )
        normal.add(upper)
    return tuple(sorted(normal))


def tweak_capabilities(host_config: HostConfig) -> tuple[str, ...]:
    """The capabilities that the container gets (moby caps.TweakCapabilities)."""
    if host_config.privileged:
        return AVAILABLE
    added = normalize_capabilities("CapAdd", host_config.cap_add)
    dropped = normalize_capabilities("CapDrop", host_config.cap_drop)
    if _ALL in added:
        return tuple(name for name in AVAILABLE if name not in dropped)
    base = (
        ()
        if _ALL in dropped
        else tuple(
            name for name in DEFAULT_CAPABILITIES if name not in dropped and name in AVAILABLE
        )
    )
    return (*base, *(name for name in added if name not in base))


def masked_paths(host_config: HostConfig, options: SecurityOptions) -> tuple[str, ...]:
    """Paths that are hidden from the container."""
    if host_config.privileged or options.unmask_system_paths:
        return ()
    return MASKED_PATHS if host_config.masked_paths is None else host_config.masked_paths


def readonly_paths(host_config: HostConfig, options: SecurityOptions) -> tuple[str, ...]:
    """Paths that it cannot write."""
    if host_config.privileged or options.unmask_system_paths:
        return ()
    return READONLY_PATHS if host_config.readonly_paths is None else host_config.readonly_paths
