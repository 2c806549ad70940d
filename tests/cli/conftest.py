"""An engine that only answers what a test tells it, and the command line run against it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.cli.main import run


class FakeEngine:
    """Answers requests from a table of `METHOD path` to status and document; keeps all requests."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, tuple[int, object]] = {}
        self.requests: list[tuple[str, object]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._connections: list[tuple[socket.socket, threading.Thread]] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def answer(self, request: str, document: object, status: int = 200) -> None:
        """What a request gets; a list of dicts under `stream` goes out as lines."""
        self.answers[request] = (status, document)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._connections.append((connection, thread))
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            while line := file.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers = {}
                while header := file.readline().strip():
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = file.read(int(headers.get("content-length", "0")))
                path = target.partition("?")[0]
                self.requests.append((f"{method} {target}", json.loads(body) if body else None))
                status, document = self.answers.get(
                    f"{method} {path}", (404, {"message": f"page not found: {method} {path}"})
                )
                if isinstance(document, list) and document and document[0] == "stream":
                    text = "".join(json.dumps(item) + "\r\n" for item in document[1:])
                else:
                    text = "" if document is None else json.dumps(document)
                head = f"HTTP/1.1 {status} X\r\nServer: Wherry/test\r\nContent-Length: {len(text.encode())}\r\n\r\n"
                connection.sendall((head + text).encode())

    def close(self) -> None:
        """Ends it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection, thread in self._connections:
            with contextlib.suppress(OSError):  # the client has left, or the thread has closed it
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    fake = FakeEngine(tmp_path / "s")
    monkeypatch.setenv("WHERRY_HOST", f"unix://{tmp_path}/s")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("TZ", "UTC")
    yield fake
    fake.close()


Wherry = Callable[..., tuple[int, str, str]]


@pytest.fixture
def wherry(capfd: pytest.CaptureFixture[str]) -> Wherry:
    """Runs a command line in this process; gives exit code, standard output, standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        code = run(list(words))
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def golden(update_golden: bool) -> Callable[[str, str], None]:
    """Compares a text with a file of tests/data/cli."""
    folder = Path(__file__).parents[1] / "data" / "cli"

    def compare(name: str, text: str) -> None:
        path = folder / f"{name}.golden"
        if update_golden:
            path.write_text(text)
        assert text == path.read_text()

    return compare
