"""Leaves the cgroups of a login session, so that an engine that a person's command started outlives the logout.

systemd ends what is in a session's scope, and counts its memory against the user. An engine that a unit started,
or that is not below `user.slice`, stays where it is: its place was somebody's decision.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator

from wherry.kernel.mountinfo import MountInfo, read_mountinfo

logger = logging.getLogger(__name__)

OWN_CGROUP = "wherry-engine"


def leave_login_session() -> None:
    """Moves this process; what cannot be moved stays, with a line in the log."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        memberships = file.read()
    for folder in find_targets(memberships, read_mountinfo()):
        try:
            os.makedirs(folder, exist_ok=True)
            with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as procs:
                procs.write("0")
        except OSError as exc:
            logger.debug("stay in the session's cgroup: %s: %s", folder, exc.strerror)


def find_targets(memberships: str, mounts: Iterable[MountInfo]) -> Iterator[str]:
    """The folders to move to, one for each hierarchy in which we are below `user.slice`."""
    known = list(mounts)
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if not path.startswith("/user.slice/"):
            continue
        mount = _find_hierarchy(controllers, known)
        if mount is not None and mount.root == "/":
            yield f"{mount.mount_point}/{OWN_CGROUP}"


def _find_hierarchy(controllers: str, mounts: Iterable[MountInfo]) -> MountInfo | None:
    if not controllers:
        return next((mount for mount in mounts if mount.fstype == "cgroup2"), None)
    wanted = set(controllers.split(","))
    return next(
        (mount for mount in mounts if mount.fstype == "cgroup" and wanted <= mount.super_options),
        None,
    )
