"""Tar streams of cp and build: what is packed, and what a hostile archive cannot do."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.cli.archive import pack, unpack
from wherry.cli.container.cp import plan, split_argument, split_entry
from wherry.cli.errors import CommandFailed
from wherry.cli.image.build_context import open_context


def entries(chunks: Iterator[bytes]) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        return {info.name: info for info in archive}


def make_tree(folder: Path) -> None:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_bytes(b"content")
    (folder / "sub" / "file").chmod(0o640)
    (folder / "link").symlink_to("sub/file")
    os.link(folder / "sub" / "file", folder / "twin")
    os.mkfifo(folder / "pipe")


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    make_tree(tmp_path / "a")
    target = tmp_path / "b"
    target.mkdir()
    unpack(pack(str(tmp_path / "a"), "a"), str(target))
    copy = target / "a"
    assert (copy / "sub" / "file").read_bytes() == b"content"
    assert stat.S_IMODE((copy / "sub" / "file").stat().st_mode) == 0o640
    assert (copy / "link").readlink() == Path("sub/file")
    assert (copy / "twin").stat().st_ino == (copy / "sub" / "file").stat().st_ino
    assert stat.S_ISFIFO((copy / "pipe").stat().st_mode)


def test_the_top_can_have_another_name(tmp_path: Path) -> None:
    make_tree(tmp_path / "a")
    unpack(pack(str(tmp_path / "a"), "a"), str(tmp_path), rename=("a", "c"))
    assert (tmp_path / "c" / "sub" / "file").read_bytes() == b"content"
    assert (tmp_path / "c" / "twin").stat().st_nlink == 2


def test_a_file_that_shrinks_is_padded(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 1000)
    stream = pack(str(path), "f")
    head = next(stream)
    path.write_bytes(b"")
    assert len(b"".join([head, *stream])) % 512 == 0


def hostile(*infos: tuple[str, bytes, str]) -> Iterator[bytes]:
    """An archive of (name, type, link or content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, text in infos:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                archive.addfile(info)
    yield buffer.getvalue()


@pytest.mark.parametrize(
    "infos",
    [
        [("../escaped", tarfile.REGTYPE, "x")],
        [("a/../../escaped", tarfile.REGTYPE, "x")],
        [("link", tarfile.SYMTYPE, ".."), ("link/escaped", tarfile.REGTYPE, "x")],
        [("link", tarfile.SYMTYPE, "{outside}"), ("link/escaped", tarfile.REGTYPE, "x")],
        [("hard", tarfile.LNKTYPE, "../secret"), ("hard", tarfile.REGTYPE, "x")],
        [
            ("d", tarfile.SYMTYPE, ".."),
            ("d", tarfile.DIRTYPE, ""),
            ("d/../escaped", tarfile.REGTYPE, "x"),
        ],
    ],
    ids=[
        "dotdot",
        "inner dotdot",
        "relative link",
        "absolute link",
        "hard link",
        "folder over link",
    ],
)
def test_no_entry_leaves_the_target(tmp_path: Path, infos: list[tuple[str, bytes, str]]) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "secret").write_text("keep")
    archive = hostile(*((name, kind, text.format(outside=tmp_path)) for name, kind, text in infos))
    with pytest.raises((CommandFailed, OSError)):
        unpack(archive, str(target))
    assert not (tmp_path / "escaped").exists()
    assert (tmp_path / "secret").read_text() == "keep"


def test_an_absolute_name_lands_inside(tmp_path: Path) -> None:
    unpack(hostile(("/etc/x", tarfile.REGTYPE, "y")), str(tmp_path))
    assert (tmp_path / "etc" / "x").read_text() == "y"


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("c:/x", ("c", "/x")),
        ("/x:y", ("", "/x:y")),
        ("./x:y", ("", "./x:y")),
        ("x", ("", "x")),
        ("c:", ("c", "")),
        ("-", ("", "-")),
    ],
)
def test_arguments_of_cp(argument: str, parts: tuple[str, str]) -> None:
    assert split_argument(argument) == parts


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/a/b", ("/a", "b")),
        ("/a/b/", ("/a", "b")),
        ("/a/b/.", ("/a/b", ".")),
        ("/", ("/", "/")),
    ],
)
def test_entries(path: str, parts: tuple[str, str]) -> None:
    assert split_entry(path) == parts


@pytest.mark.parametrize(
    ("source", "source_folder", "target", "exists", "target_folder", "expected"),
    [
        ("/s/f", False, "/t", True, True, ("/t", None)),
        ("/s/f", False, "/t/g", True, False, ("/t", ("f", "g"))),
        ("/s/f", False, "/t/g", False, False, ("/t", ("f", "g"))),
        ("/s/d", True, "/t", True, True, ("/t", None)),
        ("/s/d", True, "/t/new", False, False, ("/t", ("d", "new"))),
        ("/s/d/.", True, "/t/new", False, False, ("/t", (".", "new"))),
        ("/s/d", True, "/t/new/", False, False, ("/t", ("d", "new"))),
    ],
)
def test_where_a_copy_goes(
    source: str,
    target: str,
    expected: object,
    *,
    source_folder: bool,
    exists: bool,
    target_folder: bool,
) -> None:
    assert (
        plan(
            source=source,
            source_is_folder=source_folder,
            target=target,
            exists=exists,
            target_is_folder=target_folder,
        )
        == expected
    )


def test_copies_that_make_no_sense() -> None:
    with pytest.raises(CommandFailed, match="cannot copy directory"):
        plan(source="/d", source_is_folder=True, target="/f", exists=True, target_is_folder=False)
    with pytest.raises(CommandFailed, match="no such directory"):
        plan(
            source="/f", source_is_folder=False, target="/n/", exists=False, target_is_folder=False
        )


def test_a_build_context_leaves_out_what_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "a").write_text("a")
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "b").write_text("b")
    (tmp_path / "drop" / "back").write_text("c")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / ".dockerignore").write_text("drop\n!drop/back\nDockerfile\n")
    context = open_context(str(tmp_path), "", [])
    names = set(entries(context.stream()))
    assert names == {"keep", "keep/a", "drop/back", "Dockerfile", ".dockerignore"}
    assert context.dockerfile == "Dockerfile"


def test_a_dockerfile_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "Other").write_text("FROM scratch\n")
    context = open_context(str(tmp_path / "context"), str(tmp_path / "Other"), [])
    assert context.dockerfile == ""
    assert context.dockerfile_text == "RlJPTSBzY3JhdGNoCg=="


def test_named_contexts_travel_along(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "f").write_text("x")
    context = open_context(
        str(tmp_path / "context"), "", [f"o={tmp_path}/other", "b=docker-image://busybox"]
    )
    assert context.named == {"o": "local", "b": "docker-image://busybox"}
    assert set(entries(context.stream())) == {".wherry-contexts/o/f", "Dockerfile"}


@pytest.mark.parametrize(
    ("source", "dockerfile", "sentence"),
    [
        ("/nope", "", 'unable to prepare context: path "/nope" not found'),
        (
            "{folder}",
            "",
            (
                "unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
                "lstat {folder}/Dockerfile: no such file or directory"
            ),
        ),
    ],
)
def test_contexts_that_are_not_there(
    tmp_path: Path, source: str, dockerfile: str, sentence: str
) -> None:
    with pytest.raises(CommandFailed) as caught:
        open_context(source.format(folder=tmp_path), dockerfile, [])
    assert str(caught.value) == sentence.format(folder=tmp_path)
