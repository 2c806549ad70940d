"""WebSocket frames (RFC 6455)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.api.websocket import (
    Demultiplexer,
    FrameError,
    FrameReader,
    build_accept,
    build_frame,
    unmask,
)


def build_client_frame(payload: bytes, opcode: int = 2, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    frame = bytearray(build_frame(opcode, payload))
    header = len(frame) - len(payload)
    frame[1] |= 0x80
    return bytes(frame[:header]) + mask + unmask(payload, mask)


def test_accept_of_the_rfc() -> None:
    assert build_accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.lists(st.binary(max_size=70_000), max_size=4), st.integers(1, 5000))
def test_frames_are_read_however_they_arrive(payloads: list[bytes], step: int) -> None:
    stream = b"".join(build_client_frame(payload) for payload in payloads)
    reader = FrameReader()
    got = []
    for start in range(0, len(stream), step):
        got += reader.feed(stream[start : start + step])
    assert got == [(2, payload) for payload in payloads]


@pytest.mark.parametrize(
    "data", [build_frame(2, b"not masked"), b"\x82\xff" + (1 << 40).to_bytes(8, "big")]
)
def test_bad_frames_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(data)


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_headers_of_a_multiplexed_stream_are_taken_out(payloads: list[bytes], step: int) -> None:
    stream = b"".join(b"\x01\0\0\0" + len(data).to_bytes(4, "big") + data for data in payloads)
    demultiplexer = Demultiplexer()
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    assert b"".join(demultiplexer.feed(piece) for piece in pieces) == b"".join(payloads)
