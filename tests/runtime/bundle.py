"""A small root (busybox), Docker's default specification, and `Machine`, which launches and cleans up."""

from __future__ import annotations

import itertools
import os
import select
import shutil
import time
from pathlib import Path

import pytest

from wherry.runtime.cgroups import Cgroup, open_cgroup
from wherry.runtime.cgroups.hierarchy import hierarchies
from wherry.runtime.interface import Interface
from wherry.runtime.launch import Launched, execute, launch
from wherry.runtime.root import OverlayRoot, Root
from wherry.runtime.spec import parse_process, parse_spec

DEADLINE_S = 60.0
CAPABILITIES = [
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
]
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MASKED = [
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
]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def need_controllers(*wanted: str) -> None:
    """Skip a test of limits that nothing on this machine can set (a hybrid's version 2 has few)."""
    found: set[str] = set()
    for item in hierarchies():
        if item.version == 1:
            found.update(item.controllers)
        else:
            found.update(Path(item.mount_point, "cgroup.controllers").read_text().split())
    missing = set(wanted) - found
    if missing:
        pytest.skip(f"no {', '.join(sorted(missing))} controller")


def docker_spec(args: list[str]) -> dict:
    """What Docker hands to its runtime for `docker run`, without the files of /etc."""
    return {
        "ociVersion": "1.2.1",
        "process": {
            "user": {"username": ""},
            "args": args,
            "env": [PATH, "HOSTNAME=box"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "oomScoreAdj": 0,
        },
        "hostname": "box",
        "root": {"path": "rootfs"},
        "mounts": [
            _mount("/proc", "proc", "nosuid,noexec,nodev"),
            _mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            _mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            _mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
            _mount("/sys/fs/cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
            _mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
            _mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=67108864", "shm"),
        ],
        "linux": {
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc")],
            "seccomp": {"profile": "default"},
            "maskedPaths": MASKED,
            "readonlyPaths": READONLY,
        },
    }


def _mount(destination: str, kind: str, options: str, source: str = "") -> dict:
    return {
        "destination": destination,
        "type": kind,
        "source": source or kind,
        "options": options.split(","),
    }


def make_busybox(root: Path) -> None:
    """A root file system of one static program."""
    for folder in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in [
        "sh",
        "cat",
        "ls",
        "env",
        "id",
        "true",
        "false",
        "sleep",
        "mount",
        "umount",
        "stat",
        "readlink",
        "hostname",
        "ps",
        "tty",
        "stty",
        "echo",
        "touch",
        "mkdir",
        "dd",
        "ip",
        "kill",
        "yes",
        "head",
        "nice",
        "grep",
        "test",
        "mknod",
        "chroot",
        "unshare",
        "dnsdomainname",
        "ln",
        "rm",
        "seq",
        "ulimit",
        "pwd",
        "sysctl",
        "mountpoint",
        "nproc",
        "chown",
        "printenv",
        "df",
        "wc",
    ]:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\napp:x:1001:\naudio:x:29:app\n")


class Result:
    """How a container ended and what it said."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        self.code = code
        self.output = output
        self.errors = errors


class Running:
    """A container or exec whose output is being collected."""

    def __init__(self, machine: Machine, launched: Launched, pipes: tuple[int, ...]) -> None:
        self.machine = machine
        self.launched = launched
        self.pipes = pipes
        machine.open_pipes.update(fd for fd in pipes if fd != launched.console)

    def wait(self) -> Result:
        """Collect all output, then the exit code."""
        chunks: dict[int, bytes] = dict.fromkeys(self.pipes, b"")
        poller = select.poll()
        for fd in self.pipes:
            poller.register(fd, select.POLLIN)
        left = set(self.pipes)
        deadline = time.monotonic() + DEADLINE_S
        while left:
            assert time.monotonic() < deadline, f"still running: {chunks}"
            for fd, _ in poller.poll(1000):
                try:
                    data = os.read(fd, 65536)
                except OSError:
                    data = b""
                chunks[fd] += data
                if not data:
                    poller.unregister(fd)
                    left.discard(fd)
        code = self.machine.reap(self.launched)
        texts = [chunks[fd].decode(errors="replace") for fd in self.pipes]
        for fd in self.pipes:
            if fd in self.machine.open_pipes:
                self.machine.open_pipes.discard(fd)
                os.close(fd)
        return Result(code, texts[0], texts[1] if len(texts) > 1 else "")

    def read_line(self) -> str:
        """The next line of standard output."""
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.pipes[0], 1)
            if not byte:
                break
            line += byte
        return line.decode()


class Machine:
    """Launches containers over one busybox tree; `close` leaves nothing behind."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.lower = scratch / "lower"
        make_busybox(self.lower)
        self._numbers = itertools.count()
        self._cgroups: list[Cgroup] = []
        self._alive: list[Launched] = []
        self.cgroup: Cgroup | None = None
        self.open_pipes: set[int] = set()

    def overlay(self) -> OverlayRoot:
        """A fresh writable root."""
        base = self.scratch / f"c{next(self._numbers)}"
        (base / "upper").mkdir(parents=True)
        (base / "work").mkdir()
        return OverlayRoot((str(self.lower),), str(base / "upper"), str(base / "work"))

    def new_cgroup(self) -> Cgroup:
        """A cgroup of its own, removed at the end."""
        cgroup = open_cgroup(f"/wherry-tests-{os.getpid()}/{next(self._numbers)}")
        self._cgroups.append(cgroup)
        self.cgroup = cgroup
        return cgroup

    def start(
        self,
        document: dict,
        *,
        root: Root | None = None,
        interfaces: tuple[Interface, ...] = (),
    ) -> Running:
        """Launch with pipes (or the pty of a terminal) for output."""
        pipes, stdio = _make_pipes()
        terminal = bool(document["process"].get("terminal"))
        try:
            launched = launch(
                parse_spec(document),
                root=root or self.overlay(),
                stdio=None if terminal else stdio,
                cgroup=self.new_cgroup(),
                interfaces=interfaces,
            )
        except BaseException:
            _close(*pipes)
            raise
        finally:
            _close(*stdio)
        self._alive.append(launched)
        if terminal:
            _close(*pipes)
            pipes = (launched.console,)
        return Running(self, launched, pipes)

    def run(self, document: dict, **options) -> Result:
        """Launch and wait."""
        return self.start(document, **options).wait()

    def shell(self, script: str, **options) -> Result:
        """Run a shell script in a default container."""
        return self.run(docker_spec(["sh", "-c", script]), **options)

    def execute(self, running: Running, process: dict) -> Running:
        """Another process in a running container."""
        pipes, stdio = _make_pipes()
        terminal = bool(process.get("terminal"))
        try:
            launched = execute(
                running.launched,
                parse_process(process),
                cgroup=self.cgroup,
                stdio=None if terminal else stdio,
            )
        except BaseException:
            _close(*pipes)
            raise
        finally:
            _close(*stdio)
        self._alive.append(launched)
        if terminal:
            _close(*pipes)
            pipes = (launched.console,)
        return Running(self, launched, pipes)

    def reap(self, launched: Launched) -> int:
        """Wait for the end of a process and close its descriptors."""
        _, status = os.waitpid(launched.pid, 0)
        self._alive.remove(launched)
        for fd in (launched.pidfd, launched.console, launched.root, launched.devpts):
            if fd >= 0:
                os.close(fd)
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """End and remove everything."""
        for cgroup in self._cgroups:
            if cgroup.exists():
                cgroup.kill()
        for launched in list(self._alive):
            self.reap(launched)
        for cgroup in self._cgroups:
            cgroup.remove()
        for fd in self.open_pipes:
            os.close(fd)
        if self.cgroup is not None:
            for path in self.cgroup.paths().values():
                try:
                    os.rmdir(os.path.dirname(path))
                except OSError:
                    continue  # another machine of this test is using it


def _make_pipes() -> tuple[tuple[int, int], tuple[int, int, int]]:
    out, out_end = os.pipe2(os.O_CLOEXEC)
    err, err_end = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    return (out, err), (null, out_end, err_end)


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
