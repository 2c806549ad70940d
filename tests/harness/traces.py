"""What a test's engine leaves on the machine, and who removes it when the test process itself was killed.

A claim is a file named after the engine's tag that its owner holds locked. The next run of the tests finds those
that nobody holds any more, and removes what they stand for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from pathlib import Path

from wherry.kernel.netlink.rtnl import Rtnl
from wherry.network.firewall import Firewall
from wherry.runtime.cgroups import open_cgroup

CLAIMS = Path(tempfile.gettempdir()) / "wherry-tests"


class Claim:
    """Says that everything under a folder and a tag (bridge, cgroup parent) belongs to this process."""

    def __init__(self, folder: Path, tag: str) -> None:
        self._folder = folder
        self._tag = tag
        CLAIMS.mkdir(exist_ok=True)
        self._file = (CLAIMS / tag).open("w", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.write(str(folder))
        self._file.flush()

    def remove(self) -> None:
        """Removes every trace, whatever state it is in, and the claim."""
        remove_traces(self._folder, self._tag)
        (CLAIMS / self._tag).unlink(missing_ok=True)
        self._file.close()


def sweep() -> None:
    """Removes the traces of test processes that were killed."""
    for path in CLAIMS.glob("*"):
        with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            folder = file.read()
            if folder:
                remove_traces(Path(folder), path.name)
                path.unlink(missing_ok=True)


def remove_traces(folder: Path, tag: str) -> None:
    """Processes, cgroups, mounts, networks and files. Idempotent."""
    for pid in processes_of(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cgroup = open_cgroup(f"/{tag}")
    cgroup.kill()
    with contextlib.suppress(OSError):  # what is still dying
        cgroup.remove()
    for path in reversed(mounts_below(folder)):
        subprocess.run(["umount", "-l", path], check=False, capture_output=True)
    _remove_networks(folder, tag)
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: Path) -> list[int]:
    """Engines, spawners and shims, which name their folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if b"wherry" in command and f"{folder}/".encode() in command:
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def mounts_below(folder: Path) -> list[str]:
    """In the order in which they were made."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return [point for point in points if point.startswith(f"{folder}/")]


def _remove_networks(folder: Path, tag: str) -> None:
    with contextlib.suppress(OSError):
        Firewall(tag).unload()
    bridges = {tag, *_recorded_bridges(folder / "root" / "state.db")}
    with Rtnl() as rtnl:
        for link in rtnl.links():
            if link.name in bridges:
                rtnl.delete_link(link.index)
                rtnl.flush()


def _recorded_bridges(database: Path) -> list[str]:
    """Bridges of networks that a test made and did not remove; they would use up the machine's subnets."""
    if not database.exists():
        return []
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            rows = connection.execute("SELECT record FROM networks").fetchall()
    except sqlite3.Error:
        return []
    return [name for (record,) in rows if (name := json.loads(record).get("bridge"))]
