"""What callers of the container service ask for, where a handful of arguments would not do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

WaitCondition = Literal["not-running", "next-exit", "removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachOptions:
    """`stream` false with `logs` true only replays the log. Empty `detach_keys` = ctrl-p,ctrl-q."""

    stream: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    detach_keys: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """`since` and `until` as clients send them (seconds with a fraction); `tail` -1 = all."""

    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0
    timestamps: bool = False
    follow: bool = False
    tail: int = -1
    details: bool = False


@dataclass(slots=True)
class LogStream:
    """A log on its way out; `frames` are already framed for the client. Close it by `frames.aclose()`."""

    multiplexed: bool
    frames: AsyncIterator[bytes]
