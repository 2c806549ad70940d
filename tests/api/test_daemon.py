"""wherryd as a process: one engine per ROOT, modes, ready, idle exit, shutdown by request and by signal."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.harness.engine import REPOSITORY, START_DEADLINE_S, Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(options=["--shutdown-timeout=2"])
    try:
        engine.start()
        yield engine
    finally:
        engine.destroy()


def ask(engine: Engine, method: str, path: str) -> tuple[int, bytes]:
    """One request; the server closes after it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(START_DEADLINE_S)
        client.connect(str(engine.socket))
        client.sendall(f"{method} {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while piece := client.recv(1 << 16):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def wait_for_end(engine: Engine) -> int:
    assert engine.process is not None
    status = engine.process.wait(START_DEADLINE_S)
    engine.process = None
    return status


def test_folders_and_socket_are_closed_to_others(engine: Engine) -> None:
    modes = {
        path: stat.S_IMODE(os.stat(path).st_mode)
        for path in (engine.root, engine.run_dir, engine.socket)
    }
    assert modes == {engine.root: 0o710, engine.run_dir: 0o711, engine.socket: 0o660}
    assert engine.process is not None
    assert (engine.folder / "pid").read_text() == f"{engine.process.pid}\n"


def test_a_second_engine_on_the_same_root_is_refused_with_one_sentence(engine: Engine) -> None:
    assert engine.process is not None
    second = subprocess.run(
        [
            sys.executable,
            "-m",
            "wherry.daemon",
            f"--data-root={engine.root}",
            f"--exec-root={engine.folder}/run2",
            f"-H=unix://{engine.folder}/s2",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        timeout=START_DEADLINE_S,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr == (
        f"wherryd: another engine (process {engine.process.pid}) uses {engine.root}\n"
    )
    assert ask(engine, "GET", "/_ping") == (200, b"OK")


def test_a_signal_ends_it_and_leaves_nothing_of_its_own(engine: Engine) -> None:
    assert engine.process is not None
    engine.process.terminate()
    assert wait_for_end(engine) == 0
    assert not engine.socket.exists()
    assert not (engine.folder / "pid").exists()


def test_the_shutdown_request_ends_it(engine: Engine) -> None:
    assert ask(engine, "POST", "/wherry/shutdown")[0] == 204
    assert wait_for_end(engine) == 0


def test_a_restart_keeps_networks_and_volumes(engine: Engine) -> None:
    engine.run("docker", "volume", "create", "--label", "a=b", "kept")
    before = json.loads(ask(engine, "GET", "/networks/bridge")[1])["Id"]
    engine.restart()
    assert json.loads(ask(engine, "GET", "/volumes/kept")[1])["Labels"] == {"a": "b"}
    assert json.loads(ask(engine, "GET", "/networks/bridge")[1])["Id"] == before


def test_idle_exit_waits_for_requests() -> None:
    engine = Engine(options=["--idle-exit=1", "--shutdown-timeout=2"])
    try:
        engine.start()
        with socket.socket(socket.AF_UNIX) as client:  # a client that listens to events keeps it
            client.settimeout(START_DEADLINE_S)
            client.connect(str(engine.socket))
            client.sendall(b"GET /events HTTP/1.1\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            assert engine.process is not None
            with pytest.raises(subprocess.TimeoutExpired):
                engine.process.wait(1.5)
        assert wait_for_end(engine) == 0
    finally:
        engine.destroy()


def test_bad_options_are_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wherry.daemon", "--nope"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        timeout=START_DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "wherryd: unknown flag: --nope\nSee 'wherryd --help'.\n",
    )
