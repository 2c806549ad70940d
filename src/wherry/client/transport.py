"""HTTP/1.1 to the engine over a unix socket, TCP or TLS, written for start-up time.

Theory of operation: a command of the CLI makes two to five requests and ends. So there is no `socket`
module here (it imports selectors and enum, half of a command's run), only `_socket`, and no parser
beyond what an answer can hold: status line, headers, a body by length, by chunks or until the end,
or a raw stream after 101 (or 200 without a length, as engines before HTTP upgrade gave). Requests of
one client share idle connections; a streamed answer keeps its connection to itself.
"""

from __future__ import annotations

import _socket
import os

from wherry.client.errors import ApiError, CannotConnect, ConnectionLost, InvalidAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Protocol

    class StreamSocket(Protocol):
        """What this module uses of a socket."""

        def recv(self, size: int, flags: int = 0, /) -> bytes: ...
        def send(self, data: bytes, flags: int = 0, /) -> int: ...
        def shutdown(self, how: int, /) -> None: ...
        def setblocking(self, flag: bool, /) -> None: ...  # noqa: FBT001 - the socket's own signature
        def fileno(self) -> int: ...
        def close(self) -> None: ...


NO_SIGNAL = _socket.MSG_NOSIGNAL
CHUNK = 65536
HEAD_LIMIT = 1 << 20

# errno of ssl's errors: SSL_ERROR_WANT_READ and _WRITE, SSL_ERROR_ZERO_RETURN and _EOF
TLS_WANTS = frozenset({2, 3})
TLS_ENDS = frozenset({6, 8})


class TlsFiles:
    """Where the key material of a TLS connection is."""

    __slots__ = ("authority", "certificate", "key", "verify")

    def __init__(self, authority: str, certificate: str, key: str, *, verify: bool) -> None:
        self.authority = authority
        self.certificate = certificate
        self.key = key
        self.verify = verify


class Address:
    """Where an engine listens: `unix:///path` or `tcp://host:port`."""

    __slots__ = ("host", "path", "port", "text", "tls")

    def __init__(self, text: str, tls: TlsFiles | None = None) -> None:
        self.text = text
        self.tls = tls
        self.path = ""
        self.host = ""
        self.port = 0
        scheme, separator, rest = text.partition("://")
        if not separator:
            raise InvalidAddress(f"unable to parse docker host `{text}`")
        if scheme == "unix":
            self.path = rest
            return
        if scheme not in {"tcp", "http", "https"}:
            raise InvalidAddress(f"the address {text} has a scheme other than unix and tcp")
        rest = rest.partition("/")[0]
        host, separator, port = rest.rpartition(":")
        if not separator or rest.endswith("]"):
            host, port = rest, "2376" if tls is not None or scheme == "https" else "2375"
        if not port.isdigit():
            raise InvalidAddress(f"unable to parse docker host `{text}`")
        self.host = host.strip("[]") or "localhost"
        self.port = int(port)
        if scheme == "https" and tls is None:
            self.tls = TlsFiles("", "", "", verify=True)


class Response:
    """An answer: status, headers (names in lower case) and a body read at most once."""

    __slots__ = ("_connection", "_remaining", "headers", "status")

    def __init__(self, connection: Connection, status: int, headers: dict[str, str]) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers
        self._remaining: int | None = None

    def chunks(self) -> Iterator[bytes]:
        """The pieces of the body as they arrive; raises ConnectionLost if it is cut short."""
        try:
            yield from self._read_body()
        except ConnectionLost:
            self._connection.close()
            raise

    def _read_body(self) -> Iterator[bytes]:
        connection = self._connection
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int(connection.read_line().partition(b";")[0], 16)
                if size == 0:
                    while connection.read_line():
                        pass
                    break
                while size:
                    piece = connection.read_some(size)
                    if not piece:
                        raise ConnectionLost("unexpected EOF")
                    size -= len(piece)
                    yield piece
                connection.read_line()
        elif "content-length" in self.headers:
            size = int(self.headers["content-length"])
            while size:
                piece = connection.read_some(size)
                if not piece:
                    raise ConnectionLost("unexpected EOF")
                size -= len(piece)
                yield piece
        elif self.status not in {204, 304}:
            while piece := connection.read_some(CHUNK):
                yield piece
            connection.reusable = False
        connection.release()

    def read(self) -> bytes:
        """The whole body; gives the connection back to its client."""
        return b"".join(self.chunks())

    def skip_body(self) -> None:
        """Gives the connection back after a HEAD request."""
        self._connection.release()

    def close(self) -> None:
        """Ends the connection, whatever is still to come."""
        self._connection.close()

    def fileno(self) -> int:
        """The descriptor to poll while a streamed body is awaited."""
        return self._connection.fileno()

    def take_stream(self) -> Stream:
        """The raw connection after an upgrade; the response is used up."""
        return self._connection.take_stream()


class Stream:
    """A hijacked connection: bytes both ways, each direction closed on its own."""

    __slots__ = ("_early", "_socket", "is_tls")

    def __init__(self, socket: StreamSocket, early: bytes, *, is_tls: bool) -> None:
        self._socket = socket
        self._early = early
        self.is_tls = is_tls

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def has_buffered(self) -> bool:
        """True if recv gives bytes without the descriptor being readable."""
        if self._early:
            return True
        pending = getattr(self._socket, "pending", None)
        return bool(pending is not None and pending())

    def recv(self, size: int = CHUNK) -> bytes:
        """What has arrived; empty at the end; raises BlockingIOError when nothing has."""
        if self._early:
            data, self._early = self._early, b""
            return data
        try:
            return self._socket.recv(size)
        except ConnectionResetError:
            return b""
        except OSError as exc:
            if self.is_tls and exc.errno in TLS_WANTS:
                raise BlockingIOError from exc
            if self.is_tls and exc.errno in TLS_ENDS:
                return b""
            raise

    def send(self, data: bytes) -> int:
        """How many bytes were taken; raises BlockingIOError when none."""
        if not self.is_tls:
            return self._socket.send(data, NO_SIGNAL)
        try:
            return self._socket.send(data)
        except OSError as exc:
            if exc.errno in TLS_WANTS:
                raise BlockingIOError from exc
            raise

    def set_nonblocking(self) -> None:
        """recv and send return at once from here on."""
        self._socket.setblocking(False)  # noqa: FBT003 - the socket's own signature

    def close_write(self) -> None:
        """Tells the other side that no more input comes."""
        try:
            if self.is_tls:
                unwrap = getattr(self._socket, "unwrap", None)
                if unwrap is not None:
                    unwrap()
            else:
                self._socket.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """Ends both directions."""
        self._socket.close()


class Connection:
    """One connection: writes requests, reads answers through a buffer."""

    __slots__ = ("_buffer", "_is_tls", "_pool", "_socket", "reusable", "used")

    def __init__(self, socket: StreamSocket, pool: list[Connection], *, is_tls: bool) -> None:
        self._socket = socket
        self._is_tls = is_tls
        self._buffer = b""
        self._pool = pool
        self.reusable = True
        self.used = False

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def send_all(self, data: bytes) -> None:
        """Writes everything."""
        view = memoryview(data)
        flags = 0 if self._is_tls else NO_SIGNAL
        while view:
            # A memoryview is a bytes-like object for send; typing it so would need collections.abc.
            view = view[self._socket.send(view, flags) :]  # type: ignore[arg-type]

    def read_some(self, size: int) -> bytes:
        """At least one byte and at most `size`; empty at the end of the stream."""
        if self._buffer:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
            return data
        return self._receive(min(size, 1 << 20))

    def read_line(self) -> bytes:
        """A line without its end; raises ConnectionLost if the stream ends before it."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._fill()
        line = self._buffer[:end]
        self._buffer = self._buffer[end + 2 :]
        return line

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._fill()
        head = str(self._buffer[:end], "latin-1")
        self._buffer = self._buffer[end + 4 :]
        lines = head.split("\r\n")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        try:
            status = int(lines[0].split(" ", 2)[1])
        except (IndexError, ValueError) as exc:
            raise ConnectionLost(f"malformed HTTP response {lines[0]!r}") from exc
        if headers.get("connection", "").lower() == "close":
            self.reusable = False
        return status, headers

    def _receive(self, size: int) -> bytes:
        try:
            return self._socket.recv(size)
        except ConnectionResetError:
            return b""
        except OSError as exc:
            if self._is_tls and exc.errno in TLS_ENDS:
                return b""
            raise

    def _fill(self) -> None:
        data = self._receive(CHUNK)
        if not data or len(self._buffer) > HEAD_LIMIT:
            raise ConnectionLost("unexpected EOF")
        self._buffer += data

    def take_stream(self) -> Stream:
        """Gives the socket away, with what was read of it."""
        stream = Stream(self._socket, self._buffer, is_tls=self._is_tls)
        self._buffer = b""
        return stream

    def release(self) -> None:
        """Puts the connection back for the next request."""
        if self.reusable:
            self._pool.append(self)
        else:
            self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


class Transport:
    """Requests to one engine. Connections are opened when needed and kept for the next request."""

    __slots__ = ("_idle", "_on_absent", "address", "headers")

    def __init__(self, address: Address, *, on_absent: Callable[[], bool] | None = None) -> None:
        self.address = address
        self.headers: dict[str, str] = {}
        self._idle: list[Connection] = []
        self._on_absent = on_absent

    def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        stream: Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        upgrade: bool = False,
    ) -> Response:
        """Sends a request and reads the head of its answer; raises ApiError for 400 and above.

        `stream` is sent in chunks. With `upgrade` the connection becomes a raw stream.
        """
        lines = [f"{method} {target} HTTP/1.1\r\nHost: wherry\r\nUser-Agent: wherry\r\n"]
        for name, value in self.headers.items():
            lines.append(f"{name}: {value}\r\n")
        if headers:
            for name, value in headers.items():
                lines.append(f"{name}: {value}\r\n")
        if upgrade:
            lines.append("Connection: Upgrade\r\nUpgrade: tcp\r\n")
        if stream is not None:
            lines.append("Transfer-Encoding: chunked\r\n\r\n")
        elif body is not None:
            lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        elif method in {"POST", "PUT"}:
            lines.append("Content-Length: 0\r\n\r\n")
        else:
            lines.append("\r\n")
        message = "".join(lines).encode("utf-8", "surrogateescape") + (body or b"")
        while True:
            connection, reused = self._get_connection()
            try:
                status, reply = self._exchange(connection, message, stream)
                break
            except (ConnectionLost, BrokenPipeError, ConnectionResetError) as exc:
                connection.close()
                if reused and stream is None:
                    continue
                raise ConnectionLost(f"error during connect: {self.address.text}: {exc}") from exc
        response = Response(connection, status, reply)
        if status >= 400:
            raise _error_of(response, method)
        return response

    def close(self) -> None:
        """Ends the connections that wait for a next request."""
        while self._idle:
            self._idle.pop().close()

    @staticmethod
    def _exchange(
        connection: Connection, message: bytes, stream: Iterable[bytes] | None
    ) -> tuple[int, dict[str, str]]:
        connection.send_all(message)
        if stream is not None:
            try:
                for piece in stream:
                    if piece:
                        connection.send_all(b"%x\r\n%b\r\n" % (len(piece), piece))
                connection.send_all(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                # The engine refused the body early; its answer says why.
                connection.reusable = False
        while True:
            status, headers = connection.read_head()
            if status >= 200 or status == 101:
                return status, headers

    def _get_connection(self) -> tuple[Connection, bool]:
        try:
            return self._idle.pop(), True
        except IndexError:
            pass
        try:
            return self._connect(), False
        except CannotConnect:
            if self._on_absent is None or not self._on_absent():
                raise
        return self._connect(), False

    def _connect(self) -> Connection:
        address = self.address
        try:
            if address.path:
                return Connection(connect_unix(address.path), self._idle, is_tls=False)
            return self._connect_tcp()
        except OSError as exc:
            raise CannotConnect(address.text, exc) from exc

    def _connect_tcp(self) -> Connection:
        import socket

        address = self.address
        plain = socket.create_connection((address.host, address.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.tls is None:
            return Connection(plain, self._idle, is_tls=False)
        import ssl

        files = address.tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if files.verify:
            if files.authority:
                context.load_verify_locations(files.authority)
            else:
                context.load_default_certs()
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if files.certificate:
            context.load_cert_chain(files.certificate, files.key)
        wrapped = context.wrap_socket(plain, server_hostname=address.host)
        return Connection(wrapped, self._idle, is_tls=True)


def connect_unix(path: str) -> _socket.socket:
    """A connected stream socket; a path over the 107 bytes of sun_path goes through its folder."""
    plain = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        if len(os.fsencode(path)) <= 107:
            plain.connect(path)
        else:
            folder, _, name = path.rpartition("/")
            fd = os.open(folder or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                plain.connect(f"/proc/self/fd/{fd}/{name}")
            finally:
                os.close(fd)
    except OSError:
        plain.close()
        raise
    return plain


def _error_of(response: Response, method: str) -> ApiError:
    if method == "HEAD":
        response.close()
        return ApiError(response.status, "")
    body = response.read()
    from wherry.client.document import MalformedDocument, as_document, decode, text_of

    message = str(body, "utf-8", "replace").strip()
    try:
        message = text_of(as_document(decode(body)), "message") or message
    except MalformedDocument:
        pass
    return ApiError(response.status, message or f"request returned status {response.status}")


def quote(text: str) -> str:
    """`text` percent-encoded for one segment or value of a URL."""
    for character in text:
        if not (character.isalnum() or character in "-._~/:,@") or ord(character) > 127:
            return "".join(
                chr(byte)
                if byte < 128 and (chr(byte).isalnum() or chr(byte) in "-._~/:,@")
                else f"%{byte:02X}"
                for byte in text.encode("utf-8", "surrogateescape")
            )
    return text


def build_query(**values: str | int | bool | None) -> str:
    """`?a=b&c=1` of the values that are given; empty strings, None and False are left out."""
    parts = []
    for name, value in values.items():
        if value is None or value is False or value == "":
            continue
        shown = "1" if value is True else str(value)
        parts.append(f"{name.rstrip('_')}={quote(shown).replace('/', '%2F')}")
    return "?" + "&".join(parts) if parts else ""
