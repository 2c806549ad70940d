"""Docker's json-file records: output of a program in, whole lines of the log out, and back.

Pure. A record is `{"log":…,"stream":…,"attrs":{…},"time":…}` and a newline (moby daemon/logger/jsonfilelog).
Rules, each as dockerd writes it:
- A record holds a line with its newline. A line of 16 KiB or more is cut every 16 KiB; the pieces but the
  last have no newline. What is left without a newline when the stream ends is a record as well.
- `"` and backslash are escaped by a backslash, newline and carriage return as \\n and \\r, other control
  characters and `<>&` as \\u00xx, U+2028 and U+2029 as \\u2028 and \\u2029, each byte that is not part of valid
  UTF-8 as \\ufffd. Validity is judged per record: a character cut by the 16 KiB limit is not valid.
- The time is RFC 3339 in UTC with nanoseconds, trailing zeros cut. All lines of one read share one time.

Framing works on whole reads: deleting the harmless bytes tells what must be escaped, and each kind of byte
costs one `bytes.replace`, so that the cost is per read and not per line.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from collections.abc import Mapping

PARTIAL_SIZE = 16 << 10
STDOUT = "stdout"
STDERR = "stderr"

_HTML_SENSITIVE = b"<>&"
_SPECIAL = {
    ord("\\"): b"\\\\",
    ord('"'): b'\\"',
    ord("\r"): b"\\r",
    **{code: b"\\u%04x" % code for code in (*range(32), *_HTML_SENSITIVE) if code not in b"\r\n"},
}
# Backslash comes first: the other replacements bring backslashes of their own.
_REPLACEMENTS = tuple((bytes([code]), escape) for code, escape in _SPECIAL.items())
_HARMLESS = bytes(code for code in range(128) if code not in _SPECIAL)
_INVALID = re.compile("[\udc80-\udcff]")
_PREFIX = b'{"log":"'
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(Z|z|[+-]\d\d:\d\d)$"
)


class LineFramer:
    """One stream of one program: what it writes, as log records. Holds back less than 16 KiB."""

    __slots__ = ("_rest", "_second", "_second_text", "_stream")

    def __init__(self, stream: str, attributes: Mapping[str, str] | None = None) -> None:
        attrs = b""
        if attributes:
            attrs = b'"attrs":' + _encode_attributes(attributes) + b","
        self._stream = b'","stream":"' + stream.encode() + b'",' + attrs + b'"time":"'
        self._rest = b""
        self._second = -1
        self._second_text = b""

    def frame(self, data: bytes, time_ns: int) -> bytes:
        """The records that `data` completes."""
        if self._rest:
            data = self._rest + data
        tail = self._stream + self._format_time(time_ns) + b'"}\n'
        records: list[bytes] = []
        batch = line = 0
        size = len(data)
        while line + PARTIAL_SIZE <= size:
            newline = data.rfind(b"\n", line, line + PARTIAL_SIZE)
            if newline >= 0:
                line = newline + 1
                continue
            if line > batch:
                records.append(_frame_lines(data[batch:line], tail))
            batch = line + PARTIAL_SIZE
            records.append(_PREFIX + escape(data[line:batch]) + tail)
            line = batch
        line = max(line, data.rfind(b"\n", line) + 1)
        if line > batch:
            records.append(_frame_lines(data[batch:line], tail))
        self._rest = data[line:]
        return b"".join(records) if len(records) != 1 else records[0]

    def finish(self, time_ns: int) -> bytes:
        """The record of what is left when the stream has ended; empty when nothing is."""
        rest, self._rest = self._rest, b""
        if not rest:
            return b""
        return _PREFIX + escape(rest) + self._stream + self._format_time(time_ns) + b'"}\n'

    def _format_time(self, time_ns: int) -> bytes:
        second, fraction = divmod(time_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return self._second_text + _format_fraction(fraction) + b"Z"


class LogEntry:
    """One record, read back. `line` are the bytes to show, with the newline unless the record is partial."""

    __slots__ = ("attributes", "line", "stream", "time_ns")

    def __init__(
        self, *, line: bytes, stream: str, time_ns: int, attributes: Mapping[str, str]
    ) -> None:
        self.line = line
        self.stream = stream
        self.time_ns = time_ns
        self.attributes = attributes


def escape(data: bytes) -> bytes:
    """The inside of a JSON string, except that newlines are left as they are."""
    unsafe = data.translate(None, _HARMLESS)
    if not unsafe:
        return data
    for byte, replacement in _REPLACEMENTS:
        if byte in unsafe:
            data = data.replace(byte, replacement)
    if unsafe.isascii():
        return data
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = _INVALID.sub(r"\\ufffd", data.decode("utf-8", "surrogateescape"))
        data = text.encode()
    if "\u2028" in text or "\u2029" in text:
        data = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()
    return data


def decode_record(record: bytes) -> LogEntry | None:
    """The entry of one line of the log file, or None when it is torn or not ours."""
    try:
        document = json.loads(record)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    line, stream, moment = (document.get(key) for key in ("log", "stream", "time"))
    if not (isinstance(line, str) and isinstance(stream, str) and isinstance(moment, str)):
        return None
    time_ns = parse_time(moment)
    if time_ns is None:
        return None
    attrs = document.get("attrs")
    return LogEntry(
        line=line.encode("utf-8", "replace"),
        stream=stream,
        time_ns=time_ns,
        attributes={str(key): str(value) for key, value in attrs.items()}
        if isinstance(attrs, dict)
        else {},
    )


def format_time(time_ns: int) -> str:
    """RFC 3339 with all nine digits, as `docker logs --timestamps` shows it."""
    second, fraction = divmod(time_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)) + f".{fraction:09d}Z"


def parse_time(text: str) -> int | None:
    """Nanoseconds since the epoch of an RFC 3339 time, or None."""
    match = _TIME.match(text)
    if match is None:
        return None
    *clock, fraction, zone = match.groups()
    year, month, day, hour, minute, second = map(int, clock)
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    if zone not in "Zz":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * 1_000_000_000 + (int(fraction.ljust(9, "0")) if fraction else 0)


def _frame_lines(lines: bytes, tail: bytes) -> bytes:
    tail = b"\\n" + tail
    return _PREFIX + escape(lines)[:-1].replace(b"\n", tail + _PREFIX) + tail


def _format_fraction(fraction: int) -> bytes:
    if not fraction:
        return b""
    return b".%s" % (b"%09d" % fraction).rstrip(b"0")


def _encode_attributes(attributes: Mapping[str, str]) -> bytes:
    pairs = (
        b'"%s":"%s"' % (_encode_text(key), _encode_text(value))
        for key, value in sorted(attributes.items())
    )
    return b"{" + b",".join(pairs) + b"}"


def _encode_text(text: str) -> bytes:
    return escape(text.encode("utf-8", "surrogateescape")).replace(b"\n", b"\\n")
