"""An engine of a test's own: ROOT, RUN, socket, bridge and cgroup parent that no other engine has."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from tests.harness.terminal import Terminal
from tests.harness.traces import Claim
from wherry.kernel.netlink.rtnl import Rtnl

REPOSITORY = Path(__file__).parents[2]
START_DEADLINE_S = 60.0
COMMAND_DEADLINE_S = 120.0
SETTLE_S = 60.0
CGROUP_ROOT = Path("/sys/fs/cgroup")


class RunOptions(TypedDict, total=False):
    """Of `Engine.run`."""

    input_: str | bytes | None
    check: bool
    cwd: str | Path | None
    deadline_s: float


class Engine:
    """A wherryd process and the two clients, `docker` and `wherry`, pointed at it."""

    def __init__(
        self, *, options: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self.tag = f"wt{secrets.token_hex(3)}"
        self.folder = Path(
            tempfile.mkdtemp(prefix=f"{self.tag}-", dir=os.environ.get("WHERRY_TEST_TMP"))
        )
        self._claim = Claim(self.folder, self.tag)
        self.root = self.folder / "root"
        self.run_dir = self.folder / "run"
        self.socket = self.folder / "s"
        self.log = self.folder / "wherryd.log"
        self.bridge = self.tag
        self.cgroup_parent = f"/{self.tag}"
        self.options = tuple(options)
        self.extra_env = dict(env or {})
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """The environment of clients."""
        return {
            **os.environ,
            "DOCKER_HOST": f"unix://{self.socket}",
            "WHERRY_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.folder / "config"),
            "DOCKER_CLI_HINTS": "false",
            "DOCKER_BUILDKIT": "0",
            "PYTHONPATH": str(REPOSITORY / "src"),
            "TERM": "xterm",
        }

    def start(self) -> None:
        """Starts wherryd and waits until its socket answers."""
        read_end, write_end = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "wherry.daemon",
                    f"--data-root={self.root}",
                    f"--exec-root={self.run_dir}",
                    f"-H=unix://{self.socket}",
                    f"--pidfile={self.folder / 'pid'}",
                    f"--bridge={self.bridge}",
                    f"--cgroup-parent={self.cgroup_parent}",
                    f"--ready-fd={write_end}",
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[write_end],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), **self.extra_env},
                start_new_session=True,
            )
        os.close(write_end)
        with os.fdopen(read_end, "rb") as ready:
            readable, _, _ = select.select([ready], [], [], START_DEADLINE_S)
            if not readable or not ready.read(1):
                raise AssertionError(f"wherryd did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """SIGTERM and wait; containers go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(START_DEADLINE_S)
            self.process = None

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(START_DEADLINE_S)
        self.process = None

    def restart(self) -> None:
        """A new wherryd on the same ROOT."""
        if self.process is not None:
            self.stop()
        self.start()

    def argv(self, client: str, arguments: Sequence[str]) -> list[str]:
        """The command line of `docker` or `wherry`."""
        if client == "wherry":
            return [sys.executable, "-m", "wherry", *arguments]
        return [client, *arguments]

    def run(
        self,
        client: str,
        *arguments: str,
        input_: str | bytes | None = None,
        check: bool = True,
        cwd: str | Path | None = None,
        deadline_s: float = COMMAND_DEADLINE_S,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a client to its end. With `check`, a non-zero exit fails the test with its output."""
        raw = input_.encode() if isinstance(input_, str) else input_
        done = subprocess.run(
            self.argv(client, arguments),
            input=raw,
            stdin=subprocess.DEVNULL if raw is None else None,
            capture_output=True,
            env=self.env,
            cwd=cwd,
            timeout=deadline_s,
            check=False,
        )
        result = subprocess.CompletedProcess(
            done.args,
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )
        if check and result.returncode:
            raise AssertionError(
                f"{client} {' '.join(arguments)}: exit {result.returncode}\n"
                f"{result.stdout}{result.stderr}\n--- wherryd\n{self.log_tail()}"
            )
        return result

    def docker(self, *arguments: str, **options: Unpack[RunOptions]) -> str:
        """The official client's standard output, stripped."""
        return self.run("docker", *arguments, **options).stdout.strip()

    def docker_bytes(self, *arguments: str) -> bytes:
        """The official client's standard output as it is."""
        argv = self.argv("docker", arguments)
        return subprocess.run(argv, env=self.env, stdout=subprocess.PIPE, check=True).stdout

    def wherry(self, *arguments: str, **options: Unpack[RunOptions]) -> str:
        """Our client's standard output, stripped."""
        return self.run("wherry", *arguments, **options).stdout.strip()

    def spawn(
        self, client: str, *arguments: str, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """Starts a client with pipes for its streams; the caller waits for it."""
        return subprocess.Popen(
            self.argv(client, arguments),
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )

    def terminal(self, client: str, *arguments: str, cwd: str | None = None) -> Terminal:
        """Starts a client on a pseudo-terminal."""
        return Terminal(self.argv(client, arguments), env=self.env, cwd=cwd)

    def log_tail(self) -> str:
        """The end of wherryd's log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def mounts(self) -> list[str]:
        """Mount points of this engine in the host's table."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if f"/{self.tag}-" in line]

    def cgroups(self) -> list[str]:
        """Control groups below this engine's parent."""
        pattern = f"*{self.cgroup_parent}/*"
        return [str(path) for path in CGROUP_ROOT.glob(pattern) if path.is_dir()] + [
            str(path) for path in CGROUP_ROOT.glob(f"{self.tag}/*") if path.is_dir()
        ]

    def veths(self) -> list[str]:
        """Ports of this engine's bridge."""
        with Rtnl() as rtnl:
            bridge = rtnl.find_link(self.bridge)
            links = rtnl.links()
        return [link.name for link in links if bridge and link.master == bridge.index]

    def slots(self) -> dict[str, str]:
        """The containers that are prepared ahead, by their ids, and the names of their ports."""
        found = {}
        for folder in (self.run_dir / "slots").glob("*"):
            found[folder.name] = ""
            for path in CGROUP_ROOT.glob(f"*{self.cgroup_parent}/{folder.name}/cgroup.procs"):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    pid = path.read_text().split()[0]
                    link = Path(f"/proc/{pid}/root/sys/class/net/eth0/iflink").read_text()
                    found[folder.name] = socket.if_indextoname(int(link))
                    break
        return found

    def processes(self) -> list[tuple[int, str]]:
        """(pid, command line) of processes that name this engine's folder or sit in its cgroups."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                command = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                environment = (entry / "cgroup").read_text()
                _, _, state = (entry / "stat").read_text().rpartition(")")
                if state.split()[:2] == ["Z", "1"]:
                    continue  # an orphan that the machine's own init has yet to reap
                if f"/{self.tag}-" in command or re.search(rf"{self.cgroup_parent}\b", environment):
                    found.append((int(entry.name), command.strip()))
        return found

    def spawner_pid(self) -> int:
        """Of what is called so the engine's own child: a process that it has forked is still called as it."""
        assert self.process is not None
        [pid] = [
            pid
            for pid, command in self.processes()
            if "spawner" in command and _parent_of(pid) == self.process.pid
        ]
        return pid

    def leftovers(self) -> dict[str, list[str]]:
        """What a container leaves when something forgets it; empty lists when all is well. Slots are no leftovers."""
        alive = [command for _, command in self.processes() if "wherry.daemon" not in command]
        slots = self.slots()
        return {
            "mounts": [path for path in self.mounts() if "/containers/" in path],
            "cgroups": [path for path in self.cgroups() if Path(path).name not in slots],
            "veths": sorted({*self.veths()} - {*slots.values()}),
            "containers": sorted(p.name for p in (self.root / "containers").glob("*")),
            "processes": [command for command in alive if "spawner" not in command],
        }

    def settle(self) -> dict[str, list[str]]:
        """What is still left over after the kernel had its time to free namespaces; empty when all is well."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            remains = {kind: found for kind, found in self.leftovers().items() if found}
            if not remains or time.monotonic() > deadline:
                return remains
            time.sleep(0.05)  # there is no event for the end of a network namespace

    def destroy(self) -> None:
        """Ends everything of this engine and removes every trace, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._claim.remove()


def _parent_of(pid: int) -> int:
    """0 when the process has ended."""
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(rest.split()[1])


@contextlib.contextmanager
def running_engine(
    *, options: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[Engine]:
    """An engine for one test or one module."""
    engine = Engine(options=options, env=env)
    try:
        engine.start()
        yield engine
    finally:
        engine.destroy()
