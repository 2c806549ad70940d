"""The json-file codec: dockerd's bytes, whatever the program writes and however it is read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.logs.codec import (
    PARTIAL_SIZE,
    LineFramer,
    decode_record,
    escape,
    format_time,
    parse_time,
)

TIME_NS = 1_767_225_600_123_456_780
TIME = "2026-01-01T00:00:00.12345678Z"


def expected_log(line: bytes) -> str:
    """What Go's decoder makes of a line: one U+FFFD for each byte that is not valid UTF-8."""
    text = line.decode("utf-8", "surrogateescape")
    return "".join("\ufffd" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in text)


def split_as_docker(output: bytes) -> list[bytes]:
    """The lines of an output, cut every 16 KiB; the reference in its plainest form."""
    records = []
    for line in output.splitlines(keepends=True) if b"\r" not in output else split_lines(output):
        body = line
        while len(body.rstrip(b"\n")) >= PARTIAL_SIZE:
            records.append(body[:PARTIAL_SIZE])
            body = body[PARTIAL_SIZE:]
        if body:
            records.append(body)
    return records


def split_lines(output: bytes) -> list[bytes]:
    pieces = output.split(b"\n")
    lines = [piece + b"\n" for piece in pieces[:-1]]
    return [*lines, pieces[-1]] if pieces[-1] else lines


def frame_all(output: bytes, cuts: list[int]) -> list[bytes]:
    framer = LineFramer("stdout")
    framed = b""
    start = 0
    for cut in sorted(cuts):
        end = min(len(output), max(start, cut))
        framed += framer.frame(output[start:end], TIME_NS)
        start = end
    framed += framer.frame(output[start:], TIME_NS) + framer.finish(TIME_NS)
    assert framed == b"" or framed.endswith(b"\n")
    return framed.split(b"\n")[:-1]


nasty_bytes = st.lists(
    st.sampled_from(
        [b"a", b"\n", b"\r", b"\t", b"\0", b"\x1b[0m", b"\x7f", b'"', b"\\", b"<&>", b"\xe2\x82",
         b"\xff", "€".encode(), "\u2028\u2029".encode(), b"\xed\xa0\x80", "😀".encode(), "\ufffd".encode()]
    ),
    max_size=40,
).map(b"".join)  # fmt: skip


@given(st.one_of(nasty_bytes, st.binary(max_size=300)), st.lists(st.integers(0, 300), max_size=5))
def test_records_hold_what_was_written(output: bytes, cuts: list[int]) -> None:
    records = [json.loads(record) for record in frame_all(output, cuts)]
    assert [record["log"] for record in records] == [
        expected_log(line) for line in split_lines(output)
    ]
    assert all(record["stream"] == "stdout" and record["time"] == TIME for record in records)


@given(
    st.lists(
        st.tuples(st.integers(0, 2 * PARTIAL_SIZE + 3), st.sampled_from([b"", b"\n"])), max_size=5
    ),
    st.lists(st.integers(0, 8 * PARTIAL_SIZE), max_size=6),
)
def test_long_lines_are_cut_every_16_kib(pieces: list[tuple[int, bytes]], cuts: list[int]) -> None:
    output = b"".join(b"x" * size + end for size, end in pieces)
    records = [json.loads(record)["log"].encode() for record in frame_all(output, cuts)]
    assert records == split_as_docker(output)


@given(nasty_bytes)
def test_escape_is_idempotent_in_length_of_lines(data: bytes) -> None:
    assert escape(data).count(b"\n") == data.count(b"\n")


def test_bytes_are_those_of_dockerd() -> None:
    framer = LineFramer("stderr", {"tag": "wl1", "foo": 'b"a<r'})
    assert framer.frame(b'<&>"\\\t\r\x1b[0m\x7f\0nul\n', TIME_NS) == (
        b'{"log":"\\u003c\\u0026\\u003e\\"\\\\\\u0009\\r\\u001b[0m\x7f\\u0000nul\\n","stream":"stderr",'
        b'"attrs":{"foo":"b\\"a\\u003cr","tag":"wl1"},"time":"' + TIME.encode() + b'"}\n'
    )
    line = b"\xe2\x82 bad \xff\xfe \xed\xa0\x80 ok \xe2\x82\xac \xe2\x80\xa8"
    assert escape(line) == (
        rb"\ufffd\ufffd bad \ufffd\ufffd \ufffd\ufffd\ufffd ok " + "€".encode() + rb" \u2028"
    )


def test_nothing_waits_but_an_unfinished_line() -> None:
    framer = LineFramer("stdout")
    assert framer.frame(b"one\ntwo\nthr", TIME_NS).count(b"\n") == 2
    assert json.loads(framer.frame(b"ee\n", TIME_NS))["log"] == "three\n"
    assert framer.finish(TIME_NS) == b""


def test_output_without_newline_is_held_back_below_16_kib() -> None:
    framer = LineFramer("stdout")
    framed = sum(len(framer.frame(b"x" * 65536, TIME_NS)) for _ in range(64))
    assert framed >= 64 * 65536
    assert framer.finish(TIME_NS) == b""


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("1969-12-31T23:00:00-01:00", 0),
        ("2026-01-01T00:00:00.123456789123Z", 1_767_225_600_123_456_789),
        ("yesterday", None),
        ("", None),
    ],
)
def test_parse_time(text: str, time_ns: int | None) -> None:
    assert parse_time(text) == time_ns


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_times_round_trip(time_ns: int) -> None:
    assert parse_time(format_time(time_ns)) == time_ns
    record = LineFramer("stdout").frame(b"x\n", time_ns)
    entry = decode_record(record)
    assert entry is not None
    assert entry.time_ns == time_ns


@pytest.mark.parametrize(
    "record", [b"", b"{", b"\0\0\0", b"[]", b'{"log":1,"stream":"stdout","time":"x"}', b"\xff",
               b'{"log":"x","stream":"stdout","time":"not a time"}']
)  # fmt: skip
def test_torn_and_foreign_records_are_none(record: bytes) -> None:
    assert decode_record(record) is None
