"""What a worker that writes to ROOT works under, and how the next engine knows that none is left.

A worker ends with its engine, but not at the same instant: the rename that it is in (or an fsync of seconds)
is finished first. Cleaning up beside it would tear a layer that is just being published. So a worker holds
a shared lock on the folder of layers, and the next engine waits for it before it looks.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import resource
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path

from wherry.kernel.consts import PR
from wherry.kernel.syscalls import prctl
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_str
from wherry.lib.worker import Report, is_orphan

logger = logging.getLogger(__name__)

Work = Callable[[JsonValue, Report], JsonValue]

_MAX_MEMORY = 3 << 29  # of one worker


def confined(function: Callable[[JsonObject, Report], JsonValue]) -> Work:
    """For what a worker runs: an archive made to fill memory ends as MemoryError, the engine's end is the worker's too.

    The arguments name the folder of layers, `layers`.
    """

    @wraps(function)
    def work(arguments: JsonValue, report: Report) -> JsonValue:
        if not isinstance(arguments, dict):
            raise TypeError("the arguments are not an object")
        prctl(PR.SET_PDEATHSIG, signal.SIGKILL)
        if is_orphan():
            raise RuntimeError("the engine has ended")
        resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY, _MAX_MEMORY))
        gc.disable()  # many small objects that all live to the end: the collector only costs here
        folder = _open(Path(get_str(arguments, "layers")))
        try:
            fcntl.flock(folder, fcntl.LOCK_SH)
            return function(arguments, report)
        finally:
            os.close(folder)

    return work


def wait_for_orphans(layers: Path) -> None:
    """Returns when the workers of an engine that was killed have ended."""
    folder = _open(layers)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for the workers of an engine that was killed")
            fcntl.flock(folder, fcntl.LOCK_EX)
    finally:
        os.close(folder)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
