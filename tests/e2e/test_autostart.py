"""The engine that a command starts by itself, in namespaces where nothing listens and no state is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PREPARE = """
set -e
mkdir -p /var/lib/wherry /run/wherry
mount --make-rprivate /
for folder in /var/lib/wherry /run/wherry /var/log; do mount -t tmpfs none $folder; done
ip link set lo up 2>/dev/null || true
wherry() {
    env -u DOCKER_HOST -u WHERRY_HOST "$LAUNCHER" "$@"
}
trap 'wherry system stop >/dev/null 2>&1' EXIT
"""


def run_alone(script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in mount and network namespaces of its own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare of util-linux")
    return subprocess.run(
        [unshare, "--mount", "--net", "sh", "-c", PREPARE + script],
        env={
            "LAUNCHER": str(Path(sys.executable).with_name("wherry")),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_two_commands_at_once_give_one_engine() -> None:
    done = run_alone(
        """
        wherry version >/tmp/$$.1 & first=$!
        wherry version >/tmp/$$.2 & second=$!
        wait $first; wait $second
        grep -c 'Server: wherry' /tmp/$$.1 /tmp/$$.2 | cut -d: -f2
        rm -f /tmp/$$.1 /tmp/$$.2
        grep -c ' ready on ' /var/log/wherryd.log
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1", "1"]
    assert done.stderr == "Starting the wherry daemon; its log is /var/log/wherryd.log\n"


def test_nothing_inherited_stays_open_in_the_engine() -> None:
    # The substitution ends when the pipe's last writer does: an engine that held it would hang this.
    done = run_alone(
        """
        shown=$(wherry ps -q 7>&1 2>/dev/null)
        echo "<$shown>"
        """
    )
    assert done.stdout == "<>\n", done.stderr


def test_stop_ends_the_engine_and_says_when_there_is_none() -> None:
    done = run_alone(
        """
        wherry ps -q
        wherry system stop
        test ! -e /run/wherry/wherry.sock && echo gone
        wherry system stop
        wherry ps
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gone\nThe wherry daemon is not running\nCONTAINER ID")
    assert done.stderr.count("Starting the wherry daemon") == 2


def test_an_engine_that_cannot_start_says_why() -> None:
    done = run_alone(
        """
        rm -rf /var/lib/wherry/* && mount -o remount,ro /var/lib/wherry
        wherry ps
        """
    )
    assert done.returncode == 1
    assert "The wherry daemon ended before it was ready:" in done.stderr
    assert "Cannot connect to the wherry daemon" in done.stderr
