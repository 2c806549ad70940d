"""Text of a Dockerfile to nodes: directives, comments, continuation lines, flags, here-documents.

Knows where every instruction begins and ends, and nothing of what an instruction means. The grammar is
BuildKit's parser (frontend/dockerfile/parser); bytes that are not UTF-8 are kept by surrogate escapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from wherry.build.errors import DockerfileError, Span, find_column
from wherry.build.words import split_flags, split_words

DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
DIRECTIVES = frozenset({"escape", "syntax", "check"})
HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)$")
HEREDOC_KEYWORDS = frozenset({"run", "copy", "add"})
MAX_LINE_CHARACTERS = 1 << 20


@dataclass(frozen=True, slots=True)
class Heredoc:
    """One here-document: its delimiter, its text, whether variables in it expand, the descriptor."""

    name: str
    content: str = ""
    expand: bool = True
    chomp: bool = False
    descriptor: int = 0

    @property
    def text(self) -> str:
        """The content with leading tabs removed where `<<-` asks for it."""
        if not self.chomp:
            return self.content
        return re.sub(r"^\t+", "", self.content, flags=re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One instruction: the keyword as written, flags, the rest of its joined line, here-documents."""

    keyword: str
    flags: tuple[str, ...]
    rest: str
    original: str
    start: int
    end: int
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    empty_continuation: int = 0  # line of an empty continuation line, 0 = none


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A parsed file; `lines` is the source for excerpts."""

    filename: str
    lines: tuple[str, ...]
    nodes: tuple[Node, ...]
    escape: str
    directives: Mapping[str, str]

    def error(
        self, sentence: str, start: int, end: int, near: str = "", *, numbered: bool = True
    ) -> DockerfileError:
        """The error at these lines; `numbered` puts BuildKit's phrase with the line in front."""
        return locate(sentence, self.filename, self.lines, start, end, near, numbered=numbered)


def locate(
    sentence: str,
    filename: str,
    lines: tuple[str, ...],
    start: int,
    end: int,
    near: str,
    *,
    numbered: bool,
) -> DockerfileError:
    """Builds the error with its line, column and sentence."""
    line, column = find_column(lines, start, end, near)
    prefix = (
        f"dockerfile parse error on line {start}: " if numbered else "failed to parse Dockerfile: "
    )
    return DockerfileError(
        sentence, Span(start, end, line, column), filename=filename, lines=lines, prefix=prefix
    )


def parse_dockerfile(source: bytes | str, filename: str = "Dockerfile") -> Dockerfile:
    """Parses the text; what is no UTF-8 in it becomes U+FFFD, as in dockerd. Raises DockerfileError with the place of
    the first fault."""
    if isinstance(source, bytes):
        source = source.decode("utf-8", "replace")
    return _Parser(source, filename).parse()


class _Parser:
    """Reads lines in order; `_at` is the index of the next one."""

    def __init__(self, source: str, filename: str) -> None:
        text = source.removeprefix("\ufeff")
        self._lines = tuple(line.removesuffix("\r") for line in text.split("\n"))
        if self._lines and not self._lines[-1]:
            self._lines = self._lines[:-1]
        self._raw = text.split("\n")
        self._filename = filename
        self._at = 0
        self._escape = "\\"
        self._directives: dict[str, str] = {}

    def parse(self) -> Dockerfile:
        self._read_directives()
        nodes: list[Node] = []
        comments: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at].lstrip()
            if line.startswith("#"):
                comment = line[1:].strip()
                comments = [*comments, comment] if comment else []
                self._at += 1
            elif not line:
                comments = []
                self._at += 1
            else:
                node = self._read_instruction(tuple(comments))
                comments = []
                if node is not None:
                    nodes.append(node)
        if not nodes:
            raise self._error("file with no instructions", max(1, len(self._lines)))
        return Dockerfile(
            filename=self._filename,
            lines=self._lines,
            nodes=tuple(nodes),
            escape=self._escape,
            directives=dict(self._directives),
        )

    def _error(self, sentence: str, start: int, end: int = 0, near: str = "") -> DockerfileError:
        return locate(
            sentence, self._filename, self._lines, start, end or start, near, numbered=False
        )

    def _read_directives(self) -> None:
        while self._at < len(self._lines):
            match = DIRECTIVE.match(self._lines[self._at].lstrip())
            if match is None or match[1].lower() not in DIRECTIVES:
                return
            name, value = match[1].lower(), match[2]
            line = self._at + 1
            if name in self._directives:
                raise self._error(f"only one {name} parser directive can be used", line)
            if name == "escape":
                if value not in {"\\", "`"}:
                    raise self._error(
                        f"invalid escape token '{value}' does not match ` or \\", line, near=value
                    )
                self._escape = value
            self._directives[name] = value
            self._at += 1

    def _trim_continuation(self, line: str) -> tuple[str, bool]:
        """The line without its continuation mark, and whether it had one; `\\\\` at the end is none."""
        trimmed = line.rstrip(" \t")
        if not trimmed.endswith(self._escape) or trimmed.endswith(self._escape * 2):
            return line, False
        return trimmed[:-1], True

    def _read_instruction(self, comments: tuple[str, ...]) -> Node | None:
        start = self._at + 1
        text, goes_on = self._trim_continuation(self._lines[self._at].lstrip())
        self._at += 1
        parts = [text]
        empty_line = 0
        while goes_on and self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            stripped = line.lstrip()
            if stripped.startswith("#"):
                continue
            if not stripped:
                empty_line = self._at
                continue
            text, goes_on = self._trim_continuation(line)
            parts.append(text)
        joined = "".join(parts)
        if len(joined) > MAX_LINE_CHARACTERS:
            raise self._error(
                f"dockerfile line greater than max allowed size of {MAX_LINE_CHARACTERS - 1}", start
            )
        if not joined.strip():
            return None
        keyword, flags, rest = split_command(joined)
        heredocs = self._read_heredocs(keyword, rest, joined, start)
        return Node(
            keyword=keyword,
            flags=flags,
            rest=rest,
            original=joined,
            start=start,
            end=self._at,
            heredocs=heredocs,
            comments=comments,
            empty_continuation=empty_line,
        )

    def _read_heredocs(
        self, keyword: str, rest: str, joined: str, start: int
    ) -> tuple[Heredoc, ...]:
        if "<<" not in joined:
            return ()
        if keyword.lower() == "onbuild":
            keyword, _, rest = split_command(rest) if rest.strip() else ("", (), "")
        if keyword.lower() not in HEREDOC_KEYWORDS or rest.lstrip().startswith("["):
            return ()
        return tuple(
            self._read_heredoc(opening, start) for opening in find_heredocs(rest, self._escape)
        )

    def _read_heredoc(self, opening: Heredoc, start: int) -> Heredoc:
        content: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            raw = self._raw[self._at]
            has_newline = self._at < len(self._raw) - 1
            self._at += 1
            if (line.lstrip("\t") if opening.chomp else line) == opening.name:
                return Heredoc(
                    name=opening.name,
                    content="".join(content),
                    expand=opening.expand,
                    chomp=opening.chomp,
                    descriptor=opening.descriptor,
                )
            content.append(raw + ("\n" if has_newline else ""))
        raise self._error("unterminated heredoc", start, self._at, "<<")


def split_command(line: str) -> tuple[str, tuple[str, ...], str]:
    """The keyword as written, its flags, and the rest."""
    keyword, *others = line.split(None, 1)
    flags, rest = split_flags("".join(others))
    return keyword, flags, rest.strip()


def find_heredocs(rest: str, escape: str) -> tuple[Heredoc, ...]:
    """The here-documents that a line opens, in order, without their content."""
    found: list[Heredoc] = []
    for word in split_words(rest, escape):
        heredoc = parse_heredoc(word)
        if heredoc is not None:
            found.append(heredoc)
    return tuple(found)


def parse_heredoc(word: str) -> Heredoc | None:
    """`3<<-"EOF"` as a here-document without content; None when the word is none."""
    match = HEREDOC.match(word)
    if match is None or not match[3]:
        return None
    delimiter = match[3]
    name = unquote(delimiter)
    if not name or re.search(r"\s", delimiter):
        return None
    return Heredoc(
        name=name,
        expand=name == delimiter,
        chomp=bool(match[2]),
        descriptor=int(match[1] or 0),
    )


def unquote(word: str) -> str:
    """The word without its quotes and escapes, as a shell would take a here-document's delimiter."""
    result: list[str] = []
    quote = ""
    position = 0
    while position < len(word):
        char = word[position]
        position += 1
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == "\\" and quote != "'" and position < len(word):
            result.append(word[position])
            position += 1
        else:
            result.append(char)
    return "".join(result)
