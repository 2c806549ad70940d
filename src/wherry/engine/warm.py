"""Paying ahead for the first attach to a control group, which else waits for a grace period of the kernel.

On version 1 the first write to any cgroup.procs after some 15 ms without one takes about 11 ms: begun when a
start (or the create before it) is asked for, it is over when the container's process is there to be moved.
"""

from __future__ import annotations

import logging

from wherry.lib.blocking import run_blocking
from wherry.runtime import cgroups

logger = logging.getLogger(__name__)


async def warm_cgroups() -> None:
    """A no-op move of this process, off the loop; a failure costs only the time it would have saved."""
    try:
        await run_blocking(cgroups.warm)
    except OSError as exc:
        logger.debug("warm cgroups: %s", exc)
