"""The index of a context: what COPY selects, what its key is made of, what a tar may not do."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from wherry.build.ignore import compile_patterns
from wherry.engine.build.index import ContextIndex, Entry, NoSuchFile, digest_selections, read_index


def make_index(*paths: str) -> ContextIndex:
    return ContextIndex(
        Entry(path.rstrip("/"), "d" if path.endswith("/") else "f", 0o644, digest=path)
        for path in paths
    )


def selected(index: ContextIndex, source: str, *excludes: str) -> list[list[str]]:
    return [
        [selection.name, *(path for path, _ in selection.entries)]
        for selection in index.select("COPY", source, excludes)
    ]


def test_files_directories_and_wildcards() -> None:
    index = make_index("a.txt", "b.txt", "d/c.txt", "d/e/f.md")
    assert selected(index, "a.txt") == [["a.txt", ""]]
    assert selected(index, "./d/") == [["d", "", "c.txt", "e", "e/f.md"]]
    assert selected(index, "*.txt") == [["a.txt", ""], ["b.txt", ""]]
    assert selected(index, "d/*") == [["c.txt", ""], ["e", "", "f.md"]]
    assert selected(index, "nothing*") == []
    assert selected(index, "../../a.txt") == [["a.txt", ""]]


def test_excludes_are_relative_to_the_source() -> None:
    index = make_index("d/c.txt", "d/e/f.txt", "d/e/g.md")
    assert selected(index, "d", "*.txt") == [["d", "", "e", "e/f.txt", "e/g.md"]]
    assert selected(index, "d", "**/*.txt") == [["d", "", "e", "e/g.md"]]
    assert selected(index, "d", "e", "!e/g.md") == [["d", "", "c.txt", "e/g.md"]]


def test_links_are_followed_inside_only() -> None:
    index = ContextIndex(
        [
            Entry("d/file", "f", 0o644),
            Entry("to-file", "l", 0o777, link="d/file"),
            Entry("to-folder", "l", 0o777, link="/d"),
            Entry("out", "l", 0o777, link="../../../etc/passwd"),
            Entry("loop", "l", 0o777, link="loop"),
        ]
    )
    assert selected(index, "to-file") == [["to-file", ""]]
    assert selected(index, "to-folder") == [["to-folder", "", "file"]]
    for gone in ("out", "loop"):
        with pytest.raises(NoSuchFile):
            index.select("COPY", gone)


def test_a_missing_file_names_the_near_one() -> None:
    with pytest.raises(NoSuchFile, match=r"stat pakage.json: .*\(did you mean package.json\?\)"):
        make_index("package.json").select("COPY", "pakage.json")


def test_the_digest_knows_content_and_mode_but_no_time_or_owner() -> None:
    def digest(entry: Entry) -> str:
        return digest_selections(ContextIndex([entry]).select("COPY", "/"))

    entry = Entry("a", "f", 0o644, digest="1")
    assert digest(entry) == digest(replace(entry, mtime_ns=5, uid=7, gid=8, offset=9))
    others = replace(entry, digest="2"), replace(entry, mode=0o600), replace(entry, path="b")
    assert len({*map(digest, (entry, *others))}) == 4


def test_patterns_take_entries_out() -> None:
    index = make_index("a", "d/b", "d/c").without(compile_patterns(("d", "!d/c")))
    assert sorted(path for path in index.entries if path) == ["a", "d", "d/c"]


def write_tar(path: Path, mode: str, cut: int = 0) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name in ("./a", "d/b", "../evil", "/abs"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("hard")
        link.type, link.linkname = tarfile.LNKTYPE, "d/b"
        tar.addfile(link)
    path.write_bytes(buffer.getvalue()[: -cut or None])
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archives_of_every_compression(tmp_path: Path, mode: str) -> None:
    entries, is_plain = read_index(write_tar(tmp_path / "body", mode), tmp_path / "plain")
    assert [entry.path for entry in entries] == ["a", "d/b", "evil", "abs", "hard"]
    assert is_plain is (mode == "w")
    source = tmp_path / ("body" if is_plain else "plain")
    assert {source.read_bytes()[entry.offset :][:3] for entry in entries} == {b"abc"}


def test_an_archive_without_its_end_as_the_official_client_sends_it(tmp_path: Path) -> None:
    body = tmp_path / "body"
    with body.open("wb") as file:
        info = tarfile.TarInfo("last")
        info.size = 3
        file.write(info.tobuf() + b"abc")
    assert [entry.path for entry in read_index(body, tmp_path / "plain")[0]] == ["last"]
