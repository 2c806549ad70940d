"""Terminals of wherry-oci: the master handed to a console socket, or served in the foreground."""

from __future__ import annotations

import array
import contextlib
import os
import select
import signal
import socket
import termios
import tty

from wherry.kernel.tty import get_window_size, set_window_size


def send_console(path: str, master: int) -> None:
    """Send the pty's master over the unix socket at `path`, as the runtime caller expects."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master]))
        connection.sendmsg([b"/dev/ptmx"], [rights])
    os.close(master)


def proxy_terminal(master: int, pidfd: int) -> None:
    """Join our terminal and the container's until its process ends."""
    with contextlib.suppress(OSError):
        set_window_size(master, *get_window_size(0))
    resized = signal.signal(signal.SIGWINCH, lambda *_: _copy_size(master))
    saved = termios.tcgetattr(0) if os.isatty(0) else None
    if saved is not None:
        tty.setraw(0)
    try:
        _pump(master, pidfd)
    finally:
        if saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
        signal.signal(signal.SIGWINCH, resized)


def _copy_size(master: int) -> None:
    with contextlib.suppress(OSError):
        set_window_size(master, *get_window_size(0))


def _pump(master: int, pidfd: int) -> None:
    poller = select.poll()
    poller.register(master, select.POLLIN)
    poller.register(0, select.POLLIN)
    poller.register(pidfd, select.POLLIN)
    ended = False
    while True:
        events = dict(poller.poll(0 if ended else None))
        if master in events:
            try:
                data = os.read(master, 65536)
            except OSError:
                return
            if not data:
                return
            _write_all(1, data)
        elif ended:
            return
        if 0 in events:
            data = os.read(0, 65536)
            if data:
                _write_all(master, data)
            else:
                poller.unregister(0)
        ended = ended or pidfd in events


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
