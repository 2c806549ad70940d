"""OCI config.json as plain values: `parse_spec` is the only reader of the document.

Field names are the specification's (https://github.com/opencontainers/runtime-spec), in snake case. Plain
classes with __slots__: the runtime must not pay for dataclasses or msgspec. Two extensions, both absent from
what other tools write:

- `process.user.username`: Docker's user string ("", "name", "uid:group", ...), resolved by init in the
  container's root, with Docker's rules; `process.user.additionalGroups`: names or ids, likewise.
- `linux.seccomp`: `{"profile": "default"}`, or a profile in Docker's format, besides OCI's own form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from wherry.lib.jsonvalue import (
    JsonError,
    JsonObject,
    JsonValue,
    get_bool,
    get_int,
    get_list,
    get_object,
    get_objects,
    get_str,
    get_strings,
)
from wherry.runtime.errors import SpecError

T = TypeVar("T")

NAMESPACE_KINDS = ("user", "cgroup", "ipc", "uts", "network", "pid", "mount", "time")


class User:
    """Who runs: ids, or Docker's user string in `username` (then the ids are ignored)."""

    __slots__ = ("additional_gids", "additional_groups", "gid", "uid", "umask", "username")

    def __init__(self, document: JsonObject) -> None:
        self.uid = get_int(document, "uid")
        self.gid = get_int(document, "gid")
        self.umask = get_int(document, "umask", 0o022)
        self.additional_gids = _integers(document, "additionalGids")
        username = document.get("username")
        self.username = username if isinstance(username, str) else None
        self.additional_groups = get_strings(document, "additionalGroups")


class Capabilities:
    """The five sets, as names."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(self, document: JsonObject) -> None:
        self.bounding = get_strings(document, "bounding")
        self.effective = get_strings(document, "effective")
        self.permitted = get_strings(document, "permitted")
        self.inheritable = get_strings(document, "inheritable")
        self.ambient = get_strings(document, "ambient")


class Rlimit:
    """One resource limit."""

    __slots__ = ("hard", "kind", "soft")

    def __init__(self, document: JsonObject) -> None:
        self.kind = get_str(document, "type")
        self.soft = get_int(document, "soft")
        self.hard = get_int(document, "hard")


class Process:
    """What runs: the `process` object, also the whole of an exec's request."""

    __slots__ = (
        "apparmor_profile",
        "args",
        "capabilities",
        "columns",
        "cwd",
        "env",
        "io_priority",
        "no_new_privileges",
        "oom_score_adj",
        "rlimits",
        "rows",
        "scheduler",
        "selinux_label",
        "terminal",
        "user",
    )

    def __init__(self, document: JsonObject) -> None:
        self.terminal = get_bool(document, "terminal")
        size = get_object(document, "consoleSize")
        self.rows = get_int(size, "height")
        self.columns = get_int(size, "width")
        self.user = User(get_object(document, "user"))
        self.args = get_strings(document, "args")
        self.env = get_strings(document, "env")
        self.cwd = get_str(document, "cwd", "/")
        self.capabilities = (
            Capabilities(get_object(document, "capabilities"))
            if document.get("capabilities") is not None
            else None
        )
        self.rlimits = tuple(Rlimit(item) for item in get_objects(document, "rlimits"))
        self.no_new_privileges = get_bool(document, "noNewPrivileges")
        adjust = document.get("oomScoreAdj")
        self.oom_score_adj = adjust if isinstance(adjust, int) else None
        self.apparmor_profile = get_str(document, "apparmorProfile")
        self.selinux_label = get_str(document, "selinuxLabel")
        self.io_priority = get_object(document, "ioPriority")
        self.scheduler = get_object(document, "scheduler")
        if not self.args:
            raise SpecError("process.args", "must not be empty")
        if not self.cwd.startswith("/"):
            raise SpecError("process.cwd", f"{self.cwd!r} is not an absolute path")


class Mount:
    """One entry of `mounts`, options still as words."""

    __slots__ = ("destination", "gid_mappings", "options", "source", "type", "uid_mappings")

    def __init__(self, document: JsonObject) -> None:
        self.destination = get_str(document, "destination")
        self.type = get_str(document, "type")
        self.source = get_str(document, "source")
        self.options = get_strings(document, "options")
        self.uid_mappings = _mappings(document, "uidMappings")
        self.gid_mappings = _mappings(document, "gidMappings")
        if not self.destination:
            raise SpecError("mounts.destination", "must not be empty")
        if not self.type and ("bind" in self.options or "rbind" in self.options):
            self.type = "bind"
        if not self.type:
            raise SpecError(f"mounts {self.destination}", "no type")


class Namespace:
    """A namespace: new when `path` is empty, else joined."""

    __slots__ = ("kind", "path")

    def __init__(self, kind: str, path: str) -> None:
        self.kind = kind
        self.path = path


class IdMapping:
    """One line of uid_map or gid_map."""

    __slots__ = ("container_id", "host_id", "size")

    def __init__(self, document: JsonObject) -> None:
        self.container_id = get_int(document, "containerID")
        self.host_id = get_int(document, "hostID")
        self.size = get_int(document, "size")


class Device:
    """A device node to make."""

    __slots__ = ("file_mode", "gid", "kind", "major", "minor", "path", "uid")

    def __init__(self, document: JsonObject) -> None:
        self.path = get_str(document, "path")
        self.kind = get_str(document, "type")
        self.major = get_int(document, "major")
        self.minor = get_int(document, "minor")
        self.file_mode = get_int(document, "fileMode", 0o666)
        self.uid = get_int(document, "uid")
        self.gid = get_int(document, "gid")
        if self.kind not in {"c", "u", "b", "p"} or not self.path.startswith("/"):
            raise SpecError("linux.devices", f"{self.path!r}: bad type {self.kind!r} or path")


class DeviceRule:
    """One rule of the device cgroup; -1 stands for every major or minor."""

    __slots__ = ("access", "allow", "kind", "major", "minor")

    def __init__(self, document: JsonObject) -> None:
        self.allow = get_bool(document, "allow")
        self.kind = get_str(document, "type", "a") or "a"
        self.major = get_int(document, "major", -1)
        self.minor = get_int(document, "minor", -1)
        self.access = get_str(document, "access") or "rwm"


class ThrottleDevice:
    """A rate of one block device."""

    __slots__ = ("major", "minor", "rate")

    def __init__(self, document: JsonObject) -> None:
        self.major = get_int(document, "major")
        self.minor = get_int(document, "minor")
        self.rate = get_int(document, "rate")


class WeightDevice:
    """A weight of one block device."""

    __slots__ = ("major", "minor", "weight")

    def __init__(self, document: JsonObject) -> None:
        self.major = get_int(document, "major")
        self.minor = get_int(document, "minor")
        self.weight = get_int(document, "weight")


class Resources:
    """Limits for the cgroups; None = not given, leave as it is."""

    __slots__ = (
        "blkio_weight",
        "blkio_weight_devices",
        "cpu_burst",
        "cpu_idle",
        "cpu_period",
        "cpu_quota",
        "cpu_realtime_period",
        "cpu_realtime_runtime",
        "cpu_shares",
        "cpuset_cpus",
        "cpuset_mems",
        "devices",
        "disable_oom_killer",
        "hugepages",
        "memory",
        "memory_reservation",
        "memory_swap",
        "pids",
        "read_bps",
        "read_iops",
        "swappiness",
        "unified",
        "write_bps",
        "write_iops",
    )

    def __init__(self, document: JsonObject) -> None:
        self.devices = tuple(DeviceRule(item) for item in get_objects(document, "devices"))
        memory = get_object(document, "memory")
        self.memory = _optional(memory, "limit")
        self.memory_reservation = _optional(memory, "reservation")
        self.memory_swap = _optional(memory, "swap")
        self.swappiness = _optional(memory, "swappiness")
        self.disable_oom_killer = get_bool(memory, "disableOOMKiller")
        cpu = get_object(document, "cpu")
        self.cpu_shares = _optional(cpu, "shares")
        self.cpu_quota = _optional(cpu, "quota")
        self.cpu_period = _optional(cpu, "period")
        self.cpu_burst = _optional(cpu, "burst")
        self.cpu_idle = _optional(cpu, "idle")
        self.cpu_realtime_runtime = _optional(cpu, "realtimeRuntime")
        self.cpu_realtime_period = _optional(cpu, "realtimePeriod")
        self.cpuset_cpus = get_str(cpu, "cpus")
        self.cpuset_mems = get_str(cpu, "mems")
        self.pids = _optional(get_object(document, "pids"), "limit")
        block = get_object(document, "blockIO")
        self.blkio_weight = _optional(block, "weight")
        self.blkio_weight_devices = tuple(
            WeightDevice(item) for item in get_objects(block, "weightDevice")
        )
        self.read_bps = _throttles(block, "throttleReadBpsDevice")
        self.write_bps = _throttles(block, "throttleWriteBpsDevice")
        self.read_iops = _throttles(block, "throttleReadIOPSDevice")
        self.write_iops = _throttles(block, "throttleWriteIOPSDevice")
        self.hugepages = tuple(
            (get_str(item, "pageSize"), get_int(item, "limit"))
            for item in get_objects(document, "hugepageLimits")
        )
        self.unified = _string_map(document, "unified")


class Hook:
    """A program to run at one moment of a container's life."""

    __slots__ = ("args", "env", "path", "timeout_s")

    def __init__(self, document: JsonObject) -> None:
        self.path = get_str(document, "path")
        self.args = get_strings(document, "args")
        self.env = get_strings(document, "env")
        self.timeout_s = _optional(document, "timeout")


class Spec:
    """A whole config.json."""

    __slots__ = (
        "annotations",
        "cgroups_path",
        "devices",
        "domainname",
        "gid_mappings",
        "hooks",
        "hostname",
        "masked_paths",
        "mounts",
        "namespaces",
        "personality",
        "process",
        "readonly_paths",
        "resources",
        "root_path",
        "root_readonly",
        "rootfs_propagation",
        "seccomp",
        "sysctl",
        "uid_mappings",
    )

    def __init__(self, document: JsonObject) -> None:
        root = get_object(document, "root")
        linux = get_object(document, "linux")
        if document.get("process") is None:
            raise SpecError("process", "missing")
        self.process = Process(get_object(document, "process"))
        self.root_path = get_str(root, "path")
        self.root_readonly = get_bool(root, "readonly")
        self.hostname = get_str(document, "hostname")
        self.domainname = get_str(document, "domainname")
        self.mounts = tuple(Mount(item) for item in get_objects(document, "mounts"))
        self.annotations = _string_map(document, "annotations")
        hooks = get_object(document, "hooks")
        self.hooks = {
            name: tuple(Hook(item) for item in get_objects(hooks, name)) for name in hooks
        }
        self.namespaces = _namespaces(linux)
        self.uid_mappings = _mappings(linux, "uidMappings")
        self.gid_mappings = _mappings(linux, "gidMappings")
        self.devices = tuple(Device(item) for item in get_objects(linux, "devices"))
        self.cgroups_path = get_str(linux, "cgroupsPath")
        self.resources = Resources(get_object(linux, "resources"))
        seccomp = get_object(linux, "seccomp")
        self.seccomp: JsonObject | None = seccomp or None
        self.rootfs_propagation = get_str(linux, "rootfsPropagation")
        self.masked_paths = get_strings(linux, "maskedPaths")
        self.readonly_paths = get_strings(linux, "readonlyPaths")
        self.sysctl = _string_map(linux, "sysctl")
        self.personality = get_str(get_object(linux, "personality"), "domain")

    def namespace(self, kind: str) -> Namespace | None:
        """The namespace of this kind, or None when the host's is shared."""
        for namespace in self.namespaces:
            if namespace.kind == kind:
                return namespace
        return None

    def is_new(self, kind: str) -> bool:
        """Whether a new namespace of this kind is made."""
        namespace = self.namespace(kind)
        return namespace is not None and not namespace.path


def parse_spec(document: JsonValue) -> Spec:
    """OCI config.json, already parsed as JSON; raises SpecError(path, why)."""
    return _guarded(Spec, document, "config.json")


def parse_process(document: JsonValue) -> Process:
    """A `process` object on its own, as an exec sends it; raises SpecError."""
    return _guarded(Process, document, "process")


def parse_resources(document: JsonValue) -> Resources:
    """A `linux.resources` object on its own, as an update sends it; raises SpecError."""
    return _guarded(Resources, document, "linux.resources")


def _guarded(kind: Callable[[JsonObject], T], document: JsonValue, name: str) -> T:
    if not isinstance(document, Mapping):
        raise SpecError(name, "expected an object")
    try:
        return kind(document)
    except JsonError as error:
        raise SpecError(name, str(error)) from error


def _optional(document: JsonObject, key: str) -> int | None:
    return get_int(document, key) if document.get(key) is not None else None


def _integers(document: JsonObject, key: str) -> tuple[int, ...]:
    values = get_list(document, key)
    numbers = tuple(value for value in values if isinstance(value, int))
    if len(numbers) != len(values):
        raise JsonError(f"{key}: expected an array of integers")
    return numbers


def _string_map(document: JsonObject, key: str) -> dict[str, str]:
    values = get_object(document, key)
    return {name: get_str(values, name) for name in values}


def _mappings(document: JsonObject, key: str) -> tuple[IdMapping, ...]:
    return tuple(IdMapping(item) for item in get_objects(document, key))


def _throttles(document: JsonObject, key: str) -> tuple[ThrottleDevice, ...]:
    return tuple(ThrottleDevice(item) for item in get_objects(document, key))


def _namespaces(linux: JsonObject) -> tuple[Namespace, ...]:
    found: dict[str, Namespace] = {}
    for item in get_objects(linux, "namespaces"):
        kind = get_str(item, "type")
        if kind not in NAMESPACE_KINDS:
            raise SpecError("linux.namespaces", f"unknown type {kind!r}")
        if kind in found:
            raise SpecError("linux.namespaces", f"{kind} appears twice")
        found[kind] = Namespace(kind, get_str(item, "path"))
    return tuple(found[kind] for kind in NAMESPACE_KINDS if kind in found)
