"""What all instructions share: where they stand in the source, and how their flags are read.

A flag is a row (`Flag`); `parse_flags` checks the words of a node against an instruction's rows and
answers with BuildKit's sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wherry.build.errors import SyntaxProblem, suggest
from wherry.build.parser import Heredoc, Node
from wherry.build.words import parse_json_array, split_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an instruction stands; not part of its meaning."""

    keyword: str  # as written
    original: str
    start: int
    end: int
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Base of all instruction records."""

    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag that an instruction knows."""

    name: str
    kind: Literal["text", "bool", "list"] = "text"


@dataclass(frozen=True, slots=True)
class FlagValues:
    """The flags of one instruction, checked."""

    values: Mapping[str, tuple[str, ...]]

    def text(self, name: str) -> str:
        """The value, or an empty text."""
        return self.values.get(name, ("",))[0]

    def is_set(self, name: str) -> bool:
        """Whether a bool flag is given and true."""
        return self.text(name) == "true"

    def all(self, name: str) -> tuple[str, ...]:
        """All values of a list flag."""
        return self.values.get(name, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What CMD, ENTRYPOINT and RUN take: the words of a JSON array, or one text for the shell."""

    words: tuple[str, ...]
    is_shell: bool
    heredocs: tuple[Heredoc, ...] = ()

    def argv(self, shell: tuple[str, ...]) -> tuple[str, ...]:
        """The whole command, with the shell in front where the shell form was used."""
        return (*shell, *(self.words or ("",))) if self.is_shell else self.words


def make_source(node: Node) -> Source:
    """The node's place."""
    return Source(
        keyword=node.keyword,
        original=node.original,
        start=node.start,
        end=node.end,
        comments=node.comments,
    )


def parse_flags(node: Node, *known: Flag) -> FlagValues:
    """Checks the flags. Raises SyntaxProblem."""
    rows = {flag.name: flag for flag in known}
    values: dict[str, tuple[str, ...]] = {}
    for word in node.flags:
        name, equals, value = word[2:].partition("=")
        row = rows.get(name)
        if row is None:
            raise SyntaxProblem(f"unknown flag: --{name}" + suggest(name, rows), f"--{name}")
        if name in values and row.kind != "list":
            raise SyntaxProblem(f"duplicate flag specified: --{name}", f"--{name}")
        if row.kind == "bool":
            if equals and not value:
                raise SyntaxProblem(f"missing a value on flag: --{name}", f"--{name}")
            lowered = value.lower() or "true"
            if lowered not in {"true", "false"}:
                raise SyntaxProblem(
                    f"expecting boolean value for flag --{name}, not: {value}", f"--{name}"
                )
            values[name] = (lowered,)
        elif not equals:
            raise SyntaxProblem(f"missing a value on flag: --{name}", f"--{name}")
        else:
            values[name] = (*values.get(name, ()), value)
    return FlagValues(values)


def parse_command(node: Node, rest: str) -> Command:
    """JSON or shell form."""
    words = parse_json_array(rest)
    if words is not None:
        return Command(words=words, is_shell=False)
    return Command(words=(rest,) if rest else (), is_shell=True, heredocs=node.heredocs)


def parse_list(rest: str) -> tuple[str, ...]:
    """A JSON array, or fields between white space."""
    words = parse_json_array(rest)
    return split_fields(rest) if words is None else words


def require_arguments(node: Node) -> str:
    """The rest of the line. Raises SyntaxProblem when there is none."""
    if not node.rest:
        raise SyntaxProblem(f"{node.keyword.upper()} requires at least one argument", node.keyword)
    return node.rest


def require_one_argument(node: Node) -> str:
    """The rest of the line as one argument. Raises SyntaxProblem when there is none."""
    if not node.rest:
        raise SyntaxProblem(f"{node.keyword.upper()} requires exactly one argument", node.keyword)
    return node.rest


def find_comment(comments: tuple[str, ...], name: str) -> str:
    """The description in a comment `# name description` above an ARG or FROM."""
    for comment in comments if name else ():
        if comment.startswith(name + " "):
            return comment[len(name) + 1 :]
    return ""
