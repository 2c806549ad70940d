"""Connections that nobody reads: a half-close is no hang-up."""

import asyncio
import os
import socket

from wherry.engine.streams import ClientStream, HangupWatch


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_only_a_peer_that_is_gone_both_ways_counts() -> None:
    async def story() -> list[str]:
        seen: list[str] = []
        watch = HangupWatch()
        ours, theirs = socket.socketpair()
        watch.watch(theirs.fileno(), lambda: seen.append("gone"))
        ours.send(b"typed ahead")
        ours.shutdown(socket.SHUT_WR)
        await settle()
        assert seen == []
        ours.close()
        await settle()
        theirs.close()
        watch.close()
        return seen

    assert asyncio.run(story()) == ["gone"]


def test_what_was_given_away_is_not_watched() -> None:
    async def story() -> list[str]:
        seen: list[str] = []
        watch = HangupWatch()
        ours, theirs = socket.socketpair()
        watch.watch(theirs.fileno(), lambda: seen.append("gone"))
        watch.forget(theirs.fileno())
        watch.forget(theirs.fileno())
        ours.close()
        await settle()
        theirs.close()
        watch.close()
        return seen

    assert asyncio.run(story()) == []


def test_a_stream_is_closed_once() -> None:
    reader, writer = os.pipe()
    stream = ClientStream(writer)
    stream.close()
    stream.close()
    assert os.read(reader, 1) == b""
    os.close(reader)
