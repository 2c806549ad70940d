"""Starts one of our programs in a fresh interpreter that nobody can write to.

A container's process begins as a copy of the interpreter: through /proc/self/exe the container could
rewrite the program of its host (pitfall 3). So the interpreter is run from a detached read-only clone of
its file, or from a sealed memfd where such mounts cannot be made. `-I -S` keeps start-up short and the
environment out; -S also hides site-packages, so the program puts its own root on sys.path.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Sequence

from wherry.kernel import syscalls
from wherry.kernel.consts import AT, AT_FDCWD, MOUNT_ATTR, OPEN_TREE

_F_ADD_SEALS = 1033
_ALL_SEALS = 0xF  # seal, shrink, grow, write
_CONNECTION_FD = 3
SPAWNER_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
_RESET_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def spawn_interpreter(program: str, arguments: Sequence[str], connection_fd: int) -> int:
    """Runs the Python file, a descriptor's number as its last argument; returns the pid of our child.

    Of the caller's descriptors the child gets the standard three and `connection_fd`, as number 3. It
    leads a session of its own. Raises OSError.
    """
    executable = os.path.realpath(sys.executable)
    interpreter_fd = open_readonly_clone(executable)
    try:
        return os.posix_spawn(
            f"/proc/self/fd/{interpreter_fd}",
            [executable, "-I", "-S", program, *arguments, str(_CONNECTION_FD)],
            {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            file_actions=[(os.POSIX_SPAWN_DUP2, connection_fd, _CONNECTION_FD)],
            setsid=True,
            setsigmask=(),
            setsigdef=_RESET_SIGNALS,
        )
    finally:
        os.close(interpreter_fd)


def open_readonly_clone(path: str) -> int:
    """A descriptor of the file's contents that cannot be written through. Raises OSError."""
    try:
        fd = syscalls.open_tree(AT_FDCWD, os.fsencode(path), OPEN_TREE.CLONE)
    except OSError:
        return _open_sealed_copy(path)
    try:
        syscalls.mount_setattr(fd, b"", AT.EMPTY_PATH, attr_set=MOUNT_ATTR.RDONLY)
    except OSError:
        os.close(fd)
        return _open_sealed_copy(path)
    return fd


def _open_sealed_copy(path: str) -> int:
    fd = os.memfd_create("wherry-interpreter", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            while size > 0:
                copied = os.sendfile(fd, source.fileno(), None, size)
                if copied == 0:
                    break
                size -= copied
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
