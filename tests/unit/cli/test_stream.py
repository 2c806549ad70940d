"""Copying between descriptors and a container's stream, and the keys that detach."""

from __future__ import annotations

import os
import socket
import threading

from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.stream import Attachment, Demultiplexer, pump
from wherry.client.transport import Stream


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=8),
    st.integers(min_value=1, max_value=30),
)
def test_frames_come_apart_however_they_are_cut(frames: list[tuple[int, bytes]], size: int) -> None:
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        demultiplexer = Demultiplexer(out_write, err_write)
        data = b"".join(frame(*item) for item in frames)
        for at in range(0, len(data), size):
            demultiplexer.feed(data[at : at + size])
        os.close(out_write)
        os.close(err_write)
        assert os.read(out_read, 65536) == b"".join(data for stream, data in frames if stream == 1)
        assert os.read(err_read, 65536) == b"".join(data for stream, data in frames if stream == 2)
    finally:
        os.close(out_read)
        os.close(err_read)


class Descriptors:
    """Standard descriptors of this process replaced by pipes while a pump runs.

    Not a fixture: between a test's phases pytest takes descriptor 1 for itself again.
    """

    def __init__(self) -> None:
        self._saved = [os.dup(fd) for fd in range(3)]
        self.stdin_read, self.stdin = os.pipe()
        self.stdout, self.stdout_write = os.pipe()
        os.dup2(self.stdin_read, 0)
        os.dup2(self.stdout_write, 1)

    def __enter__(self) -> Descriptors:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd, saved in enumerate(self._saved):
            os.dup2(saved, fd)
            os.close(saved)
        for fd in (self.stdin_read, self.stdout, self.stdout_write):
            os.close(fd)


def test_output_goes_on_after_the_end_of_input() -> None:
    with Descriptors() as descriptors:
        ours, theirs = socket.socketpair()
        os.write(descriptors.stdin, b"question")
        os.close(descriptors.stdin)

        def container() -> None:
            received = b""
            while piece := theirs.recv(4096):
                received += piece
            theirs.sendall(frame(1, b"answer to " + received))
            theirs.close()

        thread = threading.Thread(target=container)
        thread.start()
        attachment = Attachment(stdin=True, stdout=True, stderr=True, tty=False)
        assert pump(Stream(ours, b"", is_tls=False), attachment) is False
        thread.join()
        ours.close()
        assert os.read(descriptors.stdout, 4096) == b"answer to question"


def test_much_input_and_output_at_once_do_not_block_each_other() -> None:
    with Descriptors() as descriptors:
        ours, theirs = socket.socketpair()
        total = 3_000_000
        received = bytearray()

        def container() -> None:
            # Reads nothing until it has written all: a client that only writes would hang.
            theirs.sendall(frame(1, b"x" * total))
            left = total
            while left:
                left -= len(theirs.recv(65536))
            theirs.close()

        def typist() -> None:
            view = memoryview(b"y" * total)
            while view:
                view = view[os.write(descriptors.stdin, view) :]
            os.close(descriptors.stdin)

        def reader() -> None:
            while len(received) < total:
                received.extend(os.read(descriptors.stdout, 65536))

        threads = [threading.Thread(target=target) for target in (container, typist, reader)]
        for thread in threads:
            thread.start()
        attachment = Attachment(stdin=True, stdout=True, stderr=True, tty=False)
        assert pump(Stream(ours, b"", is_tls=False), attachment) is False
        for thread in threads:
            thread.join()
        ours.close()
        assert len(received) == total


def test_the_keys_end_the_pump() -> None:
    with Descriptors() as descriptors:
        ours, theirs = socket.socketpair()
        os.write(descriptors.stdin, b"ls\x10\x11")
        attachment = Attachment(stdin=True, stdout=True, stderr=True, tty=True)
        assert pump(Stream(ours, b"early ", is_tls=False), attachment) is True
        ours.close()
        theirs.close()
        os.close(descriptors.stdin)
        assert os.read(descriptors.stdout, 4096) == b"early "
