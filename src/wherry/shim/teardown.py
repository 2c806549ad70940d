"""Freeing what a start has made, when its processes must be gone: for the shim, and for who finds it dead."""

from __future__ import annotations

import select

from wherry.runtime.cgroups import Cgroup

_PATIENCE_MS = 10_000


def bury_cgroup(cgroup: Cgroup, *, pidfd: int = -1) -> None:
    """Kills everything in the cgroup (thawed: a frozen v1 task ignores SIGKILL), and removes it.

    Waits for the process of `pidfd` as well. Blocking, idempotent. Raises OSError when something in it
    cannot be killed.
    """
    if cgroup.processes():
        cgroup.kill()
    if pidfd >= 0:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(_PATIENCE_MS)
    cgroup.remove()
