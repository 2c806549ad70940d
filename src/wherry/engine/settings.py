"""What the daemon's options mean to the engine: folders and defaults, fixed while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wherry.model.container import LogConfig, Ulimit

DEFAULT_DRIVER = "overlay2"
"""What containers and `info` call the storage driver: every one of ours is an overlay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Made by `daemon.wiring` from the option table; no global state, so that engines can be neighbours."""

    root: Path
    run_dir: Path
    cgroup_parent: str = "/docker"
    bridge: str = "docker0"
    storage_driver: str = ""  # empty = what the machine can do best
    default_shm_size: int = 64 << 20
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str = ""  # empty = host on cgroup v1, private on v2
    default_log: LogConfig = field(default_factory=LogConfig)
    default_ulimits: tuple[Ulimit, ...] = ()
    default_stop_timeout_s: int = 10
    default_runtime: str = "wherry"
    runtimes: Mapping[str, str] = field(default_factory=dict)  # name -> path of a program
    init_path: str = ""  # empty = tini when it is there, else the built-in one
    no_new_privileges: bool = False
    seccomp_profile: Path | None = None
    host_gateway_ips: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    debug: bool = False
    assume_kernel: str = ""

    def container_dir(self, container_id: str) -> Path:
        """ROOT/containers/<id>: upper, work, log, hostname, hosts, resolv.conf."""
        return self.root / "containers" / container_id
