"""The thread beside a worker's stream ends before what it writes to is closed."""

from __future__ import annotations

import threading

import pytest

from wherry.image.layer.streams import Beside, Digester


def test_all_is_consumed_when_the_block_is_left() -> None:
    seen: list[bytes] = []
    with Beside(seen.append) as beside:
        for number in range(100):
            beside.put(b"%d" % number)
    assert b"".join(seen) == b"".join(b"%d" % number for number in range(100))


def _fail_in(context: Beside | Digester) -> None:
    with context:
        raise ValueError("damaged")


def test_no_thread_outlives_an_error() -> None:
    before = threading.enumerate()
    beside, digester = Beside(lambda _: None), Digester(lambda _: b"x")
    beside.put(b"piece")
    digester.read(1)
    for context in (beside, digester):
        with pytest.raises(ValueError, match="damaged"):
            _fail_in(context)
    assert threading.enumerate() == before


def test_what_the_consumer_raises_is_raised_at_the_end() -> None:
    def fail(piece: bytes) -> None:
        raise OSError(28, f"no space for {piece!r}")

    with pytest.raises(OSError, match="no space"), Beside(fail) as beside:
        beside.put(b"piece")
