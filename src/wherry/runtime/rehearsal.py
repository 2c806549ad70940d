"""A start's thinking without its deeds, done ahead of time.

Python code is slow when it is cold: bytecode is specialised in its first runs, and a fork pays a page fault for
each page whose reference counts it is the first to write. What a spawner has rehearsed, its forks have
specialised; what a process that waits has rehearsed, it has in pages of its own.
"""

from __future__ import annotations

import json
import marshal

from wherry.lib.jsonvalue import JsonObject
from wherry.runtime.cgroups import open_cgroup
from wherry.runtime.plan import build_late, build_plan, process_steps
from wherry.runtime.root import EmptyRoot
from wherry.runtime.spec import parse_process, parse_spec

_CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def rehearse(times: int = 1) -> None:
    """Plans a container like any other; touches nothing. Raises OSError where no control groups are mounted."""
    cgroup = open_cgroup("/rehearsal")
    for _ in range(times):
        document = json.loads(json.dumps(_SAMPLE))
        spec = parse_spec(marshal.loads(marshal.dumps(document)))  # noqa: S302 # our own
        build_late(spec, EmptyRoot(), cgroup, ()).describe()
        build_plan(spec, EmptyRoot(), cgroup).describe()
        process_steps(parse_process(document["process"]), None)


def _mount(destination: str, kind: str, *options: str) -> JsonObject:
    source = "/rehearsal" if kind == "bind" else kind
    return {"destination": destination, "type": kind, "source": source, "options": [*options]}


_SAMPLE: JsonObject = {
    "ociVersion": "1.2.1",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0, "username": "", "additionalGroups": []},
        "args": ["true"],
        "env": ["PATH=/usr/bin:/bin", "HOSTNAME=rehearsal"],
        "cwd": "/",
        "capabilities": {
            "bounding": _CAPABILITIES,
            "effective": _CAPABILITIES,
            "permitted": _CAPABILITIES,
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "oomScoreAdj": 0,
        "noNewPrivileges": False,
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "rehearsal",
    "mounts": [
        _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "mode=0620", "gid=5"),
        _mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
        _mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/etc/hosts", "bind", "rbind", "rprivate"),
        _mount("/etc/hostname", "bind", "rbind", "rprivate"),
        _mount("/etc/resolv.conf", "bind", "rbind", "rprivate"),
    ],
    "linux": {
        "cgroupsPath": "/rehearsal",
        "resources": {
            "memory": {"limit": 1 << 30},
            "cpu": {"shares": 1024},
            "pids": {"limit": 100},
            "devices": [{"allow": False, "access": "rwm"}],
        },
        "namespaces": [{"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc")],
        "maskedPaths": ["/proc/acpi", "/proc/keys", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/sys"],
        "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "seccomp": {"profile": "default"},
    },
}
