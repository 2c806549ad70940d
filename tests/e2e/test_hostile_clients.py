"""Clients that connect and do nothing, or never end what they say: others are answered, and all is given back."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import socket
import tarfile
import time
from collections.abc import Iterator

import pytest
from tests.harness.engine import SETTLE_S, Engine, running_engine
from tests.images.make import default_folder, make_image

CLIENTS = 1500
ANSWER_S = 5.0


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One that no other test talks to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, CLIENTS + 1000), hard))
    try:
        with running_engine(options=["--slots=0"]) as engine:
            yield engine
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(engine: Engine) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(engine.socket))
    return connection


def ask(engine: Engine) -> None:
    """An ordinary client is answered soon."""
    with connect(engine) as connection:
        connection.settimeout(ANSWER_S)
        connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def count_descriptors(engine: Engine) -> int:
    assert engine.process is not None
    return len(os.listdir(f"/proc/{engine.process.pid}/fd"))


def memory_mib(engine: Engine) -> int:
    assert engine.process is not None
    with open(f"/proc/{engine.process.pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET /_ping HTTP/1.1\r\nX-Slow: ",
        (
            b"POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\n"
            b'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"Image": '
        ),
        b"POST /v1.51/images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
    ids=["idle", "half a head", "half a document", "half an archive"],
)
def test_clients_that_say_no_more(engine: Engine, beginning: bytes) -> None:
    ask(engine)
    before = count_descriptors(engine), memory_mib(engine)
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(connect(engine)).sendall(beginning)
        ask(engine)
        assert memory_mib(engine) < before[1] + 100
    deadline = time.monotonic() + SETTLE_S
    while count_descriptors(engine) > before[0] + 5 and time.monotonic() < deadline:
        ask(engine)
    assert count_descriptors(engine) <= before[0] + 5
    assert "Traceback" not in engine.log.read_text()


@pytest.mark.parametrize("path", ["containers/create", "auth", "nope", "_ping"])
def test_a_body_that_never_ends(engine: Engine, path: str) -> None:
    before = memory_mib(engine)
    block = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with connect(engine) as connection:
        connection.sendall(
            f"POST /v1.51/{path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:  # until the engine has had enough
                connection.sendall(block)
    ask(engine)
    assert memory_mib(engine) < before + 100


def test_a_build_whose_output_nobody_reads(engine: Engine) -> None:
    engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
    before = memory_mib(engine)
    dockerfile = b"FROM busybox\nRUN yes | head -c 100000000; touch /ended\n"
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(dockerfile)
        tar.addfile(member, io.BytesIO(dockerfile))
    head = (
        f"POST /v1.51/build?t=unread HTTP/1.1\r\nHost: d\r\nContent-Length: {body.tell()}\r\n\r\n"
    )
    with connect(engine) as connection:
        connection.sendall(head.encode() + body.getvalue())
        deadline = time.monotonic() + SETTLE_S
        while not engine.docker("images", "-q", "unread") and time.monotonic() < deadline:
            ask(engine)
        assert engine.docker("images", "-q", "unread")
        assert memory_mib(engine) < before + 60
        connection.settimeout(ANSWER_S)
        answer = b""
        while b"Successfully tagged" not in answer[-4096:]:
            answer += connection.recv(1 << 20)
    assert b"output clipped" in answer


def test_a_filter_that_would_go_back_for_ever(engine: Engine) -> None:
    name = "a" * 30
    engine.docker("create", "--name", name, "host", "true")
    assert engine.docker("ps", "-aq", "--filter", "name=^/?a+$")
    assert not engine.docker("ps", "-aq", "--filter", "name=^(a|a)*$Z|(a*)*b")
    ask(engine)
    engine.docker("rm", name)
