"""wherry-oci as a command: the life of a container, as containerd and Podman drive it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runtime.bundle import docker_spec, make_busybox, need_controllers

PROGRAM = Path(__file__).parents[2] / "src/wherry/runtime/main.py"
DEADLINE_S = 60


class Oci:
    """One runtime root and one bundle."""

    def __init__(self, scratch: Path) -> None:
        self.bundle = scratch / "bundle"
        self.root = scratch / "state"
        self.log = scratch / "log.json"
        make_busybox(self.bundle / "rootfs")
        self.name = f"oci-{os.getpid()}-{time.monotonic_ns()}"

    def configure(self, *args: str, **process: object) -> dict:
        document = docker_spec([*args])
        document["process"]["user"] = {"uid": 0, "gid": 0}
        document["process"].update(process)
        document["linux"]["cgroupsPath"] = f"/wherry-tests/{self.name}"
        self.write(document)
        return document

    def write(self, document: dict) -> None:
        (self.bundle / "config.json").write_text(json.dumps(document))

    def command(self, *words: str) -> list[str]:
        python = [sys.executable, "-I", "-S", str(PROGRAM)]
        log = ["--log", str(self.log), "--log-format", "json"]
        return [*python, "--root", str(self.root), *log, *words]

    def __call__(self, *words: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        done = subprocess.run(
            self.command(*words),
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            **options,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def create(self, *options: str, **kinds) -> None:
        """create keeps the standard streams open for the container: no pipes of ours."""
        done = subprocess.run(
            self.command("create", "--bundle", str(self.bundle), *options, self.name),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=kinds.get("stdout", subprocess.DEVNULL),
            stderr=subprocess.DEVNULL,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 0, self.log.read_text()

    def status(self) -> str:
        return json.loads(self("state", self.name).stdout)["status"]

    def await_status(self, wanted: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.status() != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def oci(tmp_path: Path):
    made = Oci(tmp_path)
    yield made
    made("delete", "--force", made.name)
    assert not Path("/sys/fs/cgroup/memory/wherry-tests", made.name).exists()


def run(oci: Oci, *options: str, **more) -> subprocess.CompletedProcess:
    return oci("run", "--bundle", str(oci.bundle), *options, oci.name, check=False, **more)


def test_run(oci: Oci) -> None:
    oci.configure("sh", "-c", "echo out; echo err >&2; exit 7")
    done = run(oci)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert oci("state", oci.name, check=False).returncode == 1
    assert not Path(oci.root, oci.name).exists()


def test_life_cycle(oci: Oci, tmp_path: Path) -> None:
    need_controllers("pids")
    oci.configure("sh", "-c", "echo started > /tmp/started; exec sleep 100")
    pid_file = tmp_path / "pid"
    oci.create("--pid-file", str(pid_file))
    state = json.loads(oci("state", oci.name).stdout)
    assert (state["status"], state["id"], state["bundle"]) == (
        "created",
        oci.name,
        str(oci.bundle),
    )
    assert state["pid"] == int(pid_file.read_text())
    assert not (oci.bundle / "rootfs/tmp/started").exists()
    oci("start", oci.name)
    assert oci("start", oci.name, check=False).returncode == 1
    oci.await_status("running")
    assert oci.name in oci("list", "-q").stdout.split()
    assert oci("delete", oci.name, check=False).returncode == 1
    done = oci("exec", oci.name, "sh", "-c", "cat /tmp/started; exit 5", check=False)
    assert (done.returncode, done.stdout) == (5, "started\n")
    assert json.loads(oci("ps", "--format", "json", oci.name).stdout) == [state["pid"]]
    oci("pause", oci.name)
    assert oci.status() == "paused"
    assert oci("exec", oci.name, "true", check=False).returncode == 1
    oci("resume", oci.name)
    oci("update", "--pids-limit", "44", oci.name)
    stats = json.loads(oci("events", "--stats", oci.name).stdout)
    assert stats["data"]["pids"]["limit"] == 44
    oci("kill", oci.name, "KILL")
    oci.await_status("stopped")
    oci("delete", oci.name)


def test_failures_are_told_as_runc_tells_them(oci: Oci) -> None:
    oci.configure("nope")
    done = run(oci)
    message = 'exec: "nope": executable file not found in $PATH'
    assert done.returncode == 1
    assert message in done.stderr
    assert message in json.loads(oci.log.read_text().splitlines()[-1])["msg"]
    assert not Path(oci.root, oci.name).exists()
    assert oci("state", "../etc", check=False).returncode == 1
    assert oci("zoo", check=False).returncode == 1
    assert oci("kill", oci.name, check=False).stderr.endswith("container does not exist\n")


def test_an_id_is_taken_once(oci: Oci) -> None:
    oci.configure("sleep", "100")
    oci.create()
    assert "already exists" in run(oci).stderr
    oci("kill", oci.name, "KILL")
    oci.await_status("stopped")


def test_console_socket(oci: Oci, tmp_path: Path) -> None:
    oci.configure("sh", "-c", "tty", terminal=True)
    path = tmp_path / "console"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        oci.create("--console-socket", str(path))
        connection, _ = server.accept()
        _, fds, _, _ = socket.recv_fds(connection, 100, 1)
        connection.close()
    oci("start", oci.name)
    output = b""
    while True:
        try:
            chunk = os.read(fds[0], 1000)
        except OSError:
            break
        output += chunk
    os.close(fds[0])
    assert output.split() == [b"/dev/pts/0"]


def test_hooks(oci: Oci, tmp_path: Path) -> None:
    document = oci.configure("sh", "-c", "echo program; exec sleep 100")
    seen = tmp_path / "seen"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\n(echo $1; cat; echo) >> {seen}\n")
    hook.chmod(0o755)
    document["hooks"] = {
        moment: [{"path": str(hook), "args": ["hook", moment]}]
        for moment in ("prestart", "createRuntime", "poststart", "poststop")
    }
    oci.write(document)
    oci.create()
    oci("start", oci.name)
    oci("delete", "--force", oci.name)
    lines = seen.read_text().splitlines()
    moments = lines[::2]
    statuses = [json.loads(line)["status"] for line in lines[1::2]]
    assert moments == ["prestart", "createRuntime", "poststart", "poststop"]
    assert statuses == ["created", "created", "running", "stopped"]


def test_a_failing_hook_ends_the_create(oci: Oci) -> None:
    document = oci.configure("true")
    document["hooks"] = {"prestart": [{"path": "/bin/false"}]}
    oci.write(document)
    done = run(oci)
    assert "error running prestart hook #0" in done.stderr
    assert not Path(oci.root, oci.name).exists()


def test_signals_are_forwarded(oci: Oci) -> None:
    oci.configure("sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
    with subprocess.Popen(
        oci.command("run", "--bundle", str(oci.bundle), oci.name), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 3


def test_the_interpreter_cannot_be_overwritten(oci: Oci) -> None:
    """CVE-2019-5736: /proc/self/exe of an entry point leads to the runtime's own program."""
    script = "p=/proc/self/exe; exec 3<$p; (echo x > /proc/self/fd/3) 2>/dev/null && echo WRITTEN; echo end"
    oci.configure("sh", "-c", script)
    assert "WRITTEN" not in run(oci).stdout
    before = Path(os.path.realpath(sys.executable)).stat().st_mtime_ns
    oci.configure("/proc/self/exe", "-c", "open('/proc/self/exe', 'w')")
    run(oci)
    assert Path(os.path.realpath(sys.executable)).stat().st_mtime_ns == before


def test_spec_and_features(oci: Oci, tmp_path: Path) -> None:
    features = json.loads(oci("features").stdout)
    assert "user" in features["linux"]["namespaces"]
    assert features["linux"]["seccomp"]["enabled"]
    oci("spec", "--bundle", str(tmp_path))
    document = json.loads((tmp_path / "config.json").read_text())
    assert document["process"]["args"] == ["sh"]
    assert oci("spec", "--bundle", str(tmp_path), check=False).returncode == 1
    document["process"].update(args=["cat", "/proc/self/status"], terminal=False)
    document["linux"]["cgroupsPath"] = f"/wherry-tests/{oci.name}"
    oci.write(document)
    assert "NoNewPrivs:\t1" in run(oci).stdout
