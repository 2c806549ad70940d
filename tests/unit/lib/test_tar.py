"""The tar reader and writer, against Python's own and against each other."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.lib.tar.reader import (
    DIRECTORY,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    TarError,
    TarReader,
    parse_number,
    parse_pax,
    parse_pax_time,
)
from wherry.lib.tar.writer import TarWriter


def read_all(data: bytes, step: int = 1 << 18) -> list[tuple[object, ...]]:
    source = io.BytesIO(data)
    reader = TarReader(lambda count: source.read(min(count, step)))
    found = []
    for entry in reader:
        content = b"".join(reader.data())
        found.append(
            (
                entry.type,
                entry.path,
                entry.mode,
                entry.uid,
                entry.gid,
                entry.mtime_ns,
                entry.link,
                content,
                entry.xattrs,
            )
        )
    return found


names = st.binary(min_size=1, max_size=300).map(
    lambda raw: raw.replace(b"\0", b"x").strip(b"/") or b"y"
)
numbers = st.one_of(st.integers(0, 1000), st.integers(0, (1 << 32) - 1))
members = st.tuples(
    names,
    st.integers(0, 0o7777),
    numbers,
    numbers,
    st.integers(-(10**18), 10**19),
    st.binary(max_size=2000),
    st.dictionaries(st.sampled_from([b"user.a", b"security.capability"]), st.binary(max_size=100)),
)


@settings(max_examples=100)
@given(st.lists(members, max_size=5), st.integers(1, 5000))
def test_what_is_written_is_read(items: list[tuple[object, ...]], step: int) -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for path, mode, uid, gid, mtime_ns, content, xattrs in items:
        writer.member(
            path, mode=mode, uid=uid, gid=gid, mtime_ns=mtime_ns, size=len(content), xattrs=xattrs
        )  # type: ignore[arg-type]
        writer.data([content])  # type: ignore[list-item]
    writer.close()
    expected = [
        (REGULAR, path, mode, uid, gid, mtime_ns, b"", content, xattrs)
        for path, mode, uid, gid, mtime_ns, content, xattrs in items
    ]
    assert read_all(out.getvalue(), step) == expected


@settings(max_examples=100)
@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_all(data)
    except TarError:
        pass


@settings(max_examples=60)
@given(st.integers(0, 2500), st.integers(0, 255), st.integers(1, 700))
def test_a_damaged_archive_is_read_or_refused(at: int, value: int, step: int) -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    writer.member(b"a" * 200, size=600, xattrs={b"user.a": b"b"})
    writer.data([b"x" * 600])
    writer.close()
    data = bytearray(out.getvalue())
    data[at % len(data)] = value
    try:
        read_all(bytes(data), step)
    except TarError:
        pass


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pythons_archives(format_: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as tar:
        for name, kind, link in (
            ("dir/" + "n" * 90, tarfile.REGTYPE, ""),
            ("d", tarfile.DIRTYPE, ""),
            ("s", tarfile.SYMTYPE, "t" * 99),
            ("h", tarfile.LNKTYPE, "d/x"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mtime, info.uid = kind, link, 7, 5
            tar.addfile(info)
    kinds = [(entry[0], entry[5], entry[3]) for entry in read_all(out.getvalue())]
    assert kinds == [(kind, 7 * 10**9, 5) for kind in (REGULAR, DIRECTORY, SYMLINK, HARD_LINK)]


def test_pythons_reader_reads_ours() -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    writer.member(b"d", kind=DIRECTORY, mode=0o755)
    writer.file("é/".encode() + b"n" * 150, b"content", mtime_ns=1_500_000_000)
    writer.member(b"s", kind=SYMLINK, link=b"t" * 200)
    writer.member(b"big", uid=1 << 22, gid=1 << 31)
    writer.close()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        names = {member.name: member for member in tar}
        assert tar.extractfile("é/" + "n" * 150).read() == b"content"  # type: ignore[union-attr]
    assert names["é/" + "n" * 150].mtime == 1.5
    assert names["s"].linkname == "t" * 200
    assert (names["big"].uid, names["big"].gid) == (1 << 22, 1 << 31)


def test_a_file_that_shrinks_while_it_is_archived_is_filled() -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    writer.member(b"a", size=10)
    writer.data([b"abc"])
    writer.file(b"b", b"next")
    writer.close()
    assert [entry[7] for entry in read_all(out.getvalue())] == [b"abc" + bytes(7), b"next"]
    with pytest.raises(ValueError, match="more data"):
        TarWriter(out.write).data([b"x"])


@pytest.mark.parametrize(
    ("field", "number"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (b"\0" * 8, 0),
        (b"\x80\0\0\0\0\0\x01\0", 256),
        (b"\xff" * 8, -1),
    ],
)
def test_numbers(field: bytes, number: int) -> None:
    assert parse_number(field) == number


def test_bad_numbers_records_and_times() -> None:
    with pytest.raises(TarError):
        parse_number(b"12x4567\0")
    for record in (b"5 a=b", b"99 path=x\n", b"x path=y\n", b"7 path\n", b"-5 a=b\n"):
        with pytest.raises(TarError):
            parse_pax(record)
    assert parse_pax(b"6 a=b\n7 c=d=\n") == [(b"a", b"b"), (b"c", b"d=")]
    assert parse_pax_time(b"1.5") == 1_500_000_000
    assert parse_pax_time(b"-1.5") == -1_500_000_000
    with pytest.raises(TarError):
        parse_pax_time(b"soon")
