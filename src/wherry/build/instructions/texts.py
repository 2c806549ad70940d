"""EXPOSE, MAINTAINER, STOPSIGNAL, USER, VOLUME, WORKDIR: instructions of one text or a list of texts."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem
from wherry.build.instructions.base import (
    Instruction,
    make_source,
    parse_flags,
    parse_list,
    require_arguments,
    require_one_argument,
)
from wherry.build.parser import Node
from wherry.build.words import split_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """EXPOSE."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    """MAINTAINER."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    """STOPSIGNAL."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    """USER."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    """VOLUME."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    """WORKDIR."""

    path: str


def parse_expose(node: Node, escape: str) -> Expose:
    """Parses EXPOSE; the ports are sorted, as BuildKit does."""
    del escape
    ports = split_fields(require_arguments(node))
    parse_flags(node)
    return Expose(source=make_source(node), ports=tuple(sorted(ports)))


def parse_maintainer(node: Node, escape: str) -> Maintainer:
    """Parses MAINTAINER."""
    del escape
    name = require_one_argument(node)
    parse_flags(node)
    return Maintainer(source=make_source(node), name=name)


def parse_stopsignal(node: Node, escape: str) -> StopSignal:
    """Parses STOPSIGNAL."""
    del escape
    signal = require_one_argument(node)
    parse_flags(node)
    return StopSignal(source=make_source(node), signal=signal)


def parse_user(node: Node, escape: str) -> User:
    """Parses USER."""
    del escape
    user = require_one_argument(node)
    parse_flags(node)
    return User(source=make_source(node), user=user)


def parse_volume(node: Node, escape: str) -> Volume:
    """Parses VOLUME."""
    del escape
    words = parse_list(require_arguments(node))
    parse_flags(node)
    if not words:
        raise SyntaxProblem("VOLUME requires at least one argument", node.rest)
    paths = tuple(word.strip() for word in words)
    if not all(paths):
        raise SyntaxProblem("VOLUME specified can not be an empty string", node.rest)
    return Volume(source=make_source(node), paths=paths)


def parse_workdir(node: Node, escape: str) -> Workdir:
    """Parses WORKDIR."""
    del escape
    path = require_one_argument(node)
    parse_flags(node)
    return Workdir(source=make_source(node), path=path)
