"""The way from a program's outputs to its json-file log: one framer per output, one writer for both."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from wherry.lib.jsonvalue import JsonObject, get_bool, get_int, get_object, get_str
from wherry.logs.codec import LineFramer
from wherry.logs.writer import LogWriter, compress_file
from wherry.shim.streams import Sink

_LOWEST_PRIORITY = 19


class LogSink(Sink):
    """One output's records, appended to the log of both."""

    def __init__(self, framer: LineFramer, writer: LogWriter, on_end: Callable[[], None]) -> None:
        self._framer = framer
        self._writer = writer
        self._on_end = on_end

    def write(self, data: bytes) -> None:
        """Everything that is complete is in the file when this returns."""
        records = self._framer.frame(data, time.time_ns())
        if records:
            self._writer.write(records)

    def finish(self) -> None:
        """The line that has no newline is a record, too."""
        records = self._framer.finish(time.time_ns())
        if records:
            self._writer.write(records)
        self._on_end()


def open_log(
    target: JsonObject,
    streams: tuple[str, ...],
    *,
    warn: Callable[[str], None],
    on_child: Callable[[int, Callable[[], None]], None],
) -> dict[str, Sink]:
    """The sinks of the streams. A log that cannot be opened is none, with a warning; closed with the last.

    Rotated files are compressed by a child of ours; `on_child` gets its pid and what to call at its end.
    """
    path = get_str(target, "path")
    attributes = {key: str(value) for key, value in get_object(target, "attributes").items()}

    def compress(rotated: str) -> None:
        pid = os.fork()
        if pid == 0:
            _compress_and_exit(rotated)
        on_child(pid, finish_compression)

    def finish_compression() -> None:
        writer.compressing = False

    left = len(streams)

    def end_one() -> None:
        nonlocal left
        left -= 1
        if not left:
            writer.close()

    try:
        writer = LogWriter(
            path,
            max_size=get_int(target, "max_size"),
            max_file=get_int(target, "max_file", 1),
            compress=compress if get_bool(target, "compress") else None,
            warn=warn,
        )
    except OSError as error:
        warn(f"log output is lost: open {path}: {error.strerror}")
        return {}
    return {stream: LogSink(LineFramer(stream, attributes), writer, end_one) for stream in streams}


def _compress_and_exit(path: str) -> None:
    try:
        os.nice(_LOWEST_PRIORITY)
        with contextlib.suppress(OSError):
            compress_file(path)
    finally:
        os._exit(0)
