"""Writes tar archives to a stream in the pax format, only as much of it as a member needs.

A member whose fields fit is a plain ustar header, as Go's archive/tar writes it, so that the same tree
gives the same bytes as Docker's. Times are whole seconds unless the caller asks for more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from wherry.lib.tar.reader import BLOCK, DIRECTORY, REGULAR

Write = Callable[[bytes], object]

_OCTAL_LIMITS = {8: 8**7, 12: 8**11}


class TarWriter:
    """Appends members; `close` writes the end mark. The caller owns what `write` writes to."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._pending = 0
        self._padding = 0

    def member(
        self,
        path: bytes,
        *,
        kind: int = REGULAR,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        mtime_ns: int = 0,
        size: int = 0,
        link: bytes = b"",
        device: tuple[int, int] = (0, 0),
        xattrs: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Writes one header; exactly `size` bytes of `data` follow."""
        self._finish_member()
        if kind == DIRECTORY and not path.endswith(b"/"):
            path += b"/"
        records: list[tuple[bytes, bytes]] = []
        name, prefix = _split_name(path)
        if name is None:
            records.append((b"path", path))
            name, prefix = path[:100], b""
        if len(link) > 100 or not link.isascii():
            records.append((b"linkpath", link))
            link = link[:100]
        seconds, nanoseconds = divmod(mtime_ns, 1_000_000_000)
        if nanoseconds or not 0 <= seconds < _OCTAL_LIMITS[12]:
            records.append((b"mtime", _pax_time(mtime_ns)))
            seconds = 0 if seconds < 0 else min(seconds, _OCTAL_LIMITS[12] - 1)
        records += [
            (key, str(value).encode())
            for key, value, limit in (
                (b"size", size, _OCTAL_LIMITS[12]),
                (b"uid", uid, _OCTAL_LIMITS[8]),
                (b"gid", gid, _OCTAL_LIMITS[8]),
            )
            if value >= limit
        ]
        for key, value in sorted((xattrs or {}).items()):
            records.append((b"SCHILY.xattr." + key, value))
        if records:
            self._extended(path, records)
        self._write(
            _header(
                name,
                prefix,
                kind=kind,
                mode=mode,
                uid=uid if uid < _OCTAL_LIMITS[8] else 0,
                gid=gid if gid < _OCTAL_LIMITS[8] else 0,
                size=size if size < _OCTAL_LIMITS[12] else 0,
                seconds=seconds,
                link=link,
                device=device,
            )
        )
        self._pending = size
        self._padding = -size % BLOCK

    def data(self, pieces: Iterable[bytes]) -> None:
        """The current member's bytes, or some of them. Raises ValueError beyond its size."""
        for piece in pieces:
            if len(piece) > self._pending:
                raise ValueError("more data than the member's size")
            self._write(piece)
            self._pending -= len(piece)

    def file(self, path: bytes, content: bytes, *, mode: int = 0o644, mtime_ns: int = 0) -> None:
        """One small regular file of root's."""
        self.member(path, mode=mode, size=len(content), mtime_ns=mtime_ns)
        self.data((content,))

    def close(self) -> None:
        """Two blocks of zeros, as every reader wants."""
        self._finish_member()
        self._write(bytes(2 * BLOCK))

    def _finish_member(self) -> None:
        if self._pending:
            # The file shrank while it was read: its place in the archive is already fixed.
            while self._pending:
                step = min(self._pending, 1 << 20)
                self._write(bytes(step))
                self._pending -= step
        if self._padding:
            self._write(bytes(self._padding))
            self._padding = 0

    def _extended(self, path: bytes, records: list[tuple[bytes, bytes]]) -> None:
        body = b"".join(_pax_record(key, value) for key, value in sorted(records))
        folder, _, base = path.rstrip(b"/").rpartition(b"/")
        name = b"/".join(part for part in (folder, b"PaxHeaders.0", base) if part)
        self._write(
            _header(
                name.decode("ascii", "replace").replace("\ufffd", "_").encode()[:100],
                b"",
                kind=0x78,
                mode=0,
                uid=0,
                gid=0,
                size=len(body),
                seconds=0,
                link=b"",
                device=(0, 0),
            )
        )
        self._write(body + bytes(-len(body) % BLOCK))


def _split_name(path: bytes) -> tuple[bytes | None, bytes]:
    """(name, prefix) of a ustar header, or (None, b"") when the path needs a pax record."""
    if not path.isascii():
        return None, b""
    if len(path) <= 100:
        return path, b""
    # The prefix ends at a slash and holds 155 bytes, the name 100.
    cut = path.rfind(b"/", 0, 156)
    if cut > 0 and 0 < len(path) - cut - 1 <= 100:
        return path[cut + 1 :], path[:cut]
    return None, b""


def _pax_record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while True:
        total = len(body) + len(str(length))
        if total == length:
            return str(length).encode() + body
        length = total


def _pax_time(mtime_ns: int) -> bytes:
    sign = "-" if mtime_ns < 0 else ""
    seconds, nanoseconds = divmod(abs(mtime_ns), 1_000_000_000)
    text = f"{sign}{seconds}.{nanoseconds:09d}".rstrip("0").rstrip(".")
    return text.encode()


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _header(
    name: bytes,
    prefix: bytes,
    *,
    kind: int,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    seconds: int,
    link: bytes,
    device: tuple[int, int],
) -> bytes:
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:108] = _octal(mode & 0o7777, 8)
    block[108:116] = _octal(uid, 8)
    block[116:124] = _octal(gid, 8)
    block[124:136] = _octal(size, 12)
    block[136:148] = _octal(seconds, 12)
    block[148:156] = b"        "
    block[156] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    block[329:337] = _octal(device[0], 8)
    block[337:345] = _octal(device[1], 8)
    block[345 : 345 + len(prefix)] = prefix
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
