"""A shim's whole life in the spawner, with a child that ends at once for a container: see `wherry.runtime.rehearsal`.

Everything is real but the container: descriptors, loop, log, streams, records. Its control groups do not exist.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # typeshed has no stub of it
import base64
import contextlib
import os
import signal
import socket

from wherry.kernel import syscalls
from wherry.lib.jsonvalue import JsonObject
from wherry.shim.protocol import Channel, Message, listen_at, open_pair
from wherry.shim.record import SOCKET_NAME, STATE_NAME, ShimState, remove_folder, write_record
from wherry.shim.shim import Shim, ignore_signal


def rehearse_shim(run_dir: str, keep_fd: int, times: int) -> None:
    """Leaves no child, no file, and of descriptors above 2 only `keep_fd`. Raises OSError."""
    folder = f"{run_dir}/rehearsal-{os.getpid()}"
    before = signal.getsignal(signal.SIGCHLD)
    _signal.signal(signal.SIGCHLD, ignore_signal)
    try:
        for _ in range(times):
            os.mkdir(folder, 0o700)
            try:
                _live(folder)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{folder}/log")
                remove_folder(folder)
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, before)
        syscalls.keep_only([keep_fd])


class _Applause(Channel):
    """The engine's answer to an exit, without an engine."""

    def send(self, body: dict[str, object], fds: list[int] | None = None) -> None:
        super().send(body, fds)
        if body.get("event") == "exited":
            self.peer.send({"op": "release", "re": 1})

    peer: Channel


def _live(folder: str) -> None:
    ours, theirs = open_pair()
    engine = _Applause(ours, is_inherited=True)
    engine.peer = Channel(theirs, is_inherited=True)
    client, client_end = socket.socketpair()
    wake_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    write_record(folder_fd, STATE_NAME, ShimState(cgroup="/rehearsal", systemd=False))
    listener = listen_at(folder_fd, SOCKET_NAME)
    stdout, stdout_end = os.pipe2(os.O_CLOEXEC)
    stderr, stderr_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.write(stdout_end, b"a line\nand another")
    os.close(stdout_end)
    os.close(stderr_end)
    body: JsonObject = {
        "pid": pid,
        "fds": ["pidfd", "stdout", "stderr", "root"],
        "container_id": "rehearsal",
        "folder": folder,
        "cgroup": "/rehearsal",
        "systemd": False,
        "shares_pids": False,
        "stdin": "none",
        "log": {"path": f"{folder}/log"},
        "attachments": [
            {
                "early": base64.b64encode(b"").decode(),
                "stdin": False,
                "stdout": True,
                "stderr": True,
                "multiplexed": True,
                "detach_keys": "",
            }
        ],
    }
    fds = [folder_fd, listener.detach(), os.pidfd_open(pid), stdout, stderr, os.dup(folder_fd)]
    Shim(engine, Message(body, [*fds, client_end.detach()]), wake_fd).run()
    engine.close()
    engine.peer.close()
    client.close()
