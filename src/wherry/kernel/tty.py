"""Pseudo terminals by descriptor: a pair from a devpts mount, the window size, the controlling terminal.

Never by a path: a container decides what its /dev/ptmx and /dev/pts/N are.
"""

from __future__ import annotations

import fcntl
import os
import struct

from wherry.kernel import syscalls
from wherry.kernel.consts import (
    DEVPTS_SUPER_MAGIC,
    RESOLVE,
    TIOCGPTPEER,
    TIOCGWINSZ,
    TIOCSCTTY,
    TIOCSPTLCK,
    TIOCSWINSZ,
)


def open_pty(devpts_fd: int) -> tuple[int, int]:
    """A new master and its slave from the devpts instance whose root is `devpts_fd`."""
    if syscalls.fstatfs_type(devpts_fd) != DEVPTS_SUPER_MAGIC:
        raise OSError(25, "open pty: not a devpts file system")
    flags = os.O_RDWR | os.O_NOCTTY
    master = syscalls.openat2(
        devpts_fd, b"ptmx", flags, resolve=RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_XDEV
    )
    try:
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        slave = syscalls.ioctl(master, TIOCGPTPEER, flags | os.O_CLOEXEC)
    except OSError:
        os.close(master)
        raise
    return master, slave


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """Resize the terminal; its foreground process group gets SIGWINCH."""
    fcntl.ioctl(fd, TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def get_window_size(fd: int) -> tuple[int, int]:
    """Rows and columns."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, TIOCGWINSZ, bytes(8)))
    return rows, columns


def set_controlling_terminal(fd: int) -> None:
    """Make `fd` the controlling terminal of this session leader."""
    syscalls.ioctl(fd, TIOCSCTTY, 0)
