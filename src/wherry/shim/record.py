"""What a shim leaves in RUN/containers/<id>/<generation>/: `state.json` while it lives, `exit.json` after.

Written with write + rename and without fsync: a power cut ends the container anyway (RUN is gone after a
reboot). Read by the engine, and by whoever finds a dead shim and must free what it held.
"""

from __future__ import annotations

import contextlib
import errno
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
    """What a live shim holds that somebody must free when it is found dead."""

    __slots__ = ("cgroup", "systemd")

    def __init__(self, *, cgroup: str, systemd: bool) -> None:
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


def remove_folder(folder: str) -> bool:
    """Removes the folder with its files; False when somebody has put others there. Idempotent."""
    try:
        for name in FILE_NAMES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{folder}/{name}")
        os.rmdir(folder)
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return True


def read_exit(folder_fd: int) -> ExitRecord | None:
    """The exit record in the folder, or None when there is none that is whole."""
    document = _read(folder_fd, EXIT_NAME)
    return None if document is None else decode_exit(document)


def read_state(folder_fd: int) -> ShimState | None:
    """The state in the folder, or None when there is none that is whole."""
    document = _read(folder_fd, STATE_NAME)
    if document is None:
        return None
    return ShimState(cgroup=get_str(document, "cgroup"), systemd=get_bool(document, "systemd"))


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
