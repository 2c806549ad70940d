"""Files under /proc/PID that belong to a container's init for certain.

A pid alone may be another process by the time it is used, one of the machine even; the shim's pidfd
tells afterwards whether it still was the container's (pitfall 16).
"""

from __future__ import annotations

import os
import signal

from wherry.engine.shims import ShimHandle


def open_of(shim: ShimHandle, name: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of /proc/PID/`name`. Raises ProcessLookupError when the container has ended."""
    try:
        fd = os.open(f"/proc/{shim.pid}/{name}", flags | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise ProcessLookupError(exc.errno, "the container has ended", name) from exc
    try:
        signal.pidfd_send_signal(shim.pidfd, 0)
    except OSError as exc:
        os.close(fd)
        raise ProcessLookupError(exc.errno, "the container has ended", name) from exc
    return fd


def open_root(shim: ShimHandle) -> int:
    """Its root directory with all that is mounted there, as a path only."""
    return open_of(shim, "root", os.O_PATH | os.O_DIRECTORY)
