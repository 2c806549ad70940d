"""`docker info` and `docker version`: this engine and this machine in numbers and names."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import socket
import uuid
from collections.abc import Callable
from pathlib import Path

from wherry.engine.clock import now
from wherry.engine.containers import state
from wherry.engine.containers.handle import Roster
from wherry.engine.containers.stats import read_total_memory
from wherry.engine.containers.validate import OWN_RUNTIMES
from wherry.engine.events import Events
from wherry.engine.settings import DEFAULT_DRIVER, EngineSettings
from wherry.kernel.mountinfo import find_mount, read_mountinfo
from wherry.model.container import Status
from wherry.model.views import SystemInfo, VersionInfo
from wherry.runtime.cgroups import open_cgroup

VERSION = "0.1.0"
API_VERSION = "1.51"
MINIMUM_API_VERSION = "1.24"


class System:
    """The service. `count_images` answers how many images there are."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        roster: Roster,
        events: Events,
        cgroup_version: int,
        count_images: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._events = events
        self._cgroup_version = cgroup_version
        self._count_images = count_images
        self._identity = _read_identity(settings.root / "engine-id")

    def use(self, settings: EngineSettings) -> None:
        """The configuration was read again: shows it, and says so."""
        self._settings = settings
        self._events.publish(
            "daemon",
            "reload",
            self._identity,
            {
                "name": socket.gethostname(),
                "debug": str(settings.debug).lower(),
                "labels": json.dumps(settings.labels),
                "insecure-registries": json.dumps(settings.insecure_registries),
                "registry-mirrors": json.dumps(settings.registry_mirrors),
            },
        )

    @property
    def identity(self) -> str:
        """This engine's id, kept in ROOT."""
        return self._identity

    def info(self) -> SystemInfo:
        """Facts of now."""
        settings = self._settings
        statuses = [handle.record.state.status for handle in self._roster]
        release = _read_os_release()
        controllers = self._controllers()
        running = sum(status in {Status.RUNNING, Status.RESTARTING} for status in statuses)
        paused = statuses.count(Status.PAUSED)
        return SystemInfo(
            id=self._identity,
            containers=len(statuses),
            containers_running=running,
            containers_paused=paused,
            containers_stopped=sum(status not in state.ACTIVE for status in statuses),
            images=self._count_images(),
            driver=settings.storage_driver or DEFAULT_DRIVER,
            driver_status=_driver_status(settings.root),
            docker_root_dir=str(settings.root),
            name=socket.gethostname(),
            kernel_version=settings.assume_kernel or platform.release(),
            operating_system=release.get("PRETTY_NAME", "Linux"),
            os_version=release.get("VERSION_ID", ""),
            os_type="linux",
            architecture=platform.machine(),
            ncpu=os.cpu_count() or 1,
            mem_total=read_total_memory(),
            memory_limit="memory" in controllers,
            swap_limit=self._has_swap_limit(),
            cpu_cfs_period="cpu" in controllers,
            cpu_cfs_quota="cpu" in controllers,
            cpu_shares="cpu" in controllers,
            cpu_set="cpuset" in controllers,
            pids_limit="pids" in controllers,
            oom_kill_disable=self._cgroup_version == 1 and "memory" in controllers,
            ipv4_forwarding=_read_flag("/proc/sys/net/ipv4/ip_forward"),
            cgroup_driver="cgroupfs",
            cgroup_version=str(self._cgroup_version),
            n_fd=len(os.listdir("/proc/self/fd")),
            n_goroutines=len(asyncio.all_tasks()),
            n_events_listener=self._events.listeners,
            system_time=now(),
            server_version=VERSION,
            runtimes=tuple(
                dict.fromkeys((settings.default_runtime, *OWN_RUNTIMES, *settings.runtimes))
            ),
            default_runtime=settings.default_runtime,
            init_binary="docker-init",
            security_options=self._security_options(),
            registry_mirrors=settings.registry_mirrors,
            insecure_registries=settings.insecure_registries,
            default_address_pools=(),
            http_proxy=os.environ.get("HTTP_PROXY", ""),
            https_proxy=os.environ.get("HTTPS_PROXY", ""),
            no_proxy=os.environ.get("NO_PROXY", ""),
            labels=settings.labels,
            debug=settings.debug,
            live_restore_enabled=True,
            firewall_backend="nftables",
            warnings=(),
        )

    def _controllers(self) -> frozenset[str]:
        if self._cgroup_version == 2:
            try:
                text = Path("/sys/fs/cgroup/cgroup.controllers").read_text(encoding="ascii")
            except OSError:
                return frozenset()
            return frozenset(text.split())
        return frozenset(open_cgroup(self._settings.cgroup_parent).paths())

    def _has_swap_limit(self) -> bool:
        if self._cgroup_version == 2:
            return "memory" in self._controllers()
        memory = open_cgroup(self._settings.cgroup_parent).paths().get("memory", "")
        root = memory.removesuffix(self._settings.cgroup_parent)
        return Path(root, "memory.memsw.limit_in_bytes").exists()

    def _security_options(self) -> tuple[str, ...]:
        profile = self._settings.seccomp_profile
        options = [f"name=seccomp,profile={profile or 'builtin'}"]
        if self._cgroup_version == 2:
            options.append("name=cgroupns")
        if self._settings.no_new_privileges:
            options.append("name=no-new-privileges")
        return tuple(options)

    def version(self) -> VersionInfo:
        """Of the server."""
        return VersionInfo(
            version=VERSION,
            api_version=API_VERSION,
            min_api_version=MINIMUM_API_VERSION,
            git_commit="",
            python_version=platform.python_version(),
            os="linux",
            arch=_go_architecture(platform.machine()),
            kernel_version=self._settings.assume_kernel or platform.release(),
            build_time="",
        )


def _go_architecture(machine: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}.get(
        machine, machine
    )


def _driver_status(root: Path) -> tuple[tuple[str, str], ...]:
    mount = find_mount(os.path.realpath(root), read_mountinfo())
    kind = mount.fstype if mount is not None else "<unknown>"
    return (
        # Docker names file systems by their magic numbers, which ext2, 3 and 4 share.
        ("Backing Filesystem", "extfs" if kind.startswith("ext") else kind),
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    )


def _read_identity(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        identity = str(uuid.uuid4())
        temporary = path.with_suffix(".new")
        temporary.write_text(identity, encoding="ascii")
        temporary.replace(path)
        return identity


def _read_os_release() -> dict[str, str]:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
        return {key: value.strip("\"'") for key, _, value in pairs}
    return {}


def _read_flag(path: str) -> bool:
    try:
        return Path(path).read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False
