"""DNS messages: what containers ask and are answered, and what nobody should ask."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.network import dns


def ask(name: str, kind: int = dns.A, *, flags: int = 0x0100, group: int = dns.IN) -> bytes:
    head = struct.pack(">HHHHHH", 0x1234, flags, 1, 0, 0, 0)
    return head + dns.encode_name(name) + struct.pack(">HH", kind, group)


def test_a_question_is_read_in_lower_case() -> None:
    question = dns.parse_question(ask("Web.Net1"))
    assert (question.identity, question.name, question.kind) == (0x1234, "web.net1", dns.A)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0" * 11,
        ask("web")[:-1],
        ask("web")[:14],
        ask("web", flags=0x8000),  # an answer
        ask("web", flags=0x2800),  # an update
        ask("web", group=3),  # not of the internet
        ask("web")[:4] + b"\0\2" + ask("web")[6:],  # two questions
        ask("web")[:12] + b"\xc0\x0c\0\1\0\1",  # a pointer to itself
    ],
)
def test_what_is_no_question(message: bytes) -> None:
    with pytest.raises(dns.MessageError):
        dns.parse_question(message)


@given(st.binary(max_size=600))
def test_any_bytes_are_a_question_or_none(message: bytes) -> None:
    try:
        question = dns.parse_question(message)
    except dns.MessageError:
        return
    assert question.section in message


def test_an_answer_repeats_the_question_and_its_identity() -> None:
    question = dns.parse_question(ask("Web"))
    answer = dns.build_answer(question, [bytes([10, 0, 0, 1])])
    assert struct.unpack(">HHHHHH", answer[:12]) == (0x1234, 0x8180, 1, 1, 0, 0)
    assert answer[12:].startswith(dns.encode_name("Web"))
    assert answer.endswith(b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", dns.TTL_S, 4) + b"\x0a\0\0\1")
    assert dns.is_answer_to(question, answer)
    assert not dns.is_failure(answer)


def test_an_answer_that_does_not_fit_says_so() -> None:
    question = dns.parse_question(ask("web"))
    answer = dns.build_answer(question, [bytes(4)] * 100, limit=dns.DATAGRAM_BYTES)
    _, flags, _, count, _, _ = struct.unpack(">HHHHHH", answer[:12])
    assert flags & 0x0200
    assert 0 < count < 100
    assert len(answer) <= dns.DATAGRAM_BYTES
    assert len(dns.build_answer(question, [bytes(4)] * 100)) > dns.DATAGRAM_BYTES


def test_a_refusal_is_a_failure_of_this_question() -> None:
    question = dns.parse_question(ask("web"))
    refusal = dns.build_refusal(question, dns.SERVER_FAILURE)
    assert dns.is_answer_to(question, refusal)
    assert dns.is_failure(refusal)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("2.0.18.172.in-addr.arpa", "172.18.0.2"),
        ("2.0.18.in-addr.arpa", ""),
        ("x.0.18.172.in-addr.arpa", ""),
        ("172.18.0.2", ""),
        ("in-addr.arpa", ""),
    ],
)
def test_reverse_names(name: str, address: str) -> None:
    assert dns.parse_reverse(name) == address


def test_a_name_may_end_in_its_network() -> None:
    assert list(dns.split_network("a.b.c")) == [("a.b.c", ""), ("a.b", "c"), ("a", "b.c")]
