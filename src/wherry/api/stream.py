"""What streams look like to clients: heads of hijacked connections, JSON lines, and errors inside of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
from msgspec import UNSET

from wherry.api.errors import find_status
from wherry.api.message import (
    MULTIPLEXED_STREAM,
    RAW_STREAM,
    ClientGone,
    Request,
    encode_json,
)
from wherry.engine.streams import ClientStream, Hijack
from wherry.lib.jsonvalue import JsonValue
from wherry.model.errors import EngineError
from wherry.model.progress import Progress
from wherry.wire.system import JsonErrorDetail, ProgressDetail, StreamLine

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

_MULTIPLEXED_SINCE = (1, 42)


def make_hijack(request: Request, common_head: bytes) -> Hijack:
    """The engine's way to a request's connection: 101 when the client asked for an upgrade, else 200.

    The second, older form sends the stream as if it were a body of unknown length. Its content type is raw
    even when the stream is multiplexed, as in dockerd.
    """

    async def hijack(multiplexed: bool) -> ClientStream:  # noqa: FBT001 - the engine's signature
        if "upgrade" in request.head.headers:
            framed = multiplexed and request.version >= _MULTIPLEXED_SINCE
            content_type = MULTIPLEXED_STREAM if framed else RAW_STREAM
            lines = (
                f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\n"
                "Connection: Upgrade\r\nUpgrade: tcp\r\n"
            )
        else:
            lines = f"HTTP/1.1 200 OK\r\nContent-Type: {RAW_STREAM}\r\n"
        return await request.take_over(lines.encode() + common_head + b"\r\n")

    return hijack


def encode_progress(progress: Progress) -> bytes:
    """One line of a pull, push, load, import or build."""
    if progress.aux is not None:
        document: dict[str, JsonValue] = {"progressDetail": {}} if progress.detail else {}
        document["aux"] = progress.aux
        return encode_json(document) + b"\r\n"
    detail: ProgressDetail | msgspec.UnsetType = UNSET
    bar: str | msgspec.UnsetType = UNSET
    if progress.current or progress.total:
        detail = ProgressDetail(current=progress.current or UNSET, total=progress.total or UNSET)
        bar = format_bar(progress.current, progress.total)
    elif progress.detail:
        detail = ProgressDetail()
    line = StreamLine(
        stream=progress.stream or UNSET,
        status=progress.status or UNSET,
        progress_detail=detail,
        progress=bar,
        id=progress.id or UNSET,
    )
    return encode_json(line) + b"\r\n"


def format_bar(current: int, total: int) -> str:
    """The drawn bar that Docker still sends beside the numbers (pkg/jsonmessage)."""
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{format_size(current):>8}"
    percentage = min(int(current / total * 100) // 2, 50)
    arrow = "=" * percentage + ">" + " " * (50 - percentage) if percentage < 50 else "=" * 50 + ">"
    if current > total:
        return f"{format_size(current):>8}"
    return f"[{arrow}] {format_size(current):>8}/{format_size(total)}"


def format_size(size: float) -> str:
    """Docker's units.HumanSize: decimal, four significant digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.4g}{unit}"
        size /= 1000
    return ""


def encode_error(error: Exception) -> bytes:
    """The line that ends a JSON stream badly."""
    detail = JsonErrorDetail(message=str(error))
    if isinstance(error, EngineError) and find_status(error) == 401:
        detail.code = 401
    return encode_json(StreamLine(error_detail=detail, error=str(error))) + b"\r\n"


async def stream_progress(records: AsyncIterator[Progress]) -> AsyncIterator[bytes]:
    """Progress as lines; an error becomes the last one, since the 200 has been sent."""
    try:
        async for record in records:
            yield encode_progress(record)
    except ClientGone:
        raise
    except EngineError as exc:
        yield encode_error(exc)
    except Exception as exc:
        logger.exception("stream broken off")
        yield encode_error(exc)


async def prefetch(records: AsyncIterator[Item]) -> AsyncIterator[Item]:
    """The same items, once the first one has come: until then an error still chooses the status."""
    try:
        first = await anext(records)
    except StopAsyncIteration:
        return _chain(None, records)
    return _chain(first, records)


async def _chain(first: Item | None, rest: AsyncIterator[Item]) -> AsyncIterator[Item]:
    if first is not None:
        yield first
    async for record in rest:
        yield record
