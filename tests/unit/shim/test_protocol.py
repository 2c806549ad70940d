"""Messages between engine and shim: of any length, with any number of descriptors, or refused."""

from __future__ import annotations

import array
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.shim.protocol import (
    PROTOCOL_VERSION,
    Channel,
    Message,
    ProtocolError,
    connect_at,
    listen_at,
    open_pair,
)


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ends = tuple(Channel(end) for end in open_pair())
    yield ends
    for end in ends:
        end.close()


def exchange(sender: Channel, receiver: Channel) -> Message:
    poll = select.poll()
    poll.register(receiver.fileno(), select.POLLIN)
    while True:
        assert poll.poll(5000)
        sender.flush()
        message = receiver.receive()
        if message is not None:
            return message


@pytest.mark.parametrize("size", [0, 1000, 48 << 10, 200 << 10, 3 << 20])
def test_messages_of_any_length(pair: tuple[Channel, Channel], size: int) -> None:
    ours, theirs = pair
    ours.send({"text": "x" * size})
    assert exchange(ours, theirs).body == {"version": PROTOCOL_VERSION, "text": "x" * size}
    ours.send({"text": "y" * size})
    assert exchange(ours, theirs).body == {"text": "y" * size}


@pytest.mark.parametrize("count", [1, 239, 240, 241, 253, 600])
@pytest.mark.parametrize("size", [10, 300 << 10])
def test_any_number_of_descriptors(pair: tuple[Channel, Channel], count: int, size: int) -> None:
    ours, theirs = pair
    fds = [os.memfd_create(str(number)) for number in range(count)]
    for number, fd in enumerate(fds):
        os.pwrite(fd, str(number).encode(), 0)
    ours.send({"text": "x" * size}, fds)
    message = exchange(ours, theirs)
    assert len(message.fds) == count
    assert [int(os.pread(fd, 9, 0)) for fd in message.fds] == list(range(count))
    assert not any(os.get_inheritable(fd) for fd in message.fds)
    message.close()


def test_order_is_kept_while_the_peer_does_not_read(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    for number in range(3000):
        ours.send({"number": number, "text": "x" * 500}, [os.memfd_create("")])
    assert ours.blocked
    for number in range(3000):
        message = exchange(ours, theirs)
        assert message.body["number"] == number
        assert len(message.fds) == 1
        message.close()
    assert not ours.blocked


def test_a_peer_that_is_gone(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.send({"last": True})
    ours.send({"unread": True})
    theirs.close()
    message = ours.receive()
    assert message is not None
    assert message.body["last"] is True
    assert ours.receive() is None
    assert ours.closed
    ours.send({"lost": True}, [os.memfd_create("")])
    ours.close()


@pytest.mark.parametrize(
    "datagram", [b"J[]", b"J{", b"X{}", b"M", b'J{"version":999}', b'J{"no":"version"}']
)
def test_refused(datagram: bytes) -> None:
    raw, end = open_pair()
    channel = Channel(end)
    raw.send(datagram)
    with pytest.raises(ProtocolError):
        channel.receive()
    channel.close()
    raw.close()


def test_truncated_message_is_refused() -> None:
    raw, end = open_pair()
    channel = Channel(end)
    raw.send(b"J" + b" " * (100 << 10))
    with pytest.raises(ProtocolError, match="too long"):
        channel.receive()
    channel.close()
    raw.close()


def test_memfd_that_could_still_change_is_refused() -> None:
    raw, end = open_pair()
    channel = Channel(end)
    fd = os.memfd_create("", os.MFD_ALLOW_SEALING)
    os.write(fd, b'{"version":1}')
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    raw.sendmsg([b"M"], rights)
    os.close(fd)
    with pytest.raises(ProtocolError, match="not sealed"):
        channel.receive()
    channel.close()
    raw.close()


def test_sockets_in_folders_with_long_paths(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / ("y" * 120)
    folder.mkdir(parents=True)
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    listener = listen_at(folder_fd, "shim.sock")
    assert folder.joinpath("shim.sock").is_socket()
    connection = connect_at(folder_fd, "shim.sock")
    connection.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        connect_at(folder_fd, "shim.sock")
    os.unlink("shim.sock", dir_fd=folder_fd)
    with pytest.raises(FileNotFoundError):
        connect_at(folder_fd, "shim.sock")
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        listen_at(folder_fd, "shim.sock")
    os.close(folder_fd)
