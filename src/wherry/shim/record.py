"""What a shim leaves in RUN/containers/<id>/<generation>/: `state.json` while it lives, `exit.json` after.

Written with write + rename and without fsync: a power cut ends the container anyway (RUN is gone after a
reboot). Read by the engine, and by whoever finds a dead shim and must free what it held.
"""

from __future__ import annotations

import json
import os

from wherry.lib.jsonvalue import JsonError, JsonObject, get_bool, get_int, get_str

SOCKET_NAME = "shim.sock"
STATE_NAME = "state.json"
EXIT_NAME = "exit.json"
FILE_NAMES = (SOCKET_NAME, STATE_NAME, EXIT_NAME)


class ExitRecord:
    """How a container ended. `error` is empty unless wherry itself failed (a dead shim)."""

    __slots__ = ("error", "exit_code", "finished_at_ns", "oom_killed")

    def __init__(
        self, *, exit_code: int, finished_at_ns: int, oom_killed: bool = False, error: str = ""
    ) -> None:
        self.exit_code = exit_code
        self.finished_at_ns = finished_at_ns
        self.oom_killed = oom_killed
        self.error = error

    def encode(self) -> dict[str, object]:
        """As a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


class ShimState:
    """Which processes and cgroup belong to a live shim; start times guard against reused pids."""

    __slots__ = ("cgroup", "pid", "pid_start_time", "shim_pid", "shim_start_time", "systemd")

    def __init__(
        self,
        *,
        shim_pid: int,
        shim_start_time: int,
        pid: int,
        pid_start_time: int,
        cgroup: str,
        systemd: bool,
    ) -> None:
        self.shim_pid = shim_pid
        self.shim_start_time = shim_start_time
        self.pid = pid
        self.pid_start_time = pid_start_time
        self.cgroup = cgroup
        self.systemd = systemd

    def encode(self) -> dict[str, object]:
        """As a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def decode_exit(document: JsonObject) -> ExitRecord:
    """Raises JsonError."""
    return ExitRecord(
        exit_code=get_int(document, "exit_code"),
        finished_at_ns=get_int(document, "finished_at_ns"),
        oom_killed=get_bool(document, "oom_killed"),
        error=get_str(document, "error"),
    )


def read_exit(folder_fd: int) -> ExitRecord | None:
    """The exit record in the folder, or None when there is none that is whole."""
    document = _read(folder_fd, EXIT_NAME)
    return None if document is None else decode_exit(document)


def read_state(folder_fd: int) -> ShimState | None:
    """The state in the folder, or None when there is none that is whole."""
    document = _read(folder_fd, STATE_NAME)
    if document is None:
        return None
    return ShimState(
        shim_pid=get_int(document, "shim_pid"),
        shim_start_time=get_int(document, "shim_start_time"),
        pid=get_int(document, "pid"),
        pid_start_time=get_int(document, "pid_start_time"),
        cgroup=get_str(document, "cgroup"),
        systemd=get_bool(document, "systemd"),
    )


def write_record(folder_fd: int, name: str, record: ExitRecord | ShimState) -> None:
    """Replaces the file at once. Raises OSError."""
    temporary = f".{name}"
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=folder_fd
    )
    try:
        os.write(fd, json.dumps(record.encode(), separators=(",", ":")).encode())
    finally:
        os.close(fd)
    os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def read_start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat; 0 when there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        text = os.read(fd, 4096)
    except OSError:
        return 0
    finally:
        os.close(fd)
    # The command's name, in parentheses, may itself hold spaces and parentheses.
    fields = text[text.rfind(b")") + 2 :].split()
    return int(fields[19]) if len(fields) > 19 else 0


def _read(folder_fd: int, name: str) -> JsonObject | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    try:
        document = json.loads(os.read(fd, 1 << 20))
    except ValueError:
        return None
    finally:
        os.close(fd)
    if not isinstance(document, dict):
        raise JsonError(f"{name}: expected an object")
    return document
