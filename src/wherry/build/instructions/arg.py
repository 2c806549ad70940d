"""ARG name[=default] ...: build arguments."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem
from wherry.build.instructions.base import (
    Instruction,
    find_comment,
    make_source,
    parse_flags,
    require_arguments,
)
from wherry.build.parser import Node
from wherry.build.words import split_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument; `default` is None when none was given."""

    name: str
    default: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """ARG."""

    arguments: tuple[Argument, ...]


def parse(node: Node, escape: str) -> Arg:
    """Parses ARG."""
    parse_flags(node)
    arguments: list[Argument] = []
    for word in split_words(require_arguments(node), escape):
        name, equals, default = word.partition("=")
        if not name:
            raise SyntaxProblem("ARG names can not be blank", word)
        arguments.append(
            Argument(
                name=name,
                default=default if equals else None,
                description=find_comment(node.comments, name),
            )
        )
    return Arg(source=make_source(node), arguments=tuple(arguments))
