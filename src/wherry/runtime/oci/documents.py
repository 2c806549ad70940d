"""The answers that do not depend on a container: `spec` (an example to start from) and `features`."""

from __future__ import annotations

from wherry.kernel import caps
from wherry.lib.jsonvalue import JsonObject
from wherry.runtime.oci.state import OCI_VERSION
from wherry.runtime.seccomp.rules import ACTIONS as SECCOMP_ACTIONS
from wherry.runtime.seccomp.rules import ARCHITECTURES, FLAGS, OPERATORS
from wherry.runtime.steps.namespaces import FLAGS as NAMESPACES
from wherry.runtime.steps.options import ATTRIBUTES, IGNORED, PROPAGATION, SUPER_BLOCK

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
)
READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
_EXAMPLE_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")


def build_features(version: str) -> JsonObject:
    """The features structure of the specification."""
    recursive = [f"r{word}" for word in ATTRIBUTES]
    words = {*ATTRIBUTES, *recursive, *PROPAGATION, *SUPER_BLOCK, *IGNORED}
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "poststart", "poststop"],
        "mountOptions": sorted(words),
        "linux": {
            "namespaces": sorted(kind for kind in NAMESPACES if kind != "time"),
            "capabilities": list(caps.NAMES[: caps.last_cap() + 1]),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": False,
                "systemdUser": False,
                "rdma": False,
            },
            "seccomp": {
                "enabled": True,
                "actions": sorted(SECCOMP_ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(ARCHITECTURES),
                "knownFlags": sorted(FLAGS),
                "supportedFlags": sorted(FLAGS),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
        },
        "annotations": {"org.wherry.version": version},
    }


def build_example() -> JsonObject:
    """What `runc spec` writes: a shell in ./rootfs with a terminal."""
    capabilities = list(_EXAMPLE_CAPABILITIES)
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "wherry",
        "mounts": [
            _mount("/proc", "proc", "proc", ""),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            _mount(
                "/dev/pts",
                "devpts",
                "devpts",
                "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
            ),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
            _mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [
                {"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
        },
    }


def _mount(destination: str, kind: str, source: str, options: str) -> JsonObject:
    mount: dict[str, str | list[str]] = {
        "destination": destination,
        "type": kind,
        "source": source,
    }
    if options:
        mount["options"] = options.split(",")
    return mount
