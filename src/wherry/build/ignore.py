"""`.dockerignore` and `--exclude`: patterns as moby's patternmatcher understands them.

A pattern is cleaned like a path, `!` takes back what an earlier pattern excluded, `**` crosses
directories, a match of a parent is a match of all below it. Pure: paths are relative, with slashes.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from wherry.model.errors import InvalidArgument

ESCAPED = frozenset(".+()|{}$")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line; `exact` is set when no wildcard is in it."""

    text: str
    exclusion: bool
    expression: re.Pattern[str] | None
    prefix: str | None = None  # "a/**"
    suffix: str | None = None  # "**/a"

    def matches(self, path: str) -> bool:
        """Whether this path itself matches, parents not looked at."""
        if self.prefix is not None:
            return path.startswith(self.prefix)
        if self.suffix is not None:
            return path.endswith(self.suffix) or (
                self.suffix.startswith("/") and path == self.suffix[1:]
            )
        if self.expression is not None:
            return self.expression.match(path) is not None
        return path == self.text


class IgnoreMatcher:
    """All patterns of one file, in order."""

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.patterns = patterns
        self.has_exclusions = any(pattern.exclusion for pattern in patterns)

    def matches(self, path: str) -> bool:
        """Whether the path is left out, its parents taken into account."""
        parts = path.split("/")
        parents = ["/".join(parts[: end + 1]) for end in range(len(parts) - 1)]
        matched = False
        for pattern in self.patterns:
            if pattern.exclusion != matched:
                continue
            if pattern.matches(path) or any(pattern.matches(parent) for parent in parents):
                matched = not pattern.exclusion
        return matched

    def may_include_below(self, directory: str) -> bool:
        """Whether an excluded directory must be walked, as a `!` pattern may name something in it."""
        for pattern in self.patterns:
            if not pattern.exclusion:
                continue
            fixed = re.split(r"[*?\[\\]", pattern.text, maxsplit=1)[0]
            if fixed == pattern.text:
                if pattern.text.startswith(directory + "/"):
                    return True
            elif fixed.startswith(directory + "/") or (directory + "/").startswith(
                fixed.rpartition("/")[0] + "/" if "/" in fixed else ""
            ):
                return True
        return False


def parse_ignore_file(text: str) -> tuple[str, ...]:
    """The patterns of a `.dockerignore` file, comments and blank lines left out."""
    patterns: list[str] = []
    for number, raw in enumerate(text.split("\n")):
        line = raw.removesuffix("\r")
        if number == 0:
            line = line.removeprefix("\ufeff")
        if line.startswith("#"):
            continue
        line = line.strip()
        if not line:
            continue
        invert = line.startswith("!")
        if invert:
            line = line[1:].strip()
        if line:
            line = clean_path(line)
            if len(line) > 1 and line.startswith("/"):
                line = line[1:]
        patterns.append("!" + line if invert else line)
    return tuple(patterns)


def compile_patterns(patterns: tuple[str, ...]) -> IgnoreMatcher:
    """Builds the matcher. Raises InvalidArgument for a malformed pattern."""
    compiled: list[Pattern] = []
    for raw in patterns:
        text = raw.strip()
        if not text:
            continue
        text = clean_path(text)
        exclusion = text.startswith("!")
        if exclusion:
            text = text[1:]
            if not text:
                raise InvalidArgument('illegal exclusion pattern: "!"')
        compiled.append(compile_pattern(text, exclusion=exclusion))
    return IgnoreMatcher(tuple(compiled))


def clean_path(path: str) -> str:
    """Go's filepath.Clean."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def compile_pattern(text: str, *, exclusion: bool = False) -> Pattern:
    """One pattern, as a prefix, suffix or exact comparison where that is enough."""
    expression: list[str] = []
    kind = "exact"
    position = 0
    count = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "*":
            if text.startswith("*", position):
                position += 1
                if text.startswith("/", position):
                    position += 1
                if position == len(text):
                    if kind == "exact":
                        kind = "prefix"
                    else:
                        expression.append(".*")
                        kind = "regexp"
                else:
                    expression.append("(?:.*/)?")
                    kind = "regexp"
                if count == 0:
                    kind = "suffix"
            else:
                expression.append("[^/]*")
                kind = "regexp"
        elif char == "?":
            expression.append("[^/]")
            kind = "regexp"
        elif char in ESCAPED:
            expression.append("\\" + char)
        elif char == "\\":
            if position < len(text):
                expression.append(re.escape(text[position]))
                position += 1
                kind = "regexp"
            else:
                raise InvalidArgument("syntax error in pattern")
        elif char == "[":
            end = _class_end(text, position)
            body = text[position : end - 1]
            negated = body.startswith("^")
            expression.append(_class_expression(body.removeprefix("^"), negated=negated))
            position = end
            kind = "regexp"
        else:
            expression.append(re.escape(char))
        count += 1
    if kind == "prefix":
        return Pattern(text, exclusion, None, prefix=text.removesuffix("/")[:-2])
    if kind == "suffix":
        return Pattern(text, exclusion, None, suffix=text[2:])
    if kind == "exact":
        return Pattern(text, exclusion, None)
    try:
        return Pattern(text, exclusion, re.compile("".join(expression) + r"\Z", re.DOTALL))
    except re.error:
        raise InvalidArgument("syntax error in pattern") from None


def _class_end(text: str, position: int) -> int:
    """The position behind the `]` that closes the class opened before `position`."""
    start = position
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        if text[position] == "]" and position > start:
            return position + 1
        position += 1
    raise InvalidArgument("syntax error in pattern")


def _class_expression(body: str, *, negated: bool) -> str:
    safe = body.replace("[", "\\[").replace("&&", "&\\&").replace("||", "|\\|")
    safe = safe.replace("~~", "~\\~")
    return f"[^{safe}]" if negated else f"[{safe}]"
