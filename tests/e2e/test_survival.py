"""kill -9 of engine, spawner and shims in each combination: what must go on goes on, and nothing is lost."""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from tests.harness.engine import Engine, running_engine
from tests.images.make import default_folder, make_image

COUNT = 20
KNOCK = b"knock\n"


@pytest.fixture(scope="module")
def own_engine() -> Iterator[Engine]:
    """An engine that may be killed."""
    with running_engine() as engine:
        engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        yield engine


@pytest.fixture
def engine(own_engine: Engine) -> Iterator[Engine]:
    """The module's engine, empty again afterwards."""
    yield own_engine
    if own_engine.process is None:
        own_engine.start()
    left = own_engine.docker("ps", "-aq").split()
    if left:
        own_engine.docker("rm", "-f", *left)
    assert not own_engine.settle()


def find_processes(engine: Engine, word: str) -> list[int]:
    """Pids of this engine's processes with that word in their command line."""
    return [pid for pid, command in engine.processes() if word in command]


def start_many(engine: Engine) -> list[str]:
    """Twenty containers that end when they are told."""
    program = "echo started; while [ ! -e /end ]; do usleep 20000; done; echo ended; exit 6"
    return [
        engine.docker("run", "-d", "--name", f"c{number}", "busybox:latest", "sh", "-c", program)
        for number in range(COUNT)
    ]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it does not become true"
        time.sleep(0.02)  # of a log and of control groups there is no event


def wait_until_attached(engine: Engine, client: subprocess.Popen[bytes]) -> None:
    """Lets the container's program say something until the client has heard it."""
    assert client.stdout is not None
    for _ in range(100):
        engine.docker("exec", "c0", "sh", "-c", "echo knock > /proc/1/fd/1")
        if select.select([client.stdout], [], [], 0.2)[0]:
            assert os.read(client.stdout.fileno(), len(KNOCK)) == KNOCK
            return
    pytest.fail("the client was never attached")


@pytest.mark.parametrize("victims", [("engine",), ("spawner",), ("engine", "spawner")])
def test_containers_outlive_the_engine_and_the_spawner(
    engine: Engine, victims: tuple[str, ...]
) -> None:
    identities = start_many(engine)
    with engine.spawn("docker", "attach", "--no-stdin", "c0") as attached:
        assert attached.stdout is not None
        wait_until_attached(engine, attached)
        if "spawner" in victims:
            os.kill(engine.spawner_pid(), signal.SIGKILL)
        if "engine" in victims:
            engine.kill()
            engine.start()
        assert sorted(engine.docker("ps", "-q", "--no-trunc").split()) == sorted(identities)
        for number in range(COUNT):
            # The container may end before this exec has: its exit code says nothing.
            engine.run("docker", "exec", f"c{number}", "touch", "/end", check=False)
        assert attached.stdout.read().replace(KNOCK, b"") == b"ended\n"
        attached.wait(20)
    for number in range(COUNT):
        assert engine.docker("wait", f"c{number}") == "6"
        logs = engine.docker("logs", f"c{number}").replace(KNOCK.decode(), "")
        assert logs == "started\nended"
    assert engine.docker("run", "--rm", "busybox:latest", "echo", "again") == "again"


def test_an_end_without_an_engine_is_known_to_the_next(engine: Engine) -> None:
    engine.docker(
        "run", "-d", "--name", "c1", "busybox:latest", "sh", "-c", "sleep 0.5; echo late; exit 9"
    )
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "c1"))
    pidfd = os.pidfd_open(pid)
    engine.kill()
    assert select.select([pidfd], [], [], 20)[0]
    os.close(pidfd)
    engine.start()
    assert (
        engine.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "c1") == "exited 9"
    )
    assert engine.docker("logs", "c1") == "late"


@pytest.mark.parametrize("alive", [True, False])
def test_a_container_whose_shim_was_killed_ends_as_137(engine: Engine, alive: bool) -> None:
    engine.docker("run", "-d", "--name", "c1", "busybox:latest", "sleep", "600")
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "c1"))
    shim = parent_of(pid)
    if not alive:
        engine.kill()
    os.kill(shim, signal.SIGKILL)
    if not alive:
        engine.start()
    assert engine.docker("wait", "c1") == "137"
    assert engine.docker("inspect", "-f", "{{.State.Running}}", "c1") == "false"
    engine.docker("start", "c1")
    engine.docker("rm", "-f", "c1")


def test_paused_containers_whose_shim_was_killed_are_freed(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "c1", "busybox:latest", "sleep", "600")
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "c1"))
    engine.docker("pause", "c1")
    os.kill(parent_of(pid), signal.SIGKILL)
    assert engine.docker("wait", "c1") == "137"


def test_a_restart_policy_holds_over_an_engine_restart(engine: Engine) -> None:
    engine.docker(
        "run", "-d", "--name", "c1", "--restart", "always", "busybox:latest", "sleep", "600"
    )
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "c1"))
    engine.kill()
    os.kill(pid, signal.SIGKILL)
    engine.start()
    for _ in itertools.repeat(None, 200):
        if engine.docker("inspect", "-f", "{{.State.Running}}", "c1") == "true":
            break
    assert engine.docker("inspect", "-f", "{{.State.Running}}", "c1") == "true"
    assert int(engine.docker("inspect", "-f", "{{.State.Pid}}", "c1")) != pid


def test_containers_with_links_come_back_in_any_order(engine: Engine) -> None:
    run = ("run", "-d", "--restart", "always")
    program = ("busybox:latest", "sleep", "600")
    engine.docker(*run, "--name", "server", *program)
    engine.docker(*run, "--name", "user", "--link", "server:db", *program)
    pids = engine.docker("inspect", "-f", "{{.State.Pid}}", "server", "user").split()
    engine.kill()
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    engine.start()
    running = ("ps", "-q", "-f", "status=running")
    wait_for(lambda: len(engine.docker(*running).split()) == len(pids))
    address = engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "server").strip()
    assert f"{address}\tdb " in engine.docker("exec", "user", "cat", "/etc/hosts")


def parent_of(pid: int) -> int:
    """A process's parent."""
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


def test_a_port_that_somebody_took_while_no_engine_ran(engine: Engine) -> None:
    engine.docker(
        "run", "-d", "--name", "c0", "-p", "127.0.0.1::80", "busybox:latest", "sleep", "60"
    )
    port = int(engine.docker("port", "c0", "80").rpartition(":")[2])
    engine.kill()
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", port))
        thief.listen()
        engine.start()
        assert engine.docker("ps", "--format", "{{.Names}}") == "c0"
        assert "port is already allocated" in engine.log_tail()
    engine.docker("restart", "-t", "0", "c0")


def test_a_slot_that_cannot_be_made_is_one_line_in_the_log() -> None:
    """Somebody takes the bridge away: what cannot be prepared ahead is said once, and nothing of it stays."""
    with running_engine(options=["--slots=1"]) as engine:
        engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        engine.docker("run", "--rm", "busybox", "true")
        wait_for(lambda: len(engine.slots()) == 1 and all(engine.slots().values()))
        subprocess.run(["ip", "link", "del", engine.bridge], check=True)
        engine.docker("create", "--name", "waits", "busybox", "true")
        wait_for(lambda: "make a slot: " in engine.log.read_text())
        assert "Traceback" not in engine.log.read_text()
        done = engine.run("docker", "start", "waits", check=False)
        assert "Traceback" not in done.stderr + engine.log.read_text()
        engine.docker("rm", "-f", "waits")
        wait_for(lambda: not engine.leftovers()["cgroups"])
