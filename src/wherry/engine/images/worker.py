"""The seam to the image workers: their errors become the engine's kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wherry.image.content import BadContent
from wherry.lib.jsonvalue import JsonValue
from wherry.lib.program import Pool, WorkerError, WorkerPool, run_worker
from wherry.model.errors import FULL_DISK, Internal, InvalidArgument, NoSpace

_BAD_CONTENT = frozenset(
    (
        "BadContent",
        "BadManifest",
        "LayerError",
        "StreamError",
        "TarError",
        "MemoryError",
        "InvalidDigest",
    )
)


async def run_image_worker(
    target: str,
    arguments: JsonValue,
    *,
    fds: Sequence[int] = (),
    pool: Pool = "work",
    workers: WorkerPool | None = None,
    on_progress: Callable[[JsonValue], None] | None = None,
) -> JsonValue:
    """`run_worker`, or `run` of `workers`, raising BadContent, InvalidArgument, Unavailable (no space) or Internal."""
    try:
        if workers is not None:
            return await workers.run(target, arguments, on_progress=on_progress)
        return await run_worker(target, arguments, fds=fds, pool=pool, on_progress=on_progress)
    except WorkerError as error:
        if error.kind == "MemoryError":
            raise BadContent(
                "the archive is too complex: out of memory while reading it"
            ) from error
        if error.kind in _BAD_CONTENT:
            raise BadContent(str(error)) from error
        if error.kind == "InvalidArgument":
            raise InvalidArgument(str(error)) from error
        if error.errno in FULL_DISK:
            raise NoSpace(error) from error
        raise Internal(str(error)) from error
