"""ENV and LABEL: pairs of a name and a value."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem
from wherry.build.instructions.base import Instruction, make_source, parse_flags
from wherry.build.parser import Node
from wherry.build.words import parse_pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """ENV; `is_legacy` when written `ENV name value`."""

    pairs: tuple[tuple[str, str], ...]
    is_legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """LABEL; `is_legacy` when written `LABEL name value`."""

    pairs: tuple[tuple[str, str], ...]
    is_legacy: bool = False


def parse_env(node: Node, escape: str) -> Env:
    """Parses ENV."""
    pairs, is_legacy = _parse(node, escape)
    return Env(source=make_source(node), pairs=pairs, is_legacy=is_legacy)


def parse_label(node: Node, escape: str) -> Label:
    """Parses LABEL."""
    pairs, is_legacy = _parse(node, escape)
    return Label(source=make_source(node), pairs=pairs, is_legacy=is_legacy)


def _parse(node: Node, escape: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    keyword = node.keyword.upper()
    parse_flags(node)
    pairs, is_legacy = parse_pairs(node.rest, escape, keyword)
    if not pairs:
        raise SyntaxProblem(f"{keyword} requires at least one argument", node.keyword)
    for name, _ in pairs:
        if not name:
            raise SyntaxProblem(f"{keyword} names can not be blank", "=")
    return pairs, is_legacy
