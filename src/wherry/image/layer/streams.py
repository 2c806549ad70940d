"""Byte streams of the workers: a file that still grows, decompression, hashing beside the parser.

All of it blocks and belongs in a worker. Memory is bounded whatever the input: pieces have a fixed size,
queues a fixed length, and a stream that decompresses to absurd amounts is refused.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import select
import struct
import threading
from collections.abc import Callable
from typing import IO, Self, cast

import zstandard
from isal import isal_zlib

from wherry.image.layer.writing import write_all

PIECE = 1 << 18
_QUEUE = 16
_BOMB_BYTES = 1 << 30
_BOMB_RATIO = 100
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BZIP2_MAGIC = b"BZh"
_XZ_MAGIC = b"\xfd7zXZ\x00"

Read = Callable[[int], bytes]

# isal's stub says that its exception class is an instance.
_GzipError = cast("type[Exception]", isal_zlib.error)


class StreamError(ValueError):
    """The bytes are not what their format, size or digest promise."""


class GrowingFile:
    """Reads a file of known final size while another process appends to it.

    Over `control` come 8-byte numbers, how many bytes are there by now. The writer keeps it open until all has been
    read: its end means that the writer gave up, or is gone. Without a control descriptor the file is complete.
    """

    def __init__(self, fd: int, size: int, control: int | None) -> None:
        self._fd = fd
        self._size = size
        self._control = control
        self._hang_up = select.poll()
        if control is not None:
            self._hang_up.register(control, 0)
        self._available = size if control is None else 0
        self.position = 0

    def read(self, count: int) -> bytes:
        """At most `count` bytes; b"" only at the final size."""
        if self.position >= self._size:
            return b""
        if self._hang_up.poll(0):
            raise StreamError("the download was given up")
        while self._available <= self.position:
            self._wait()
        data = os.pread(self._fd, min(count, self._available - self.position), self.position)
        if not data:
            raise StreamError("the file is shorter than its size")
        self.position += len(data)
        return data

    def _wait(self) -> None:
        if self._control is None:
            raise StreamError("the file is shorter than its size")
        message = os.read(self._control, 8 * 512)
        if not message:
            raise StreamError("the download was given up")
        self._available = min(struct.unpack_from("=Q", message, len(message) - 8)[0], self._size)


class Decompressor:
    """Reads the decompressed form of a stream, whatever it is packed with: found by its first bytes."""

    def __init__(self, read: Read) -> None:
        self._source = read
        self._consumed = 0
        self._produced = 0
        self._first = read(PIECE)
        while 0 < len(self._first) < 6 and (more := read(PIECE)):
            self._first += more
        self.format = _format_of(self._first)
        self._read = self._open()

    def read(self, count: int) -> bytes:
        """At most `count` bytes, b"" at the end. Raises StreamError."""
        data = self._read(count)
        self._produced += len(data)
        if self._produced > _BOMB_BYTES and self._produced > _BOMB_RATIO * self._consumed:
            raise StreamError(
                f"refused: the content decompresses to more than {_BOMB_RATIO} times its size"
            )
        return data

    def _compressed(self, count: int) -> bytes:
        if self._first:
            data, self._first = self._first[:count], self._first[count:]
        else:
            data = self._source(count)
        self._consumed += len(data)
        return data

    def _open(self) -> Read:
        if self.format == "gzip":
            return _GzipStream(self._compressed).read
        if self.format == "zstd":
            return _ZstdStream(self._compressed).read
        if self.format in {"bzip2", "xz"}:
            return _StandardStream(self._compressed, self.format).read
        return self._compressed


class _GzipStream:
    """gzip with any number of members, as RFC 1952 allows and eStargz uses."""

    def __init__(self, source: Read) -> None:
        self._source = source
        self._member = isal_zlib.decompressobj(wbits=31)
        self._input = b""

    def read(self, count: int) -> bytes:
        while True:
            if self._member.eof:
                self._input = self._member.unused_data or self._source(PIECE)
                if not self._input or not self._input.strip(b"\0"):
                    return b""
                self._member = isal_zlib.decompressobj(wbits=31)
            elif not self._input:
                self._input = self._source(PIECE)
                if not self._input:
                    raise StreamError("unexpected EOF in compressed data")
            try:
                data: bytes = self._member.decompress(self._input, count)
            except _GzipError as error:
                raise StreamError(f"gzip: {error}") from error
            self._input = self._member.unconsumed_tail
            if data:
                return data


class _ZstdStream:
    """zstd with any number of frames."""

    def __init__(self, source: Read) -> None:
        context = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        reader = cast(IO[bytes], _Reader(source))  # only read() is called
        self._reader = context.stream_reader(reader, read_size=PIECE, read_across_frames=True)

    def read(self, count: int) -> bytes:
        try:
            return self._reader.read(count)
        except zstandard.ZstdError as error:
            raise StreamError(f"zstd: {error}") from error


class _Reader:
    """What zstandard needs of a file."""

    def __init__(self, read: Read) -> None:
        self.read = read


class _StandardStream:
    """bzip2 and xz, which old archives use; the standard library's decompressors are imported on demand."""

    def __init__(self, source: Read, kind: str) -> None:
        import bz2
        import lzma

        self._make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor] = (
            bz2.BZ2Decompressor
            if kind == "bzip2"
            else lambda: lzma.LZMADecompressor(memlimit=256 << 20)
        )
        self._errors = (OSError, lzma.LZMAError, EOFError)
        self._source = source
        self._stream = self._make()

    def read(self, count: int) -> bytes:
        while True:
            piece = b""
            if self._stream.eof:
                piece = self._stream.unused_data or self._source(PIECE)
                if not piece.strip(b"\0"):
                    return b""
                self._stream = self._make()
            elif self._stream.needs_input:
                piece = self._source(PIECE)
                if not piece:
                    raise StreamError("unexpected EOF in compressed data")
            try:
                data = self._stream.decompress(piece, count)
            except self._errors as error:
                raise StreamError(f"compressed data is damaged: {error}") from error
            if data:
                return data


class Beside:
    """Runs a consumer of pieces in a second thread; hashing and writing release the interpreter lock.

    As a context: when it is left the thread has ended, so that what it writes to may be closed.
    """

    def __init__(self, consume: Callable[[bytes], object]) -> None:
        self._consume = consume
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUE)
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
            return
        self._error = self._error or OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
        self._queue.put(None)
        self._thread.join()

    def put(self, piece: bytes) -> None:
        """Hands one piece over; waits while the consumer is behind. Raises what the consumer raised."""
        if self._error is not None:
            raise self._error
        self._queue.put(piece)

    def close(self) -> None:
        """Waits until all is consumed."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (piece := self._queue.get()) is not None:
            if self._error is not None:
                continue
            try:
                self._consume(piece)
            except OSError as error:
                self._error = error


class Digester:
    """Passes a stream through while hashing it (and writing it to `out`), in a second thread; counts its bytes.

    A context, as `Beside` is.
    """

    def __init__(self, read: Read, algorithm: str = "sha256", out: int | None = None) -> None:
        self._read = read
        self._hash = hashlib.new(algorithm)
        self._out = out
        self._beside = Beside(self._consume)
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._beside.__exit__(kind, error, trace)

    def read(self, count: int) -> bytes:
        """At most `count` bytes of the stream."""
        data = self._read(count)
        if data:
            self.size += len(data)
            self._beside.put(data)
        return data

    def write(self, data: bytes) -> None:
        """Takes bytes that do not come from a stream."""
        self.size += len(data)
        self._beside.put(data)

    def hexdigest(self) -> str:
        """Of all that was read; waits until it is hashed and written."""
        self._beside.close()
        return self._hash.hexdigest()

    def _consume(self, piece: bytes) -> None:
        self._hash.update(piece)
        if self._out is not None:
            write_all(self._out, piece)


def _format_of(head: bytes) -> str:
    for magic, name in (
        (_GZIP_MAGIC, "gzip"),
        (_ZSTD_MAGIC, "zstd"),
        (_BZIP2_MAGIC, "bzip2"),
        (_XZ_MAGIC, "xz"),
    ):
        if head.startswith(magic):
            return name
    return "tar"
