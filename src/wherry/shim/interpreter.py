"""Starts one of our programs in a fresh interpreter that nobody can write to.

A container's process begins as a copy of the interpreter (see `wherry.runtime.interpreter`). `-I -S` keeps
start-up short and the environment out; -S also hides site-packages, so the program puts its own root on
sys.path.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from wherry.runtime.interpreter import open_readonly_clone

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
