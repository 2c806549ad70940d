"""Detach keys: Docker's grammar, and finding them in whatever pieces they are typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.lib.detach import DetachScanner, InvalidDetachKeys, parse_detach_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a,a", b"\x01a"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("e", b"e"),
        ("DEL,x", b"\x7fx"),
    ],
)
def test_grammar(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-A", "ctrl-", "shift-a", "ab", ",", "é", "ctrl-p,,a"])
def test_unknown_keys(text: str) -> None:
    with pytest.raises(InvalidDetachKeys, match="Unknown character: '"):
        parse_detach_keys(text)


def feed_all(scanner: DetachScanner, pieces: list[bytes]) -> tuple[bytes, bool]:
    passed = b""
    for piece in pieces:
        data, detached = scanner.feed(piece)
        passed += data
        if detached:
            return passed, True
    return passed, False


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"hello"], b"hello", False),
        ([b"\x10\x11"], b"", True),
        ([b"\x10", b"\x11"], b"", True),
        ([b"a\x10\x11b"], b"a", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x10\x10x"], b"\x10\x10x", False),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_only_what_may_be_the_keys_is_held_back(
    typed: list[bytes], passed: bytes, *, detached: bool
) -> None:
    assert feed_all(DetachScanner(b"\x10\x11"), typed) == (passed, detached)


@given(st.lists(st.binary(max_size=4).map(lambda data: data.translate(b"abc" + bytes(253)))))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    keys = b"aab"
    whole = b"".join(pieces)
    passed, detached = feed_all(DetachScanner(keys), pieces)
    assert detached == (keys in whole)
    if detached:
        assert passed == whole[: whole.index(keys)]
    else:
        assert whole.startswith(passed)
        held = whole[len(passed) :]
        assert len(held) < len(keys)
        assert keys.startswith(held)


def test_a_broken_sequence_may_begin_it_anew() -> None:
    assert feed_all(DetachScanner(b"\x10\x11"), [b"a\x10", b"\x10", b"\x11b"]) == (b"a\x10", True)


def test_no_keys() -> None:
    assert feed_all(DetachScanner(b""), [b"\x10\x11"]) == (b"\x10\x11", False)
