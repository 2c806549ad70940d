"""Errors of a Dockerfile: the sentence, where it is, the source around it, and the near word.

The sentences are BuildKit's: "dockerfile parse error on line 2: unknown instruction: FORM (did you
mean FROM?)". `str(error)` is the sentence alone; `excerpt` shows the lines as BuildKit prints them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wherry.model.errors import InvalidArgument

CONTEXT_LINES = 2


@dataclass(frozen=True, slots=True)
class Span:
    """Lines of an instruction, 1-based and inclusive, and the line and column of the offending word."""

    start: int
    end: int
    line: int
    column: int = 1


class DockerfileError(InvalidArgument):
    """The Dockerfile can never be built as it is."""

    def __init__(
        self,
        sentence: str,
        span: Span,
        *,
        filename: str,
        lines: tuple[str, ...],
        prefix: str = "",
    ) -> None:
        super().__init__(prefix + sentence)
        self.sentence = sentence  # without what BuildKit puts in front
        self.span = span
        self.filename = filename
        self.lines = lines

    @property
    def excerpt(self) -> str:
        """The file, line and column, and the source lines around it."""
        return format_excerpt(self.filename, self.span, self.lines)


class SyntaxProblem(Exception):
    """What is wrong with one instruction, before its place is known; `near` is the offending word."""

    def __init__(self, sentence: str, near: str = "") -> None:
        super().__init__(sentence)
        self.near = near


class TextProblem(SyntaxProblem):
    """A fault in the text before any instruction is understood; BuildKit names no line for these."""


def format_excerpt(filename: str, span: Span, lines: tuple[str, ...]) -> str:
    """Source lines in BuildKit's form: `   2 | >>> FORM busybox` between rules."""
    first = max(1, span.start - CONTEXT_LINES)
    last = min(len(lines), span.end + CONTEXT_LINES)
    shown = [f"{filename}:{span.line}:{span.column}", "-" * 20]
    for number in range(first, last + 1):
        mark = ">>>" if span.start <= number <= span.end else "   "
        shown.append(f"{number:4} | {mark} {lines[number - 1]}".rstrip())
    shown.append("-" * 20)
    return "\n".join(shown)


def find_column(lines: tuple[str, ...], start: int, end: int, near: str) -> tuple[int, int]:
    """Line and column of the first `near` in these lines; else of the first word."""
    if near:
        for number in range(start, min(end, len(lines)) + 1):
            at = lines[number - 1].find(near)
            if at >= 0:
                return number, at + 1
    if not 1 <= start <= len(lines):
        return start, 1
    line = lines[start - 1]
    return start, len(line) - len(line.lstrip()) + 1


def suggest(word: str, candidates: Iterable[str]) -> str:
    """` (did you mean X?)` with the nearest candidate, or nothing when none is near."""
    best, best_distance = "", 3
    for candidate in sorted(candidates):
        if candidate.lower() == word.lower():
            continue
        distance = edit_distance(word.lower(), candidate.lower(), best_distance)
        if distance < best_distance:
            best, best_distance = candidate, distance
    return f" (did you mean {best}?)" if best else ""


def edit_distance(left: str, right: str, limit: int) -> int:
    """Levenshtein distance; any value of at least `limit` only says that it is too far."""
    if abs(len(left) - len(right)) >= limit:
        return limit
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]
