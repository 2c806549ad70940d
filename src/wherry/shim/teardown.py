"""Freeing what a start has made when its processes must be gone: used by the shim, and by whoever finds it dead."""

from __future__ import annotations

import os
import select
import signal
import time

from wherry.runtime.cgroups import Cgroup

_PATIENCE_S = 10.0


def bury_cgroup(cgroup: Cgroup, *, pidfd: int = -1, patience_s: float = _PATIENCE_S) -> None:
    """Thaws the cgroup, kills everything in it, waits for that, and removes it. Blocking, idempotent.

    A frozen v1 task ignores SIGKILL until it is thawed (pitfall 16). `pidfd` is waited for as well.
    Raises OSError when the cgroup cannot be removed within the patience.
    """
    deadline = time.monotonic() + patience_s
    cgroup.thaw()
    while True:
        pids = cgroup.processes()
        if not pids:
            break
        cgroup.kill(signal.SIGKILL)
        if not _wait_for_ends(pids, deadline):
            break
    if pidfd >= 0:
        _wait_readable([pidfd], deadline)
    cgroup.remove()


def _wait_for_ends(pids: list[int], deadline: float) -> bool:
    pidfds: list[int] = []
    try:
        for pid in pids:
            try:
                pidfds.append(os.pidfd_open(pid))
            except ProcessLookupError:
                continue
        return _wait_readable(pidfds, deadline)
    finally:
        for fd in pidfds:
            os.close(fd)


def _wait_readable(fds: list[int], deadline: float) -> bool:
    """Whether all became readable in time."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    left = len(fds)
    while left:
        timeout_ms = max(0, int((deadline - time.monotonic()) * 1000))
        ready = poll.poll(timeout_ms)
        if not ready:
            return False
        for fd, _ in ready:
            poll.unregister(fd)
            left -= 1
    return True
