"""HTTP/1.1 message framing (RFC 9112): heads, and bodies by length or in chunks, from a growing buffer.

Sans-IO: no socket, no loop. httptools (llhttp) judges heads; bodies are cut here, because the connection must
know exactly where a message ends: what follows belongs to the next request or, after a hijack, to the container.
"""

from __future__ import annotations

from collections.abc import Callable

import httptools

HEAD_LIMIT = 1 << 20  # net/http's DefaultMaxHeaderBytes
_CHUNK_LINE_LIMIT = 4096
_TRAILER_LIMIT = 1 << 16
_HEX = frozenset(b"0123456789abcdefABCDEF")


class ProtocolError(Exception):
    """The peer broke the protocol; `status` is the answer, after which the connection ends."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


class Head:
    """The request line and header fields of one message."""

    __slots__ = (
        "chunked",
        "content_length",
        "headers",
        "http_version",
        "keep_alive",
        "method",
        "target",
    )

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.http_version = "1.1"
        self.headers: dict[str, str] = {}
        self.keep_alive = True
        self.chunked = False
        self.content_length = 0

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the request target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: one header field. Values are Latin-1, as HTTP has it."""
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        if key in self.headers:
            text = f"{self.headers[key]}, {text}"
        self.headers[key] = text

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body follow."""
        return self.chunked or self.content_length > 0


def parse_head(data: bytes) -> Head:
    """Parses a complete head, with its empty line. Raises ProtocolError."""
    head = Head()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as exc:
        raise ProtocolError(f"malformed request: {exc}") from exc
    head.method = parser.get_method().decode("latin-1")
    head.http_version = parser.get_http_version()
    if head.http_version not in {"1.0", "1.1"}:
        raise ProtocolError("HTTP version not supported", 505)
    head.keep_alive = _wants_keep_alive(head)
    encoding = head.headers.get("transfer-encoding")
    if encoding is not None:
        if encoding.strip().lower() != "chunked":
            raise ProtocolError(f"unsupported transfer encoding: {encoding}", 501)
        if "content-length" in head.headers:
            raise ProtocolError("both Content-Length and Transfer-Encoding")
        head.chunked = True
    length = head.headers.get("content-length")
    if length is not None:
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            raise ProtocolError(f"bad Content-Length: {length[:64]!r}")
        head.content_length = int(length)
    return head


def _wants_keep_alive(head: Head) -> bool:
    tokens = {token.strip() for token in head.headers.get("connection", "").lower().split(",")}
    if head.http_version == "1.0":
        return "keep-alive" in tokens
    return "close" not in tokens


class BodyReader:
    """Cuts one message's body out of a buffer. `done` when the last byte of the message has been taken."""

    __slots__ = ("_chunked", "_in_trailer", "_left", "_skip_crlf", "_trailer_size", "done")

    def __init__(self, head: Head) -> None:
        self._chunked = head.chunked
        self._left = 0 if head.chunked else head.content_length
        self._skip_crlf = False
        self._in_trailer = False
        self._trailer_size = 0
        self.done = not head.has_body

    def read(self, buffer: bytearray, emit: Callable[[bytes], bool]) -> None:
        """Takes bytes of the body from the front of `buffer` and passes them on.

        Stops when `emit` answers False (the reader is full), when the buffer runs dry or at the end of the
        message. Raises ProtocolError.
        """
        if self._chunked:
            self._read_chunks(buffer, emit)
            return
        if self._left and buffer:
            piece = bytes(buffer[: self._left])
            del buffer[: len(piece)]
            self._left -= len(piece)
            self.done = not self._left
            emit(piece)

    def _read_chunks(self, buffer: bytearray, emit: Callable[[bytes], bool]) -> None:
        while buffer and not self.done:
            if self._left:
                piece = bytes(buffer[: self._left])
                del buffer[: len(piece)]
                self._left -= len(piece)
                self._skip_crlf = not self._left
                if not emit(piece):
                    return
            elif self._skip_crlf:
                if len(buffer) < 2:
                    return
                if buffer[:2] != b"\r\n":
                    raise ProtocolError("malformed chunked encoding")
                del buffer[:2]
                self._skip_crlf = False
            elif not self._read_line(buffer):
                return

    def _read_line(self, buffer: bytearray) -> bool:
        end = buffer.find(b"\r\n", 0, _CHUNK_LINE_LIMIT)
        if end < 0:
            if len(buffer) >= _CHUNK_LINE_LIMIT:
                raise ProtocolError("malformed chunked encoding: line too long")
            return False
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        if self._in_trailer:
            self._trailer_size += len(line)
            if self._trailer_size > _TRAILER_LIMIT:
                raise ProtocolError("trailer too large", 431)
            self.done = not line
            return True
        digits = line.partition(b";")[0].rstrip(b" \t")
        if not digits or len(digits) > 15 or not _HEX.issuperset(digits):
            raise ProtocolError("malformed chunked encoding")
        self._left = int(digits, 16)
        self._in_trailer = not self._left
        return True
