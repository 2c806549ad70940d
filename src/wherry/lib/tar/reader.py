"""Reads tar archives from a stream: ustar, GNU (long names, sparse) and pax, one entry at a time.

Knows nothing of layers or file systems: names are returned as they stand in the archive, and it is the
caller who decides what they may touch. Whatever the input, memory stays bounded by the limits below and
the only exceptions are TarError and those of the caller's `read`.

Formats: POSIX.1-2024 pax "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar
Format" and "Sparse Formats". Where implementations differ, Go's archive/tar decides (Docker's reader):
links, devices and directories carry no data whatever their size field says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from zlib import adler32

BLOCK = 512

REGULAR = 0x30
HARD_LINK = 0x31
SYMLINK = 0x32
CHARACTER_DEVICE = 0x33
BLOCK_DEVICE = 0x34
DIRECTORY = 0x35
FIFO = 0x36

_OLD_REGULAR = 0x00
_CONTIGUOUS = 0x37
_PAX = 0x78
_PAX_SOLARIS = 0x58
_PAX_GLOBAL = 0x67
_LONG_NAME = 0x4C
_LONG_LINK = 0x4B
_GNU_SPARSE = 0x53

_EXTENDED = frozenset((_PAX, _PAX_SOLARIS, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK))
_REGULARS = frozenset((REGULAR, _OLD_REGULAR, _CONTIGUOUS))
_WITHOUT_DATA = frozenset((HARD_LINK, SYMLINK, CHARACTER_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO))

MAX_EXTENDED_HEADER = 1 << 20
MAX_SPARSE_EXTENTS = 1 << 16
_READ_SIZE = 1 << 18

_HEADER = struct.Struct("100s8s8s8s12s12s8sB100s8s32s32s8s8s155s12x")
_XATTR_PREFIX = b"SCHILY.xattr."

Read = Callable[[int], bytes]
Skip = Callable[[int], None]


_INVALID_HEADER = "archive/tar: invalid tar header"  # as Docker's own reader says it


class TarError(ValueError):
    """The archive is damaged, or uses what no implementation of tar defines."""


class Entry:
    """One member. Paths and link targets are the archive's bytes.

    `offset` is where its data starts in the archive, `stored` how many bytes of it there are there;
    `extents` is None, or the (position, length) pieces of a sparse file that the stored bytes fill in
    order. `size` is the size of the file.
    """

    __slots__ = (
        "device",
        "extents",
        "gid",
        "link",
        "mode",
        "mtime_ns",
        "offset",
        "path",
        "size",
        "stored",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(self, kind: int, path: bytes, link: bytes, mode: int, uid: int, gid: int) -> None:
        self.type = kind
        self.path = path
        self.link = link
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = 0
        self.size = 0
        self.stored = 0
        self.offset = 0
        self.device = (0, 0)
        self.xattrs: dict[bytes, bytes] = {}
        self.extents: tuple[tuple[int, int], ...] | None = None


def parse_number(field: bytes) -> int:
    """A number field: octal between blanks and NULs, or GNU's base 256 (two's complement)."""
    if field and field[0] & 0x80:
        value = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.split(b"\0", 1)[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError as error:
        raise TarError(f"{_INVALID_HEADER}: bad number") from error


def parse_pax(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records of a pax header, in order: repeated keys matter for GNU's first sparse format."""
    records = []
    position, end = 0, len(data)
    while position < end:
        blank = data.find(b" ", position, position + 20)
        if blank < 0:
            if not data[position:].strip(b"\0"):
                break
            raise TarError("pax header: bad record")
        try:
            next_record = position + int(data[position:blank])
        except ValueError as error:
            raise TarError("pax header: bad record length") from error
        if next_record > end or next_record <= blank or data[next_record - 1] != 0x0A:
            raise TarError("pax header: bad record length")
        key, equals, value = data[blank + 1 : next_record - 1].partition(b"=")
        if not equals:
            raise TarError("pax header: record without a value")
        records.append((key, value))
        position = next_record
    return records


def parse_pax_time(value: bytes) -> int:
    """Nanoseconds since 1970, from decimal seconds."""
    whole, point, fraction = value.partition(b".")
    try:
        seconds = int(whole or b"0")
        nanoseconds = int((fraction + b"000000000")[:9]) if point and fraction else 0
    except ValueError as error:
        raise TarError("pax header: bad time") from error
    total = abs(seconds) * 1_000_000_000 + nanoseconds
    return -total if whole.startswith(b"-") else total


def _parse_int(value: bytes) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise TarError("pax header: bad number") from error


class TarReader:
    """Iterates over the members of one archive; `data()` gives the bytes of the current one.

    `read(n)` returns at most n bytes, b"" at the end. `skip(n)`, when given, passes over n bytes faster
    than reading them. What the caller does not take of a member's data is passed over.
    """

    def __init__(self, read: Read, *, skip: Skip | None = None) -> None:
        self._read = read
        self._skip = skip
        self._buffer = b""
        self._position = 0
        self._consumed = 0  # bytes of the archive before the buffer
        self._pending = 0  # bytes of the current member's data that were not taken
        self._padding = 0
        self._global: dict[bytes, bytes] = {}

    @property
    def offset(self) -> int:
        """How many bytes of the archive have been passed."""
        return self._consumed + self._position

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def data(self) -> Iterator[bytes]:
        """The rest of the current member's stored bytes, in pieces."""
        while self._pending:
            if self._position == len(self._buffer) and not self._fill():
                raise TarError("unexpected EOF: the archive ends inside a member")
            piece = self._buffer[self._position : self._position + self._pending]
            self._position += len(piece)
            self._pending -= len(piece)
            yield piece

    def drain(self) -> None:
        """Reads what follows the end of the archive, so that whoever hashes the stream sees all of it."""
        self._consumed += len(self._buffer)
        self._buffer, self._position = b"", 0
        while piece := self._read(_READ_SIZE):
            self._consumed += len(piece)

    def _fill(self) -> bool:
        piece = self._read(_READ_SIZE)
        rest = self._buffer[self._position :]
        self._consumed += self._position
        self._buffer = rest + piece if rest else piece
        self._position = 0
        return bool(piece)

    def _take(self, count: int) -> bytes:
        while len(self._buffer) - self._position < count:
            if not self._fill():
                raise TarError("unexpected EOF: the archive ends inside a member")
        start = self._position
        self._position = start + count
        return self._buffer[start : start + count]

    def _pass(self, count: int) -> None:
        have = len(self._buffer) - self._position
        if count <= have:
            self._position += count
            return
        if self._skip is not None:
            self._skip(count - have)
            self._consumed += self._position + count
            self._buffer, self._position = b"", 0
            return
        while count:
            have = len(self._buffer) - self._position
            if not have and not self._fill():
                raise TarError("unexpected EOF: the archive ends inside a member")
            step = min(count, len(self._buffer) - self._position)
            self._position += step
            count -= step

    def _header(self) -> bytes | None:
        while len(self._buffer) - self._position < BLOCK:
            if not self._fill():
                if len(self._buffer) == self._position:
                    return None  # no end mark: GNU tar and Go accept that
                raise TarError("unexpected EOF: the archive ends inside a header")
        start = self._position
        self._position = start + BLOCK
        return self._buffer[start : start + BLOCK]

    def _next(self) -> Entry | None:
        if self._pending or self._padding:
            self._pass(self._pending + self._padding)
            self._pending = self._padding = 0
        records: list[tuple[bytes, bytes]] | None = None
        long_name: bytes | None = None
        long_link: bytes | None = None
        while True:
            header = self._header()
            if header is None:
                return None
            fields = _HEADER.unpack(header)
            checksum = fields[6]
            if not any(header):
                return None
            # adler32's low half is the sum of all bytes + 1, modulo 65521: the checksum, with its own
            # field counted as blanks, without a loop in Python.
            found = (adler32(header) & 0xFFFF) - (adler32(checksum) & 0xFFFF) + 256
            if (found - parse_number(checksum)) % 65521:
                raise TarError(f"{_INVALID_HEADER}: bad checksum at {self.offset - BLOCK}")
            kind = fields[7]
            size = parse_number(fields[4])
            if size < 0:
                raise TarError(f"{_INVALID_HEADER}: negative size")
            if kind not in _EXTENDED:
                return self._member(header, fields, kind, size, records, long_name, long_link)
            if size > MAX_EXTENDED_HEADER:
                raise TarError(f"{_INVALID_HEADER}: extended header is too large")
            data = self._take(size)
            self._pass(-size % BLOCK)
            if kind in {_PAX, _PAX_SOLARIS}:
                records = parse_pax(data)
            elif kind == _PAX_GLOBAL:
                self._global.update(parse_pax(data))
            elif kind == _LONG_NAME:
                long_name = data.split(b"\0", 1)[0]
            else:
                long_link = data.split(b"\0", 1)[0]

    def _member(
        self,
        header: bytes,
        fields: tuple[bytes, ...],
        kind: int,
        size: int,
        records: list[tuple[bytes, bytes]] | None,
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        name = fields[0].split(b"\0", 1)[0]
        if fields[9] == b"ustar\x0000" and fields[14][0]:
            name = fields[14].split(b"\0", 1)[0] + b"/" + name
        if long_name is not None:
            name = long_name
        link = fields[8].split(b"\0", 1)[0] if long_link is None else long_link
        if kind in _REGULARS:
            kind = DIRECTORY if kind != REGULAR and name.endswith(b"/") else REGULAR
        entry = Entry(
            kind,
            name,
            link,
            parse_number(fields[1]) & 0o7777,
            parse_number(fields[2]),
            parse_number(fields[3]),
        )
        entry.mtime_ns = parse_number(fields[5]) * 1_000_000_000
        entry.size = size
        if kind in {CHARACTER_DEVICE, BLOCK_DEVICE}:
            entry.device = (parse_number(fields[12]), parse_number(fields[13]))
        sparse: _Sparse | None = None
        if records is not None or self._global:
            sparse = self._apply_pax(entry, records or [])
        self._place_data(entry, header, sparse)
        if not 0 <= entry.uid < 1 << 32 or not 0 <= entry.gid < 1 << 32:
            raise TarError(f"{_INVALID_HEADER}: uid or gid out of range")
        return entry

    def _apply_pax(self, entry: Entry, records: list[tuple[bytes, bytes]]) -> _Sparse | None:
        sparse = _Sparse()
        for key, value in (*self._global.items(), *records):
            if key == b"path":
                entry.path = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"size":
                entry.size = _parse_int(value)
            elif key == b"uid":
                entry.uid = _parse_int(value)
            elif key == b"gid":
                entry.gid = _parse_int(value)
            elif key == b"mtime":
                entry.mtime_ns = parse_pax_time(value)
            elif key.startswith(_XATTR_PREFIX):
                entry.xattrs[key[len(_XATTR_PREFIX) :]] = value
            elif key.startswith(b"GNU.sparse."):
                sparse.record(key[11:], value)
        if entry.size < 0:
            raise TarError("pax header: negative size")
        if not sparse.used:
            return None
        if sparse.name is not None:
            entry.path = sparse.name
        return sparse

    def _place_data(self, entry: Entry, header: bytes, sparse: _Sparse | None) -> None:
        if entry.type in _WITHOUT_DATA:
            entry.size = 0
            return
        stored = entry.size
        extents: list[tuple[int, int]] | None = None
        map_size = 0
        if entry.type == _GNU_SPARSE:
            entry.type = REGULAR
            extents = self._old_sparse_map(header)
            entry.size = parse_number(header[483:495])
        elif entry.type != REGULAR:
            raise TarError(f"{_INVALID_HEADER}: unknown type {chr(entry.type)!r}")
        elif sparse is not None:
            if sparse.in_data:
                extents, map_size = self._sparse_map_in_data(stored)
            else:
                extents = sparse.extents()
            entry.size = sparse.real_size
        entry.offset = self.offset
        entry.stored = stored - map_size
        if extents is not None:
            entry.extents = _checked(extents, entry)
        self._pending = entry.stored
        self._padding = -stored % BLOCK

    def _old_sparse_map(self, header: bytes) -> list[tuple[int, int]]:
        extents = _sparse_pairs(header[386:482])
        more = header[482]
        while more:
            block = self._take(BLOCK)
            extents += _sparse_pairs(block[:504])
            more = block[504]
            if len(extents) > MAX_SPARSE_EXTENTS:
                raise TarError("sparse file: too many extents")
        return extents

    def _sparse_map_in_data(self, stored: int) -> tuple[list[tuple[int, int]], int]:
        """Format 1.0: the map stands before the data as decimal lines, padded to whole blocks."""
        taken = 0
        rest = b""

        def number() -> int:
            nonlocal rest, taken
            while b"\n" not in rest:
                if taken + BLOCK > stored or len(rest) > 40:
                    raise TarError("sparse file: bad map")
                rest += self._take(BLOCK)
                taken += BLOCK
            line, _, rest = rest.partition(b"\n")
            return _parse_int(line)

        count = number()
        if not 0 <= count <= MAX_SPARSE_EXTENTS:
            raise TarError("sparse file: too many extents")
        return [(number(), number()) for _ in range(count)], taken


class _Sparse:
    """What a member's GNU.sparse.* records say."""

    def __init__(self) -> None:
        self.used = False
        self.name: bytes | None = None
        self.real_size = 0
        self.in_data = False
        self._map: list[int] = []

    def record(self, key: bytes, value: bytes) -> None:
        self.used = True
        if key == b"name":
            self.name = value
        elif key in {b"realsize", b"size"}:
            self.real_size = _parse_int(value)
        elif key == b"major":
            self.in_data = value == b"1"
        elif key in {b"offset", b"numbytes"}:
            self._map.append(_parse_int(value))
        elif key == b"map":
            self._map = [_parse_int(number) for number in value.split(b",")]
        if len(self._map) > 2 * MAX_SPARSE_EXTENTS:
            raise TarError("sparse file: too many extents")

    def extents(self) -> list[tuple[int, int]]:
        if len(self._map) % 2:
            raise TarError("sparse file: bad map")
        return list(zip(self._map[::2], self._map[1::2], strict=True))


def _sparse_pairs(data: bytes) -> list[tuple[int, int]]:
    pairs = []
    for start in range(0, len(data) - 23, 24):
        if not data[start]:
            break
        pairs.append(
            (parse_number(data[start : start + 12]), parse_number(data[start + 12 : start + 24]))
        )
    return pairs


def _checked(extents: list[tuple[int, int]], entry: Entry) -> tuple[tuple[int, int], ...]:
    end = total = 0
    for position, length in extents:
        if position < end or length < 0:
            raise TarError("sparse file: extents overlap")
        end = position + length
        total += length
    if end > entry.size or total != entry.stored:
        raise TarError("sparse file: the map does not fit its data")
    return tuple(extents)
