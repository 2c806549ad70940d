"""Expansion of variables in a word, as a shell does it: quotes, escapes, `$x` and `${x...}` forms.

Pure: a word and the variables in, the text and the names that were used out. Rules and sentences are
BuildKit's shell lexer. `${x:-y} ${x-y} :+ + :? ? # ## % %% / //` are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wherry.build.errors import SyntaxProblem
from wherry.build.words import quote_go

SPECIAL_PARAMETERS = "@*#?-$!0"
MAX_DEPTH = 100
MAX_LENGTH = 1 << 22
REPLACEMENT = "\ufffd"  # what BuildKit shows where the text ends too early


@dataclass(slots=True)
class Expansion:
    """What came of one word; `words` is the result split at unquoted white space."""

    text: str
    words: tuple[str, ...]
    unmatched: frozenset[str]
    matched: frozenset[str]


def expand_word(word: str, variables: Mapping[str, str], escape: str = "\\") -> Expansion:
    """Expands one word. Raises SyntaxProblem with BuildKit's sentence."""
    return _run(_Lexer(word, variables, escape), word)


def expand_heredoc(text: str, variables: Mapping[str, str]) -> Expansion:
    """Expands a here-document: variables and escapes, always by a backslash as in BuildKit, but quotes are text."""
    lexer = _Lexer(text, variables, "\\")
    lexer.quotes_are_text = True
    lexer.raw_quotes = True
    return _run(lexer, text)


def expand_known(word: str, variables: Mapping[str, str], escape: str = "\\") -> Expansion:
    """Expands what is set and keeps quotes, escapes and what is unset as they are (history texts)."""
    lexer = _Lexer(word, variables, escape)
    lexer.raw_quotes = True
    lexer.raw_escapes = True
    lexer.skip_unset = True
    return _run(lexer, word)


def _run(lexer: _Lexer, source: str) -> Expansion:
    try:
        text, words = lexer.process("", raw_escapes=lexer.raw_escapes)
    except SyntaxProblem as problem:
        raise SyntaxProblem(f"failed to process {quote_go(source)}: {problem}", source) from None
    return Expansion(text, words, frozenset(lexer.unmatched), frozenset(lexer.matched))


@dataclass(slots=True)
class _Words:
    """Collects words: white space that came from a variable or stood outside quotes separates."""

    words: list[str] = field(default_factory=list)
    word: list[str] = field(default_factory=list)

    def add_text(self, text: str) -> None:
        for char in text:
            if char.isspace():
                self.end()
            else:
                self.word.append(char)

    def add_raw(self, text: str) -> None:
        self.word.append(text)

    def end(self) -> None:
        joined = "".join(self.word)
        if joined:
            self.words.append(joined)
        self.word = []


class _Lexer:
    """A cursor over the word."""

    def __init__(self, source: str, variables: Mapping[str, str], escape: str) -> None:
        self.source = source
        self.variables = variables
        self.escape = escape
        self.position = 0
        self.depth = 0
        self.quotes_are_text = False
        self.raw_quotes = False
        self.raw_escapes = False
        self.skip_unset = False
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()

    def peek(self) -> str:
        return self.source[self.position : self.position + 1]

    def next(self) -> str:
        char = self.source[self.position : self.position + 1]
        self.position += len(char)
        return char

    def at_end(self) -> bool:
        return self.position >= len(self.source)

    def process(self, stop: str, *, raw_escapes: bool) -> tuple[str, tuple[str, ...]]:
        """Up to `stop` (consumed), or to the end when `stop` is empty."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise SyntaxProblem("too many nested substitutions")
        saved, self.raw_escapes = self.raw_escapes, raw_escapes
        try:
            return self._process(stop)
        finally:
            self.raw_escapes = saved
            self.depth -= 1

    def _process(self, stop: str) -> tuple[str, tuple[str, ...]]:
        result: list[str] = []
        words = _Words()
        while not self.at_end():
            char = self.peek()
            if stop and char == stop:
                self.next()
                words.end()
                return "".join(result), tuple(words.words)
            if char == "$":
                text = self._dollar()
                words.add_text(text)
                result.append(text)
            elif char == "'" and not self.quotes_are_text:
                text = self._single_quote()
                words.add_raw(text)
                result.append(text)
            elif char == '"' and not self.quotes_are_text:
                text = self._double_quote()
                words.add_raw(text)
                result.append(text)
            elif char == self.escape:
                self.next()
                if self.raw_escapes:
                    words.add_raw(char)
                    result.append(char)
                if self.at_end():
                    break
                char = self.next()
                words.add_raw(char)
                result.append(char)
            else:
                self.next()
                words.add_text(char)
                result.append(char)
        if stop:
            raise SyntaxProblem(f"unexpected end of statement while looking for matching {stop}")
        words.end()
        text = "".join(result)
        if len(text) > MAX_LENGTH:
            raise SyntaxProblem("expansion is too long")
        return text, tuple(words.words)

    def _single_quote(self) -> str:
        self.next()
        end = self.source.find("'", self.position)
        if end < 0:
            self.position = len(self.source)
            raise SyntaxProblem(
                "unexpected end of statement while looking for matching single-quote"
            )
        text = self.source[self.position : end]
        self.position = end + 1
        return f"'{text}'" if self.raw_quotes else text

    def _double_quote(self) -> str:
        self.next()
        result = ['"'] if self.raw_quotes else []
        while True:
            char = self.peek()
            if not char:
                raise SyntaxProblem(
                    "unexpected end of statement while looking for matching double-quote"
                )
            if char == '"':
                self.next()
                if self.raw_quotes:
                    result.append(char)
                return "".join(result)
            if char == "$":
                result.append(self._dollar())
                continue
            self.next()
            if char == self.escape:
                if self.raw_escapes:
                    result.append(char)
                following = self.peek()
                if not following:
                    continue
                if following in {'"', "$", self.escape}:
                    char = self.next()
                elif self.raw_escapes:
                    continue
            result.append(char)

    def _dollar(self) -> str:
        self.next()
        if self.peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._lookup(name)
            if value is None:
                return f"${name}" if self.skip_unset else ""
            return value
        self.next()
        if self.at_end():
            raise SyntaxProblem("syntax error: missing '}'")
        if self.peek() in {"{", "}", ":"}:
            raise SyntaxProblem("syntax error: bad substitution")
        name = self._name()
        return self._modifier(name)

    def _modifier(self, name: str) -> str:
        char = self.next()
        if char == "}":
            value = self._lookup(name)
            if value is None:
                return f"${{{name}}}" if self.skip_unset else ""
            return value
        if char == "/":
            return self._replace(name)
        shown = char or REPLACEMENT
        empty_is_unset = char == ":"
        if empty_is_unset:
            char = self.next()
            shown += char or REPLACEMENT
        if char not in {"+", "-", "?", "#", "%"} or not char:
            raise SyntaxProblem(f"unsupported modifier ({shown}) in substitution")
        word = self._until("}", raw_escapes=char in {"#", "%"}, missing="}")
        value = self._lookup(name)
        if value is None and self.skip_unset:
            return f"${{{name}{shown}{word}}}"
        is_unset = value is None or (empty_is_unset and not value)
        match char:
            case "-":
                return word if is_unset else value or ""
            case "+":
                return "" if is_unset else word
            case "?":
                if value is None:
                    raise SyntaxProblem(f"{name}: {word or 'is not allowed to be unset'}")
                if is_unset:
                    raise SyntaxProblem(f"{name}: {word or 'is not allowed to be empty'}")
                return value
            case _:
                if empty_is_unset:
                    raise SyntaxProblem(f"unsupported modifier ({shown}) in substitution")
                return trim_pattern(value or "", word, char)

    def _replace(self, name: str) -> str:
        every = self.peek() == "/"
        if every:
            self.next()
        pattern = self._until("/", raw_escapes=True, missing="/")
        replacement = self._until("}", raw_escapes=True, missing="}")
        value = self._lookup(name)
        if value is None and self.skip_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        return replace_pattern(value or "", pattern, replacement, every=every)

    def _until(self, stop: str, *, raw_escapes: bool, missing: str) -> str:
        try:
            return self.process(stop, raw_escapes=raw_escapes)[0]
        except SyntaxProblem:
            if not self.at_end():
                raise
            where = " in ${}" if missing == "/" else ""
            raise SyntaxProblem(f"syntax error: missing '{missing}'{where}") from None

    def _name(self) -> str:
        first = self.peek()
        if first.isdigit():
            start = self.position
            while self.peek().isdigit():
                self.next()
            return self.source[start : self.position]
        if first and first in SPECIAL_PARAMETERS:
            return self.next()
        start = self.position
        while (char := self.peek()) and (char.isalnum() or char == "_"):
            self.next()
        return self.source[start : self.position]

    def _lookup(self, name: str) -> str | None:
        value = self.variables.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value


ANY = ""  # the token of `*`; `?` is None, other tokens are the character itself


def trim_pattern(value: str, word: str, modifier: str) -> str:
    """`${x#word}` and `${x%word}`; a doubled modifier matches the longest part."""
    greedy = word.startswith(modifier)
    pattern = word[1:] if greedy else word
    try:
        tokens = tokenize_pattern(pattern)
    except SyntaxProblem as problem:
        raise SyntaxProblem(f"invalid pattern ({pattern}) in substitution: {problem}") from None
    if modifier == "#":
        ends = match_ends(tokens, value)
        return value[ends[-1 if greedy else 0] :] if ends else value
    ends = match_ends(tokens[::-1], value[::-1])
    return value[: len(value) - ends[-1 if greedy else 0]] if ends else value


def replace_pattern(value: str, pattern: str, replacement: str, *, every: bool) -> str:
    """`${x/pattern/replacement}`: the leftmost longest match, or all of them."""
    try:
        tokens = tokenize_pattern(pattern)
    except SyntaxProblem as problem:
        raise SyntaxProblem(f"invalid pattern ({pattern}) in substitution: {problem}") from None
    result: list[str] = []
    position = 0
    while position <= len(value):
        ends = match_ends(tokens, value[position:])
        if ends:
            result.append(replacement)
            if ends[-1] == 0:
                result.append(value[position : position + 1])
            position += max(ends[-1], 1)
            if not every:
                break
        else:
            result.append(value[position : position + 1])
            position += 1
    return "".join(result) + value[position:]


def tokenize_pattern(pattern: str) -> list[str | None]:
    """A shell pattern of `*` and `?` (no brackets); several `*` in a row are one."""
    tokens: list[str | None] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            if tokens[-1:] != [ANY]:
                tokens.append(ANY)
        elif char == "?":
            tokens.append(None)
        elif char == "\\":
            following = pattern[position : position + 1]
            if following in {"}", "/"}:
                continue
            position += 1
            if not following or following not in "*?\\":
                raise SyntaxProblem(f"invalid escape '\\{following}'")
            tokens.append(following)
        else:
            tokens.append(char)
    return tokens


def match_ends(tokens: list[str | None], value: str) -> list[int]:
    """Where matches that begin at the start of `value` end, ascending.

    All states at once: a backtracking matcher needs exponential time for `*a*a*a*b`. As in Go's regular
    expressions, wildcards do not match a line end.
    """
    final = len(tokens)

    def close(states: set[int]) -> set[int]:
        for state in sorted(states):
            while state < final and tokens[state] == ANY:
                state += 1  # noqa: PLW2901 - follows the empty matches of this state
                states.add(state)
        return states

    states = close({0})
    ends = [0] if final in states else []
    for position, char in enumerate(value, 1):
        following: set[int] = set()
        for state in states:
            if state == final:
                continue
            token = tokens[state]
            if token == ANY:
                if char != "\n":
                    following.add(state)
            elif token == char or (token is None and char != "\n"):
                following.add(state + 1)
        states = close(following)
        if not states:
            break
        if final in states:
            ends.append(position)
    return ends
