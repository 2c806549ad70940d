"""Reading a log: tail, spans of time, torn records, and following through rotation."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.logs.codec import LineFramer, LogEntry
from wherry.logs.reader import LogReader, render_entry
from wherry.logs.writer import LogWriter, compress_file

SECOND = 1_000_000_000
RECORD_SIZE = len(LineFramer("stdout").frame(b"1000\n", SECOND))


class Log:
    """A log under test: line N is written at second N."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.path = folder / "c-json.log"
        self._writer = LogWriter(str(self.path), warn=pytest.fail, **options)
        self._framer = LineFramer("stdout")
        self._count = 0

    def write(self, lines: int) -> None:
        for _ in range(lines):
            self._count += 1
            self._writer.write(self._framer.frame(b"%d\n" % self._count, self._count * SECOND))
            self._writer.compressing = False

    def reader(self, **options: object) -> LogReader:
        return LogReader(str(self.path), **options)

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with closing(Log(tmp_path)) as made:
        yield made


def numbers(entries: list[LogEntry]) -> list[int]:
    return [int(entry.line) for entry in entries]


def read_all(reader: LogReader, limit: int = 7) -> list[int]:
    found: list[int] = []
    while entries := reader.read(limit):
        assert len(entries) <= limit
        found += numbers(entries)
    return found


def wait_for_more(reader: LogReader) -> None:
    poll = select.poll()
    poll.register(reader.fileno(), select.POLLIN)
    assert poll.poll(5000), "no event"


def test_missing_log_is_empty(tmp_path: Path) -> None:
    with LogReader(str(tmp_path / "none")) as reader:
        assert reader.read() == []


@pytest.mark.parametrize("tail", [0, 1, 3, 49, 50, 51, 1000, None])
@pytest.mark.parametrize("torn", [b"", b'{"log":"tor'])
def test_tail(log: Log, tail: int | None, torn: bytes) -> None:
    log.write(50)
    with log.path.open("ab") as file:
        file.write(torn)
    with log.reader(tail=tail) as reader:
        first = 1 if tail is None else max(1, 51 - tail)
        assert read_all(reader) == list(range(first, 51))


@settings(max_examples=30)
@given(
    lines=st.integers(0, 60),
    tail=st.one_of(st.none(), st.integers(0, 80)),
    records_a_file=st.integers(1, 20),
    compress=st.booleans(),
)
def test_rotated_logs_read_as_one(
    tmp_path_factory: pytest.TempPathFactory,
    lines: int,
    tail: int | None,
    records_a_file: int,
    compress: bool,
) -> None:
    made = Log(
        tmp_path_factory.mktemp("log"),
        max_size=RECORD_SIZE * records_a_file,
        max_file=100,
        compress=compress_file if compress else None,
    )
    with closing(made) as log:
        log.write(lines)
        with log.reader(tail=tail) as reader:
            first = 1 if tail is None else max(1, lines + 1 - tail)
            assert read_all(reader) == list(range(first, lines + 1))


def test_since_and_until(log: Log) -> None:
    log.write(20)
    with log.reader(since_ns=5 * SECOND, until_ns=9 * SECOND) as reader:
        assert read_all(reader) == [5, 6, 7, 8, 9]
        assert reader.done


def test_tail_counts_before_since(log: Log) -> None:
    log.write(20)
    with log.reader(tail=5, since_ns=18 * SECOND) as reader:
        assert read_all(reader) == [18, 19, 20]
    with log.reader(tail=2, since_ns=5 * SECOND) as reader:
        assert read_all(reader) == [19, 20]


def test_unreadable_records_are_skipped(log: Log) -> None:
    log.write(2)
    with log.path.open("ab") as file:
        file.write(b"\0\0\0\n{torn\n\n")
    log.write(2)
    with log.reader() as reader:
        assert read_all(reader) == [1, 2, 3, 4]


def test_follow_waits_for_the_newline(log: Log) -> None:
    log.write(1)
    with log.reader(follow=True) as reader:
        assert read_all(reader) == [1]
        record = LineFramer("stdout").frame(b"2\n", SECOND)
        with log.path.open("ab") as file:
            file.write(record[:9])
        wait_for_more(reader)
        assert read_all(reader) == []
        with log.path.open("ab") as file:
            file.write(record[9:])
        wait_for_more(reader)
        assert read_all(reader) == [2]


def test_follow_from_before_the_log_exists(tmp_path: Path) -> None:
    with LogReader(str(tmp_path / "c-json.log"), follow=True) as reader:
        assert reader.read() == []
        with closing(Log(tmp_path)) as log:
            log.write(3)
        wait_for_more(reader)
        assert read_all(reader) == [1, 2, 3]


@pytest.mark.parametrize("compress", [None, compress_file])
@pytest.mark.parametrize("burst", [1, 3, 8, 20])
def test_follow_through_rotations(tmp_path: Path, burst: int, compress: object) -> None:
    with closing(Log(tmp_path, max_size=RECORD_SIZE * 3, max_file=50, compress=compress)) as log:
        log.write(2)
        with log.reader(follow=True) as reader:
            found = read_all(reader)
            for _ in range(6):
                log.write(burst)
                wait_for_more(reader)
                found += read_all(reader)
            assert found == list(range(1, 3 + 6 * burst))


def test_follow_a_log_of_one_file_that_is_emptied(tmp_path: Path) -> None:
    with (
        closing(Log(tmp_path, max_size=RECORD_SIZE * 3, max_file=1)) as log,
        log.reader(follow=True) as reader,
    ):
        found = []
        for _ in range(10):
            log.write(1)
            wait_for_more(reader)
            found += read_all(reader)
        assert found == list(range(1, 11))


def test_lines_that_rotation_has_dropped_are_lost_and_no_more(tmp_path: Path) -> None:
    with closing(Log(tmp_path, max_size=RECORD_SIZE * 3, max_file=2)) as log:
        log.write(1)
        with log.reader(follow=True) as reader:
            assert read_all(reader) == [1]
            log.write(30)
            found = read_all(reader)
            assert found[-1] == 31
            assert found == sorted(set(found))


def test_render() -> None:
    entry = LogEntry(
        line=b"x\n", stream="stdout", time_ns=SECOND // 2, attributes={"foo": 'b"a r', "bar": "é/"}
    )
    assert render_entry(entry) == b"x\n"
    assert render_entry(entry, timestamps=True) == b"1970-01-01T00:00:00.500000000Z x\n"
    assert render_entry(entry, timestamps=True, details=True) == (
        b"1970-01-01T00:00:00.500000000Z bar=%C3%A9%2F,foo=b%22a+r x\n"
    )
