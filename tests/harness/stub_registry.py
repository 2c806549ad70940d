"""A registry in a thread whose every answer a test can bend, and a TCP proxy that cuts connections.

Serves one repository's content from memory; records what it was asked. Where docker-registry can show a
behaviour, tests use that instead.
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.harness.registry import TestImage


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Answer:
    """What is answered; `cut_after` closes the connection after that many bytes of the body."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None


class StubRegistry:
    """`rules` are asked in order; the first that answers wins, else the content is served."""

    def __init__(self) -> None:
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.rules: list[Callable[[Request], Answer | None]] = []
        self.requests: list[Request] = []
        self.ignore_range = False
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                request = Request(
                    method=self.command,
                    path=parts.path,
                    query=parse_qs(parts.query),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.read_body(length),
                )
                stub.requests.append(request)
                answer = stub.find_answer(request)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if not {"Content-Length", "Transfer-Encoding"} & answer.headers.keys():
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if answer.cut_after is not None:
                    self.wfile.write(answer.body[: answer.cut_after])
                    self.close_connection = True
                    return
                self.wfile.write(answer.body)

            def read_body(self, length: int) -> bytes:
                """What comes of it, when the connection breaks before its end."""
                body = bytearray()
                with contextlib.suppress(ConnectionError):
                    while len(body) < length:
                        piece = self.rfile.read1(min(65536, length - len(body)))
                        if not piece:
                            break
                        body += piece
                return bytes(body)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = False  # those are not waited for when it closes

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients that go away are what these tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def add_image(self, tag: str, image: TestImage) -> None:
        self.blobs.update(image.blobs)
        for name in (tag, image.digest):
            self.manifests[name] = (image.media_type, image.manifest)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, method: str, part: str) -> list[Request]:
        """The requests whose path holds `part`."""
        return [r for r in self.requests if r.method == method and part in r.path]

    def find_answer(self, request: Request) -> Answer:
        for rule in self.rules:
            answer = rule(request)
            if answer is not None:
                return answer
        _, _, last = request.path.rpartition("/")
        if "/manifests/" in request.path and last in self.manifests:
            media_type, body = self.manifests[last]
            return Answer(headers={"Content-Type": media_type}, body=body)
        if "/blobs/" in request.path and last in self.blobs:
            return self._blob(request, self.blobs[last])
        if request.path == "/v2/":
            return Answer(body=b"{}")
        return error(404, "MANIFEST_UNKNOWN", "manifest unknown")

    def _blob(self, request: Request, data: bytes) -> Answer:
        wanted = request.headers.get("range", "")
        if not wanted or self.ignore_range:
            return Answer(body=data)
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        return Answer(
            status=206,
            headers={"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"},
            body=data[start:],
        )


def error(status: int, code: str, message: str, **headers: str) -> Answer:
    """An answer in the specification's form."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=fields, body=body)


@contextlib.contextmanager
def running_stub() -> Iterator[StubRegistry]:
    """A stub for the length of a test."""
    stub = StubRegistry()
    stub.start()
    try:
        yield stub
    finally:
        stub.close()


class Cutter:
    """A TCP proxy that resets a connection once it has carried as many bytes as `budgets` gives it next.

    Counts the bytes towards the client, or towards the registry with `upwards`. Without a budget a connection lives.
    """

    def __init__(self, target_port: int, budgets: Iterator[int], *, upwards: bool = False) -> None:
        self._target_port = target_port
        self._budgets = budgets
        self._upwards = upwards
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._relay, args=(client, next(self._budgets, None)))
            self._threads.append(thread)
            thread.start()

    def _relay(self, client: socket.socket, budget: int | None) -> None:
        with client, contextlib.suppress(OSError):
            upstream = socket.create_connection(("127.0.0.1", self._target_port))
            with upstream:
                while not self._closing.is_set():
                    readable, _, _ = select.select([client, upstream], [], [], 0.05)
                    for source in readable:
                        data = source.recv(65536)
                        if not data:
                            return
                        counted = (source is client) == self._upwards
                        if budget is not None and counted and len(data) >= budget:
                            (upstream if source is client else client).sendall(data[:budget])
                            self.cuts += 1
                            if self._upwards:
                                # Not before the registry has taken in what it got: the client asks for it next.
                                upstream.shutdown(socket.SHUT_WR)
                                while upstream.recv(65536):
                                    pass
                            # SO_LINGER 0 makes close() a reset.
                            client.setsockopt(
                                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                            )
                            return
                        (upstream if source is client else client).sendall(data)
                        if budget is not None and counted:
                            budget -= len(data)


def random_budgets(seed: int, longest: int) -> Iterator[int]:
    """An endless repeatable row."""
    source = random.Random(seed)
    while True:
        yield source.randrange(1, longest)
