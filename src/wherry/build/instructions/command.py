"""CMD, ENTRYPOINT and SHELL: what runs when nothing else is said."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem
from wherry.build.instructions.base import (
    Command,
    Instruction,
    make_source,
    parse_command,
    parse_flags,
)
from wherry.build.parser import Node
from wherry.build.words import parse_json_array, quote_go


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    """CMD."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    """ENTRYPOINT."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    """SHELL."""

    words: tuple[str, ...]


def parse_cmd(node: Node, escape: str) -> Cmd:
    """Parses CMD."""
    del escape
    parse_flags(node)
    return Cmd(source=make_source(node), command=parse_command(node, node.rest))


def parse_entrypoint(node: Node, escape: str) -> Entrypoint:
    """Parses ENTRYPOINT."""
    del escape
    parse_flags(node)
    return Entrypoint(source=make_source(node), command=parse_command(node, node.rest))


def parse_shell(node: Node, escape: str) -> Shell:
    """Parses SHELL."""
    del escape
    parse_flags(node)
    if not node.rest:
        raise SyntaxProblem("SHELL requires at least one argument", node.keyword)
    words = parse_json_array(node.rest)
    if words is None:
        raise SyntaxProblem(
            f"SHELL requires the arguments to be in JSON form, not: {quote_go(node.rest)}",
            node.rest,
        )
    if not words:
        raise SyntaxProblem("SHELL requires at least one argument", node.rest)
    return Shell(source=make_source(node), words=words)
