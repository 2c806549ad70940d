"""The built-in init: passes on signals, reaps, and ends as its program does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wherry.shim.builtin_init import write_builtin_init


@pytest.fixture
def init(tmp_path: Path) -> str:
    path = write_builtin_init(str(tmp_path))
    if not path:
        pytest.skip("not compiled for this machine")
    return path


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 5", 5), ("kill -9 $$", 137), ("kill $$", 143)]
)
def test_exit_code(init: str, script: str, code: int) -> None:
    assert run(init, "--", "sh", "-c", script).returncode == code


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [
        ("nope", 127, "No such file"),
        ("/etc/passwd", 126, "Permission denied"),
        ("/", 126, "denied"),
    ],
)
def test_program_that_cannot_be_run(init: str, program: str, code: int, reason: str) -> None:
    result = run(init, "--", program)
    assert result.returncode == code
    assert reason in result.stderr


def test_usage(init: str) -> None:
    assert run(init).returncode == 1
    assert run(init, "--").returncode == 1


def test_path_and_environment(init: str, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "program"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$1 $X"\n')
    program.chmod(0o755)
    result = subprocess.run(
        [init, "--", "program", "a b"],
        env={"PATH": f"/nowhere:{program.parent}:/bin", "X": "x"},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert result.stdout == "a b x\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_are_passed_on(init: str, number: signal.Signals) -> None:
    script = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    with subprocess.Popen(
        [init, "--", sys.executable, "-c", script], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(20) == 42


def test_signal_mask_and_dispositions_are_those_it_was_given(init: str) -> None:
    names = ("SigBlk", "SigIgn")
    direct = run("grep", "-E", "|".join(names), "/proc/self/status").stdout
    assert run(init, "--", "grep", "-E", "|".join(names), "/proc/self/status").stdout == direct


def test_program_leads_a_process_group(init: str) -> None:
    code = "import os; print(os.getpgrp() == os.getpid())"
    assert run(init, "--", sys.executable, "-c", code).stdout == "True\n"


def test_orphans_are_reaped_by_pid_one(init: str) -> None:
    script = (
        "(sh -c 'sleep 0 & exit'); "
        "for i in 1 2 3 4 5 6 7 8 9 10; do "
        "ls -d /proc/[0-9]* | wc -l; grep -l '^State:.Z' /proc/[0-9]*/status; sleep 0.05; done | tail -1"
    )
    if os.geteuid() != 0:
        pytest.skip("needs root for a pid namespace")
    result = run(
        "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", init, "--", "sh", "-c", script
    )
    assert result.returncode == 0
    assert "status" not in result.stdout


def test_is_small_and_static(init: str) -> None:
    data = Path(init).read_bytes()
    assert len(data) < 4096
    assert data[:4] == b"\x7fELF"
    assert b"ld-linux" not in data
    assert Path(init).stat().st_mode & 0o777 == 0o755
