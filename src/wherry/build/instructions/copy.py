"""COPY and ADD: files of the context, of stages, images, URLs, git repositories and here-documents."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem
from wherry.build.instructions.base import (
    Flag,
    FlagValues,
    Instruction,
    make_source,
    parse_flags,
    parse_list,
)
from wherry.build.parser import Heredoc, Node, parse_heredoc

SHARED_FLAGS = (
    Flag("chown"),
    Flag("chmod"),
    Flag("link", "bool"),
    Flag("exclude", "list"),
)
COPY_FLAGS = (*SHARED_FLAGS, Flag("from"), Flag("parents", "bool"))
ADD_FLAGS = (
    *SHARED_FLAGS,
    Flag("keep-git-dir", "bool"),
    Flag("checksum"),
    Flag("unpack", "bool"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Instruction):
    """What COPY and ADD share; `files` are sources written as here-documents."""

    sources: tuple[str, ...]
    destination: str
    files: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Transfer):
    """COPY."""

    from_: str = ""
    parents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Transfer):
    """ADD; `unpack` is None when not given."""

    keep_git_dir: bool = False
    checksum: str = ""
    unpack: bool | None = None


def parse_copy(node: Node, escape: str) -> Copy:
    """Parses COPY."""
    del escape
    sources, files, destination = _parse_paths(node)
    flags = parse_flags(node, *COPY_FLAGS)
    return Copy(
        source=make_source(node),
        sources=sources,
        files=files,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.is_set("link"),
        excludes=flags.all("exclude"),
        from_=flags.text("from"),
        parents=flags.is_set("parents"),
    )


def parse_add(node: Node, escape: str) -> Add:
    """Parses ADD."""
    del escape
    sources, files, destination = _parse_paths(node)
    flags = parse_flags(node, *ADD_FLAGS)
    return Add(
        source=make_source(node),
        sources=sources,
        files=files,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.is_set("link"),
        excludes=flags.all("exclude"),
        keep_git_dir=flags.is_set("keep-git-dir"),
        checksum=flags.text("checksum"),
        unpack=_optional_bool(flags, "unpack"),
    )


def _optional_bool(flags: FlagValues, name: str) -> bool | None:
    return flags.is_set(name) if name in flags.values else None


def _parse_paths(node: Node) -> tuple[tuple[str, ...], tuple[Heredoc, ...], str]:
    keyword = node.keyword.upper()
    words = parse_list(node.rest)
    if len(words) < 2:
        if node.flags and not words:
            parse_flags(node, *COPY_FLAGS, *ADD_FLAGS)
        raise SyntaxProblem(
            f"{keyword} requires at least two arguments, but only one was provided."
            " Destination could not be determined",
            node.rest,
        )
    *sources, destination = words
    if not node.heredocs:
        return tuple(sources), (), destination
    if parse_heredoc(destination) is not None:
        raise SyntaxProblem(f"{keyword} cannot accept a heredoc as a destination", destination)
    paths: list[str] = []
    files: list[Heredoc] = []
    contents = {heredoc.name: heredoc for heredoc in node.heredocs}
    for source in sources:
        heredoc = parse_heredoc(source)
        if heredoc is None or heredoc.name not in contents:
            paths.append(source)
        else:
            files.append(contents[heredoc.name])
    return tuple(paths), tuple(files), destination
