"""Blocking calls of the engine: one bounded pool of threads beside the event loop.

For work of milliseconds that the kernel may stretch (a dead NFS, a slow disk, a freezing cgroup).
Bulk work goes to `lib.program.run_worker` instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_MAX_THREADS = 16
_pool = ThreadPoolExecutor(max_workers=_MAX_THREADS, thread_name_prefix="blocking")


async def run_blocking(
    function: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Calls the function in a thread of the pool. A cancelled caller leaves it running to its end."""
    return await asyncio.wrap_future(start_blocking(function, *args, **kwargs))


def start_blocking(
    function: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Future[Result]:
    """The same for what outlasts its caller, or the loop."""
    return _pool.submit(function, *args, **kwargs)
