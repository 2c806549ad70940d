"""Sessions: who gets which bytes, who waits for whom, and what ends when."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from wherry.shim import streams
from wherry.shim.loop import Loop
from wherry.shim.streams import Client, Session, Sink


class Recorder(Sink):
    def __init__(self) -> None:
        self.data = b""
        self.ended = False

    def write(self, data: bytes) -> None:
        self.data += data

    def finish(self) -> None:
        self.ended = True


class Harness:
    """A session without a program: the test holds the program's ends."""

    def __init__(self, *, terminal: bool = False, stdin: str = "none") -> None:
        self.errors: list[BaseException] = []
        self.loop = Loop(self.errors.append)
        self.log = Recorder()
        self.error_log = Recorder()
        self.detached = 0
        self.drained = False
        self.finished = False
        out_read, self.stdout = os.pipe()
        err_read, self.stderr = os.pipe()
        self.stdin, input_fd = os.pipe() if stdin != "none" else (-1, -1)
        if self.stdin >= 0:
            os.set_blocking(self.stdin, False)
        self.session = Session(
            self.loop,
            terminal=terminal,
            stdin_once=stdin == "once",
            input_fd=input_fd,
            outputs=(("stdout", out_read, self.log), ("stderr", err_read, self.error_log)),
            on_detach=self._count_detach,
        )
        self._sockets: list[socket.socket] = []

    def _count_detach(self) -> None:
        self.detached += 1

    def attach(
        self,
        *,
        stdin: bool = False,
        outputs: tuple[str, ...] = ("stdout", "stderr"),
        multiplexed: bool = False,
        early: bytes = b"",
        keys: bytes = b"",
    ) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        client = Client(
            theirs.detach(),
            has_stdin=stdin,
            streams=outputs,
            multiplexed=multiplexed,
            detach_keys=keys,
        )
        self.session.attach(client, early)
        self._sockets.append(ours)
        return ours

    def run_until(self, condition: Callable[[], bool], patience_s: float = 60.0) -> None:
        """Lets the loop work, and fails when what is expected does not come."""
        failed = False

        def give_up() -> None:
            nonlocal failed
            failed = True

        timer = self.loop.call_later(patience_s, give_up)
        while not condition():
            assert not failed, "deadline"
            self.loop.call_later(0.005, lambda: None)
            self.loop.run_once()
        timer.cancel()
        assert not self.errors, self.errors

    def flood(self) -> int:
        """Writes to stdout until neither pipe, session nor client take more; returns how much they took."""
        os.set_blocking(self.stdout, False)
        written = 0
        for _ in range(100):
            try:
                written += os.write(self.stdout, b"x" * 65536)
            except BlockingIOError:
                pass
            self.loop.call_later(0, lambda: None)
            self.loop.run_once()
        return written

    def drain(self) -> None:
        self.session.drain(lambda: setattr(self, "drained", True))

    def finish(self) -> None:
        self.session.finish(lambda: setattr(self, "finished", True))

    def end_program(self) -> None:
        for name in ("stdout", "stderr", "stdin"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)

    def close(self) -> None:
        self.end_program()
        if not self.drained:
            self.drain()
            self.run_until(lambda: self.drained)
        for client in self._sockets:
            client.close()
        if not self.finished:
            self.finish()
            self.run_until(lambda: self.finished)
        self.loop.close()


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    made = Harness(**getattr(request, "param", {}))
    yield made
    made.close()


def receive(harness: Harness, client: socket.socket, size: int) -> bytes:
    received = bytearray()

    def complete() -> bool:
        try:
            data = client.recv(1 << 20)
            received.extend(data)
        except BlockingIOError:
            return False
        return len(received) >= size or not data

    harness.run_until(complete)
    return bytes(received)


def is_at_end(harness: Harness, client: socket.socket) -> None:
    assert receive(harness, client, 1) == b""


def read_stdin(harness: Harness, size: int) -> bytes:
    received = bytearray()

    def complete() -> bool:
        try:
            data = os.read(harness.stdin, 1 << 20)
        except BlockingIOError:
            return False
        received.extend(data)
        return len(received) >= size or not data

    harness.run_until(complete)
    return bytes(received)


def frame(number: int, data: bytes) -> bytes:
    return struct.pack(">BxxxI", number, len(data)) + data


once = pytest.mark.parametrize("harness", [{"stdin": "once"}], indirect=True)
held_open = pytest.mark.parametrize("harness", [{"stdin": "open"}], indirect=True)
terminal = pytest.mark.parametrize("harness", [{"stdin": "open", "terminal": True}], indirect=True)


def test_log_and_clients_get_everything(harness: Harness) -> None:
    both = harness.attach(multiplexed=True)
    only_errors = harness.attach(outputs=("stderr",))
    os.write(harness.stdout, b"out")
    assert receive(harness, both, 11) == frame(1, b"out")
    os.write(harness.stderr, b"err")
    assert receive(harness, both, 11) == frame(2, b"err")
    assert receive(harness, only_errors, 3) == b"err"
    assert (harness.log.data, harness.error_log.data) == (b"out", b"err")


def test_a_slow_client_pauses_its_stream_and_no_other(harness: Harness) -> None:
    slow = harness.attach(outputs=("stdout",))
    quick = harness.attach(outputs=("stderr",))
    written = harness.flood()
    assert written < 2 << 20
    os.write(harness.stderr, b"still here")
    assert receive(harness, quick, 10) == b"still here"
    assert len(receive(harness, slow, written)) == written
    assert len(harness.log.data) == written


def test_a_lost_client_frees_the_stream_that_it_held_up(harness: Harness) -> None:
    slow = harness.attach()
    written = harness.flood()
    slow.close()
    harness.run_until(lambda: len(harness.log.data) == written)


def test_a_client_without_stdin_may_end_its_side(harness: Harness) -> None:
    client = harness.attach()
    client.shutdown(socket.SHUT_WR)
    os.write(harness.stdout, b"out")
    assert receive(harness, client, 3) == b"out"


@once
def test_stdin_for_one_client_ends_with_it(harness: Harness) -> None:
    client = harness.attach(stdin=True, early=b"early ")
    client.send(b"late")
    client.shutdown(socket.SHUT_WR)
    assert read_stdin(harness, 10) == b"early late"
    assert read_stdin(harness, 1) == b""
    os.write(harness.stdout, b"answer")
    assert receive(harness, client, 6) == b"answer"


@once
def test_stdin_for_one_client_ends_when_the_connection_breaks(harness: Harness) -> None:
    client = harness.attach(stdin=True)
    client.send(b"typed before")
    client.close()
    assert read_stdin(harness, 12) == b"typed before"
    assert read_stdin(harness, 1) == b""


@once
def test_all_input_of_a_client_that_left_reaches_the_program(harness: Harness) -> None:
    client = harness.attach(stdin=True)
    sent = 0

    def is_full() -> bool:
        nonlocal sent
        try:
            sent += client.send(b"x" * 65536)
        except BlockingIOError:
            return True
        return False

    harness.run_until(is_full)
    client.close()
    os.write(harness.stdout, b"output to nobody")
    harness.run_until(lambda: bool(harness.log.data))
    assert len(read_stdin(harness, sent + 1)) == sent


@held_open
def test_stdin_that_stays_open_lets_the_client_go(harness: Harness) -> None:
    client = harness.attach(stdin=True)
    client.send(b"a")
    client.shutdown(socket.SHUT_WR)
    assert read_stdin(harness, 1) == b"a"
    is_at_end(harness, client)
    other = harness.attach(stdin=True)
    other.send(b"b")
    assert read_stdin(harness, 1) == b"b"


def test_input_for_a_program_without_stdin_goes_nowhere(harness: Harness) -> None:
    client = harness.attach(stdin=True)
    client.send(b"x")
    client.shutdown(socket.SHUT_WR)
    os.write(harness.stdout, b"out")
    assert receive(harness, client, 3) == b"out"


@once
def test_close_stdin_comes_after_what_was_typed(harness: Harness) -> None:
    client = harness.attach(stdin=True)
    client.send(b"typed")
    assert read_stdin(harness, 5) == b"typed"
    harness.session.close_stdin()
    assert read_stdin(harness, 1) == b""


@once
def test_a_program_that_closes_stdin_is_not_disturbed(harness: Harness) -> None:
    client = harness.attach(stdin=True)
    os.close(harness.stdin)
    harness.stdin = -1
    client.send(b"x" * 10000)
    os.write(harness.stdout, b"out")
    assert receive(harness, client, 3) == b"out"


@terminal
def test_detach_keys(harness: Harness) -> None:
    client = harness.attach(stdin=True, keys=b"\x10\x11")
    other = harness.attach(stdin=True, keys=b"z")
    client.send(b"ls\n\x10")
    assert read_stdin(harness, 3) == b"ls\n"
    client.send(b"\x11more")
    is_at_end(harness, client)
    assert harness.detached == 1
    os.write(harness.stdout, b"out")
    assert receive(harness, other, 3) == b"out"


def test_the_end_waits_for_everything_in_the_pipes(harness: Harness) -> None:
    client = harness.attach()
    data = os.urandom(60000)
    os.write(harness.stdout, data)
    harness.end_program()
    harness.drain()
    harness.run_until(lambda: harness.drained)
    assert harness.log.data == data
    assert harness.log.ended
    harness.finish()
    assert receive(harness, client, len(data)) == data
    is_at_end(harness, client)


def test_child_that_holds_stdout_delays_the_end_by_the_drain_time(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DRAIN_S", 0.1)
    os.write(harness.stdout, b"started\n")
    harness.drain()
    harness.run_until(lambda: harness.drained)
    assert harness.log.data == b"started\n"
    with pytest.raises(BrokenPipeError):
        os.write(harness.stdout, b"late")


def test_a_slow_client_gets_the_rest_after_the_end(harness: Harness) -> None:
    client = harness.attach()
    written = harness.flood()
    harness.end_program()
    harness.drain()
    harness.run_until(lambda: harness.drained)
    assert len(harness.log.data) == written
    harness.finish()
    assert not harness.finished
    assert len(receive(harness, client, written)) == written
    is_at_end(harness, client)
    harness.run_until(lambda: harness.finished)


def test_a_client_that_takes_nothing_is_dropped(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FLUSH_S", 0.1)
    harness.attach()
    harness.flood()
    harness.end_program()
    harness.drain()
    harness.run_until(lambda: harness.drained)
    harness.finish()
    harness.run_until(lambda: harness.finished)


@once
def test_unread_input_does_not_reset_the_client(harness: Harness) -> None:
    client = harness.attach(stdin=True)
    os.write(harness.stdout, b"result")
    harness.run_until(lambda: harness.log.data == b"result")
    harness.end_program()
    harness.drain()
    client.send(b"never read")
    harness.finish()
    assert receive(harness, client, 6) == b"result"
    is_at_end(harness, client)


def test_attach_after_the_end_gets_the_end(harness: Harness) -> None:
    harness.end_program()
    harness.drain()
    harness.run_until(lambda: harness.drained)
    waiting = harness.attach()
    harness.finish()
    is_at_end(harness, waiting)
    is_at_end(harness, harness.attach())
