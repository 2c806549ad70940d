"""From a container record to an OCI config.json: an ordered list of transformers of one draft.

Each transformer adds one concern; a new run flag is one more of them (moby daemon/oci_linux.go has the
same list). All are pure: what has to be read from this machine (devices, pids of joined containers)
is in `SpecInputs`. Users and groups stay names: init resolves them in the container's root.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wherry.engine.containers.failure import unsupported
from wherry.engine.containers.merge import DEFAULT_PATH, override_env
from wherry.engine.containers.mounts import default_mounts, managed_mounts, user_mounts
from wherry.engine.containers.resources import build_resources, build_rlimits, merge_ulimits
from wherry.engine.containers.security import (
    SecurityOptions,
    decode_seccomp,
    masked_paths,
    parse_security_options,
    readonly_paths,
    tweak_capabilities,
)
from wherry.lib.jsonvalue import JsonObject, JsonValue
from wherry.model.container import Container, ContainerConfig, HostConfig, Ulimit

OCI_VERSION = "1.2.1"
INIT_PATH = "/sbin/docker-init"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecInputs:
    """Everything that decides a specification."""

    container: Container
    folder: Path  # ROOT/containers/<id>
    cgroup_path: str
    devices: Sequence[JsonValue] = ()
    device_rules: Sequence[JsonValue] = ()
    network_ns: str = ""  # of another container; "" = a new one, or the host's by its mode
    ipc_ns: str = ""
    pid_ns: str = ""
    shm_source: str = ""  # a directory of this machine; "" = a new tmpfs
    sources: Mapping[str, str] = field(default_factory=dict)  # by destination; see `user_mounts`
    default_ulimits: tuple[Ulimit, ...] = ()
    default_seccomp: str = ""  # a profile's text, "unconfined" or "builtin", as "" is
    no_new_privileges: bool = False
    has_apparmor: bool = False
    init_source: str = ""


@dataclass(slots=True)
class Draft:
    """A specification in the making."""

    process: dict[str, JsonValue] = field(default_factory=dict)
    root: dict[str, JsonValue] = field(default_factory=dict)
    mounts: list[JsonValue] = field(default_factory=list)
    namespaces: list[JsonValue] = field(default_factory=list)
    linux: dict[str, JsonValue] = field(default_factory=dict)
    top: dict[str, JsonValue] = field(default_factory=dict)

    def encode(self) -> JsonObject:
        """The document."""
        return {
            "ociVersion": OCI_VERSION,
            "process": self.process,
            "root": self.root,
            "mounts": self.mounts,
            "linux": {**self.linux, "namespaces": self.namespaces},
            **self.top,
        }


def build_spec(inputs: SpecInputs) -> JsonObject:
    """OCI config.json. Raises InvalidArgument and Internal with Docker's sentences."""
    draft = Draft()
    for transform in PIPELINE:
        transform(draft, inputs)
    return draft.encode()


def build_env(config: ContainerConfig, *, tty: bool) -> list[str]:
    """Docker's own variables under those of the config; HOME is added by init, which knows the user."""
    own = [DEFAULT_PATH, f"HOSTNAME={config.hostname}"]
    if tty:
        own.append("TERM=xterm")
    return override_env(own, config.env)


def with_command(draft: Draft, inputs: SpecInputs) -> None:
    """Program, arguments, environment, working directory, terminal."""
    container = inputs.container
    config = container.config
    draft.process["args"] = [container.path, *container.args]
    draft.process["env"] = build_env(config, tty=config.tty)
    draft.process["cwd"] = config.working_dir or "/"
    draft.process["terminal"] = config.tty
    rows, columns = container.host_config.console_size
    if config.tty and rows and columns:
        draft.process["consoleSize"] = {"height": rows, "width": columns}


def with_user(draft: Draft, inputs: SpecInputs) -> None:
    """The user string and extra groups."""
    container = inputs.container
    draft.process["user"] = {
        "uid": 0,
        "gid": 0,
        "username": container.config.user,
        "additionalGroups": list(container.host_config.group_add),
    }


def with_root(draft: Draft, inputs: SpecInputs) -> None:
    """The root file system; its path is only a name, the shim mounts it from descriptors."""
    draft.root["path"] = str(inputs.folder / "rootfs")
    draft.root["readonly"] = inputs.container.host_config.readonly_rootfs


def with_namespaces(draft: Draft, inputs: SpecInputs) -> None:
    """New namespaces, joined ones, and by leaving one out the host's."""
    host = inputs.container.host_config
    chosen: tuple[tuple[str, bool, str], ...] = (
        ("mount", False, ""),
        ("network", host.network_mode == "host", inputs.network_ns),
        ("uts", host.uts_mode == "host", ""),
        ("pid", host.pid_mode == "host", inputs.pid_ns),
        ("ipc", host.ipc_mode == "host", inputs.ipc_ns),
        ("cgroup", host.cgroupns_mode != "private", ""),
    )
    for kind, is_host, path in chosen:
        if not is_host:
            draft.namespaces.append({"type": kind, "path": path} if path else {"type": kind})


def with_hostname(draft: Draft, inputs: SpecInputs) -> None:
    """Host and domain name, unless the host's UTS namespace is shared."""
    if inputs.container.host_config.uts_mode == "host":
        return
    config = inputs.container.config
    draft.top["hostname"] = config.hostname
    if config.domainname:
        draft.top["domainname"] = config.domainname


def with_mounts(draft: Draft, inputs: SpecInputs) -> None:
    """Docker's mounts, the managed files, then the user's own, which may cover Docker's."""
    container = inputs.container
    host = container.host_config
    user = user_mounts(container, sources=inputs.sources)
    taken = {str(mount["destination"]) for mount in user if isinstance(mount, Mapping)}
    options = _security(inputs)
    own_ipc = not inputs.shm_source and host.ipc_mode != "none"
    mounts = default_mounts(
        shm_size=host.shm_size,
        own_ipc=own_ipc,
        cgroup_writable=host.privileged or options.writable_cgroups,
        sys_writable=host.privileged,
    )
    if inputs.shm_source:
        mounts.append(_bind(inputs.shm_source, "/dev/shm"))
    mounts = [m for m in mounts if _destination(m) not in taken]
    if "/dev" in taken:
        # As moby: what would be mounted in Docker's own /dev would be hidden, or hide what is there.
        mounts = [m for m in mounts if not _destination(m).startswith("/dev/")]
    managed = managed_mounts(inputs.folder, taken, read_only=host.readonly_rootfs)
    # A volume at /etc comes before the file that is mounted in it.
    draft.mounts += [*mounts, *sorted((*managed, *user), key=_depth)]


def with_init(draft: Draft, inputs: SpecInputs) -> None:
    """`--init`: a small program as PID 1 that reaps and passes signals on."""
    if not inputs.init_source:
        return
    host = inputs.container.host_config
    if host.pid_mode:
        return
    arguments = draft.process["args"]
    if isinstance(arguments, list):
        draft.process["args"] = [INIT_PATH, "--", *arguments]
    mount = _bind(inputs.init_source, INIT_PATH, "ro")
    draft.mounts.append(mount)


def with_devices(draft: Draft, inputs: SpecInputs) -> None:
    """Device nodes beside the standard ones."""
    if inputs.devices:
        draft.linux["devices"] = inputs.devices


def with_resources(draft: Draft, inputs: SpecInputs) -> None:
    """Cgroup and limits."""
    host = inputs.container.host_config
    draft.linux["cgroupsPath"] = inputs.cgroup_path
    draft.linux["resources"] = build_resources(host, inputs.device_rules)
    rlimits = build_rlimits(merge_ulimits(host.ulimits, inputs.default_ulimits))
    if rlimits:
        draft.process["rlimits"] = rlimits
    draft.process["oomScoreAdj"] = host.oom_score_adj


def with_capabilities(draft: Draft, inputs: SpecInputs) -> None:
    """The three sets that Docker fills; init clears two of them for another user than root."""
    names = list(tweak_capabilities(inputs.container.host_config))
    draft.process["capabilities"] = {"bounding": names, "effective": names, "permitted": names}


def with_security(draft: Draft, inputs: SpecInputs) -> None:
    """no_new_privs, seccomp, masked and read-only paths."""
    host = inputs.container.host_config
    options = _security(inputs)
    draft.process["noNewPrivileges"] = options.no_new_privileges
    if inputs.has_apparmor and options.apparmor not in {"", "unconfined"}:
        draft.process["apparmorProfile"] = options.apparmor
    draft.linux["maskedPaths"] = list(masked_paths(host, options))
    draft.linux["readonlyPaths"] = list(readonly_paths(host, options))
    profile = options.seccomp or ("unconfined" if host.privileged else inputs.default_seccomp)
    if profile in {"", "builtin"}:
        draft.linux["seccomp"] = {"profile": "default"}
    elif profile != "unconfined":
        draft.linux["seccomp"] = decode_seccomp(profile)


def with_sysctls(draft: Draft, inputs: SpecInputs) -> None:
    """Docker's defaults for a network namespace of its own, then what was asked for."""
    host = inputs.container.host_config
    sysctls: dict[str, JsonValue] = {}
    if host.network_mode != "host" and not inputs.network_ns:
        sysctls["net.ipv4.ip_unprivileged_port_start"] = "0"
        sysctls["net.ipv4.ping_group_range"] = "0 2147483647"
    for name in host.sysctls:
        _check_sysctl(name, host)
    sysctls.update(host.sysctls)
    if sysctls:
        draft.linux["sysctl"] = sysctls


def with_annotations(draft: Draft, inputs: SpecInputs) -> None:
    """Passed on as they are."""
    if inputs.container.host_config.annotations:
        draft.top["annotations"] = dict(inputs.container.host_config.annotations)


PIPELINE: tuple[Callable[[Draft, SpecInputs], None], ...] = (
    with_command,
    with_user,
    with_root,
    with_namespaces,
    with_hostname,
    with_mounts,
    with_init,
    with_devices,
    with_resources,
    with_capabilities,
    with_security,
    with_sysctls,
    with_annotations,
)


def _security(inputs: SpecInputs) -> SecurityOptions:
    return parse_security_options(
        inputs.container.host_config.security_opt, no_new_privileges=inputs.no_new_privileges
    )


def _check_sysctl(name: str, host: HostConfig) -> None:
    """Raises StartFailed for a setting of the whole machine (runc libcontainer/configs/validate)."""
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        if host.ipc_mode == "host":
            raise unsupported(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
    elif name.startswith("net."):
        if host.network_mode == "host":
            raise unsupported(f'sysctl "{name}" not allowed in host network namespace')
    elif name == "kernel.hostname":
        raise unsupported(
            f'sysctl "{name}" is not allowed as it conflicts with the OCI "hostname" field'
        )
    elif name != "kernel.domainname":
        raise unsupported(f'sysctl "{name}" is not in a separate kernel namespace')


_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in (
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
    )
)


def _bind(source: str, destination: str, *more: str) -> JsonObject:
    return {
        "destination": destination,
        "type": "bind",
        "source": source,
        "options": ["rbind", "rprivate", *more],
    }


def _depth(mount: JsonValue) -> int:
    return _destination(mount).count("/")


def _destination(mount: JsonValue) -> str:
    return str(mount["destination"]) if isinstance(mount, Mapping) else ""
