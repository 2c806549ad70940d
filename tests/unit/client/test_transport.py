"""HTTP against a scripted socket: bodies of each kind, reuse of connections, errors, upgrades."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.client.client import Client
from wherry.client.errors import ApiError, CannotConnect, ConnectionLost, InvalidAddress
from wherry.client.transport import Address, Transport, build_query, quote


class Script:
    """Answers each connection with the next list of replies; keeps what it was asked."""

    def __init__(self, path: Path, connections: list[list[bytes]]) -> None:
        self.requests: list[bytes] = []
        self.accepted = 0
        self._connections = connections
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for replies in self._connections:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                for reply in replies:
                    request = self._read(connection)
                    if not request:
                        break
                    self.requests.append(request)
                    connection.sendall(reply)

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return data
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        if b"chunked" in head:
            while not body.endswith(b"0\r\n\r\n"):
                body += connection.recv(65536)
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                while len(body) < int(line.split(b":")[1]):
                    body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


Start = Callable[..., tuple[Transport, Script]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    scripts = []
    transports = []

    def make(*connections: list[bytes]) -> tuple[Transport, Script]:
        script = Script(tmp_path / "s", list(connections))
        scripts.append(script)
        transports.append(Transport(Address(f"unix://{tmp_path}/s")))
        return transports[-1], script

    yield make
    for transport in transports:
        transport.close()
    for script in scripts:
        script.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (OK, b"OK"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            b"abcde",
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"OK"),
    ],
    ids=["length", "chunks", "end", "204", "304", "continue"],
)
def test_bodies(start: Start, reply: bytes, body: bytes) -> None:
    transport, _ = start([reply])
    assert transport.request("GET", "/x").read() == body


def test_a_connection_is_used_again(start: Start) -> None:
    transport, script = start([OK, OK, OK])
    for _ in range(3):
        transport.request("GET", "/_ping").read()
    assert script.accepted == 1


def test_a_connection_that_died_idle_is_replaced(start: Start) -> None:
    transport, script = start([OK], [OK])
    transport.request("GET", "/a").read()
    assert transport.request("GET", "/b").read() == b"OK"
    assert script.accepted == 2


def test_errors_are_the_engines_sentence(start: Start) -> None:
    body = b'{"message":"No such container: x"}\n'
    reply = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    transport, _ = start([reply, OK])
    with pytest.raises(ApiError) as caught:
        transport.request("GET", "/containers/x/json")
    assert (caught.value.status, str(caught.value)) == (404, "No such container: x")
    assert transport.request("GET", "/_ping").read() == b"OK"


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200", b"garbage\r\n\r\n"])
def test_no_answer(start: Start, reply: bytes) -> None:
    transport, _ = start([reply])
    with pytest.raises(ConnectionLost):
        transport.request("GET", "/x")


def test_a_body_that_is_cut(start: Start) -> None:
    transport, _ = start([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"])
    with pytest.raises(ConnectionLost):
        transport.request("GET", "/x").read()


def test_a_stream_is_sent_in_chunks(start: Start) -> None:
    transport, script = start([OK])
    transport.request("POST", "/x", stream=iter([b"abc", b"", b"de"])).read()
    assert script.requests[0].endswith(b"\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")


def test_an_upgrade_gives_the_stream_with_what_came_early(start: Start) -> None:
    transport, script = start([b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nearly"])
    stream = transport.request("POST", "/x", upgrade=True).take_stream()
    assert stream.recv() == b"early"
    assert stream.recv() == b""
    assert b"Upgrade: tcp" in script.requests[0]
    stream.close()


def test_nothing_listens(tmp_path: Path) -> None:
    client = Client(f"unix://{tmp_path}/absent")
    with pytest.raises(CannotConnect) as caught:
        client.system.ping()
    assert str(caught.value) == (
        f"Cannot connect to the wherry daemon at unix://{tmp_path}/absent. "
        "Is the wherry daemon running?"
    )


def test_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    here = folder / "s"
    # Bound through a short name: the kernel's limit is on what is given, not on the path.
    (tmp_path / "short").symlink_to(folder)
    listener.bind(str(tmp_path / "short" / "s"))
    listener.listen()
    client = Client(f"unix://{here}")
    connection = client.transport._connect()
    connection.close()
    listener.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:///a/b", ("/a/b", "", 0)),
        ("tcp://h:1", ("", "h", 1)),
        ("tcp://h", ("", "h", 2375)),
        ("tcp://[::1]:9", ("", "::1", 9)),
        ("tcp://:9", ("", "localhost", 9)),
    ],
)
def test_addresses(text: str, expected: tuple[str, str, int]) -> None:
    address = Address(text)
    assert (address.path, address.host, address.port) == expected


@pytest.mark.parametrize("text", ["nothing", "ftp://x", "tcp://h:port"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(InvalidAddress):
        Address(text)


def test_queries() -> None:
    assert build_query() == ""
    assert build_query(a="", b=None, c=False) == ""
    assert build_query(all_=True, t=0, name="a/b c&é") == "?all=1&t=0&name=a%2Fb%20c%26%C3%A9"
    assert quote("a/b:c@d") == "a/b:c@d"
