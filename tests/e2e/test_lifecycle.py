"""The life of a container: exit codes, exec, attach, stop, kill, wait, logs, limits, signals, window size."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.harness.engine import Engine


@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 127, 255])
def test_the_exit_code_is_the_programs(engine: Engine, busybox: str, code: int) -> None:
    done = engine.run("docker", "run", "--rm", busybox, "sh", "-c", f"exit {code}", check=False)
    assert done.returncode == code


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nope"], 127, r'exec: "nope": executable file not found in \$PATH'),
        (["/nope"], 127, r'exec: "/nope": stat /nope: no such file or directory'),
        (["/etc/passwd"], 126, r'exec: "/etc/passwd": permission denied'),
        (["/etc"], 126, r'exec: "/etc": is a directory'),
    ],
)
def test_what_cannot_be_started(
    engine: Engine, busybox: str, client: str, arguments: list[str], code: int, sentence: str
) -> None:
    done = engine.run(client, "run", "--rm", busybox, *arguments, check=False)
    assert done.returncode == code
    assert re.search(sentence, done.stderr), done.stderr


def test_copies_of_a_container_that_does_not_run(
    engine: Engine, busybox: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("one")
    engine.docker("create", "--name", "c1", "-w", "/new/folder", busybox, "cat", "file")
    engine.docker("cp", str(tmp_path / "file"), "c1:/new/folder/")
    assert engine.docker("start", "-a", "c1") == "one"
    for name in ("resolv.conf", "hosts", "hostname"):
        engine.docker("cp", f"c1:/etc/{name}", str(tmp_path))
    assert (tmp_path / "hostname").read_text().strip() in (tmp_path / "hosts").read_text()
    assert "nameserver" in (tmp_path / "resolv.conf").read_text()
    engine.docker("rm", "c1")


def test_the_engines_own_errors_are_125(engine: Engine, busybox: str, client: str) -> None:
    done = engine.run(client, "run", "--rm", "-u", "nobody-at-all", busybox, "true", check=False)
    assert done.returncode in {125, 126}
    assert "unable to find user nobody-at-all: no matching entries in passwd file" in done.stderr
    assert engine.run(client, "run", "--no-such-flag", busybox, check=False).returncode == 125


def test_death_by_signal_is_128_and_the_signal(engine: Engine, busybox: str) -> None:
    done = engine.run(
        "docker", "run", "--rm", busybox, "sh", "-c", "sh -c 'kill -9 $$'; exit $?", check=False
    )
    assert done.returncode == 137
    engine.docker("run", "-d", "--name", "c1", busybox, "sleep", "60")
    engine.docker("kill", "-s", "KILL", "c1")
    assert engine.docker("wait", "c1") == "137"
    engine.docker("rm", "c1")


def test_output_of_both_streams_is_kept_apart_and_logged(engine: Engine, busybox: str) -> None:
    program = "echo out; echo err >&2; printf unfinished"
    done = engine.run("docker", "run", "--name", "c1", busybox, "sh", "-c", program)
    assert done.stdout == "out\nunfinished"
    assert done.stderr == "err\n"
    logs = engine.run("docker", "logs", "c1")
    assert (logs.stdout, logs.stderr) == ("out\nunfinished", "err\n")
    stamped = engine.run("docker", "logs", "-t", "--tail", "1", "c1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z unfinished", stamped.stdout)
    engine.docker("rm", "c1")


def test_following_logs_ends_with_the_container(engine: Engine, busybox: str) -> None:
    engine.docker(
        "run", "-d", "-i", "--name", "c1", busybox, "sh", "-c", "echo one; read x; echo two"
    )
    with engine.spawn("docker", "logs", "-f", "c1") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"one\n"
        engine.run("docker", "attach", "--no-stdin=false", "c1", input_="go\n")
        assert follower.stdout.read() == b"two\n"
        assert follower.wait(20) == 0
    engine.docker("rm", "c1")


def test_exec_attach_and_detach_keys(engine: Engine, busybox: str, client: str) -> None:
    engine.docker("run", "-dit", "--name", "c1", busybox, "sh")
    with engine.terminal(client, "exec", "-it", "c1", "sh") as terminal:
        terminal.expect("/ # ")
        terminal.send_line("stty size; exit 5")
        terminal.expect(r"24 80")
        assert terminal.wait() == 5
    with engine.terminal(client, "attach", "c1") as terminal:
        terminal.send_line("echo $((40 + 2))")
        terminal.expect(r"\r\n42\r\n")
        terminal.send("\x10\x11")
        terminal.expect("read escape sequence")
        assert terminal.wait() == 1
    assert engine.docker("inspect", "-f", "{{.State.Running}}", "c1") == "true"
    with engine.terminal(client, "attach", "c1") as terminal:
        terminal.send_line("exit 9")
        assert terminal.wait() == 9
    engine.docker("rm", "c1")


def test_start_attached_and_interactive(engine: Engine, busybox: str, client: str) -> None:
    engine.run(client, "create", "-i", "--name", "c1", busybox, "cat")
    done = engine.run(client, "start", "-ai", "c1", input_="through\n")
    assert done.stdout == "through\n"
    engine.docker("rm", "c1")


def test_the_window_size_follows_the_terminal(engine: Engine, busybox: str, client: str) -> None:
    # Without job control the shell stays the terminal's foreground group and gets SIGWINCH.
    program = "trap 'exit 5' INT; trap 'echo now $(stty size)' WINCH; echo ready; while :; do sleep 0.1; done"
    with engine.terminal(client, "run", "--rm", "-it", busybox, "sh", "-c", program) as terminal:
        terminal.expect("ready")
        # The official client misses changes until it has told the first size: try again.
        for columns in range(100, 120):
            terminal.resize(40, columns)
            if terminal.sees(f"now 40 {columns}", within_s=1):
                break
        else:
            pytest.fail(f"no new size in {terminal.output!r}")
        terminal.send("\x03")
        assert terminal.wait() == 5


def test_stop_asks_then_kills(engine: Engine, busybox: str, client: str) -> None:
    polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    engine.docker("run", "-d", "--name", "polite", busybox, "sh", "-c", polite)
    _wait_for_log(engine, "polite", "ready")
    engine.run(client, "stop", "polite")
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "polite") == "3"
    deaf = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    engine.docker("run", "-d", "--name", "deaf", busybox, "sh", "-c", deaf)
    _wait_for_log(engine, "deaf", "ready")
    started = time.monotonic()
    engine.run(client, "stop", "-t", "1", "deaf")
    assert 0.9 < time.monotonic() - started < 8
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "deaf") == "137"
    engine.docker("rm", "polite", "deaf")


def test_signals_of_the_client_reach_the_program(engine: Engine, busybox: str, client: str) -> None:
    program = "trap 'echo got; exit 4' USR1; echo ready; while :; do sleep 0.1; done"
    with engine.spawn(client, "run", "--rm", busybox, "sh", "-c", program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.read() == b"got\n"
        assert process.wait(20) == 4


def test_pause_restart_rename_and_top(engine: Engine, busybox: str, client: str) -> None:
    engine.docker("run", "-d", "--name", "c1", busybox, "sleep", "60")
    engine.run(client, "pause", "c1")
    assert "(Paused)" in engine.docker("ps")
    refused = engine.run(client, "exec", "c1", "true", check=False)
    assert "is paused, unpause the container before exec" in refused.stderr
    engine.run(client, "unpause", "c1")
    engine.run(client, "rename", "c1", "d1")
    assert "sleep 60" in engine.run(client, "top", "d1").stdout
    before = engine.docker("inspect", "-f", "{{.State.StartedAt}}", "d1")
    engine.run(client, "restart", "-t", "0", "d1")
    assert engine.docker("inspect", "-f", "{{.State.StartedAt}}", "d1") > before
    engine.docker("rm", "-f", "d1")


def test_a_node_program_that_takes_too_much_memory(engine: Engine, node: str) -> None:
    program = "const a=[]; for(;;) a.push(Buffer.alloc(1<<20, 1))"
    done = engine.run(
        "docker",
        "run",
        "--name",
        "c1",
        "-m",
        "64m",
        "--memory-swap",
        "64m",
        node,
        "node",
        "-e",
        program,
        check=False,
    )
    assert done.returncode == 137
    state = json.loads(engine.docker("inspect", "-f", "{{json .State}}", "c1"))
    assert state["OOMKilled"] is True
    assert state["ExitCode"] == 137
    engine.docker("rm", "c1")


def test_a_child_that_keeps_stdout_does_not_hold_the_client(engine: Engine, busybox: str) -> None:
    started = time.monotonic()
    done = engine.run("docker", "run", "--rm", busybox, "sh", "-c", "sleep 30 & echo started")
    assert done.stdout == "started\n"
    assert time.monotonic() - started < 10


def test_large_output_is_complete(engine: Engine, busybox: str, client: str) -> None:
    program = "dd if=/dev/zero bs=1M count=64 2>/dev/null"
    with engine.spawn(
        client, "run", "--rm", "--log-driver", "none", busybox, "sh", "-c", program
    ) as process:
        counted = subprocess.run(
            ["wc", "-c"], stdin=process.stdout, capture_output=True, check=True
        )
        assert process.wait(60) == 0
    assert int(counted.stdout) == 64 << 20


def _wait_for_log(engine: Engine, name: str, word: str) -> None:
    with engine.spawn("docker", "logs", "-f", name) as follower:
        assert follower.stdout is not None
        for line in follower.stdout:
            if word.encode() in line:
                break
        follower.kill()
