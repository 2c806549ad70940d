"""Regular expressions of clients, as Go's regexp has them: whether one is found in a text, in bounded time.

Python's `re` goes back and tries again, for years if the pattern is made so, and holds the interpreter meanwhile: a
filter of a list would stop the engine. Here all ways through a pattern are followed at once, as sets of places in the
text; what a pattern may cost over all texts is bounded. Syntax: https://github.com/google/re2/wiki/Syntax, without
classes of Unicode.
"""

from __future__ import annotations

from collections.abc import Callable

_MAX_STEPS = 2_000_000  # about a second
_MAX_REPEAT = 1000
_MAX_DEPTH = 50
_SPECIAL = frozenset("\\.+*?()|[]{}^$")
_CONTROLS = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}

Places = set[int]
Test = Callable[[str], bool]


def _is_digit(char: str) -> bool:
    return "0" <= char <= "9"


def _is_word(char: str) -> bool:
    return char == "_" or (char.isascii() and char.isalnum())


def _is_space(char: str) -> bool:
    return char in "\t\n\f\r "


_CLASSES: dict[str, Test] = {"d": _is_digit, "w": _is_word, "s": _is_space}
_NAMED: dict[str, Test] = {
    "alnum": lambda char: char.isascii() and char.isalnum(),
    "alpha": lambda char: char.isascii() and char.isalpha(),
    "digit": _is_digit,
    "lower": lambda char: "a" <= char <= "z",
    "punct": lambda char: "!" <= char <= "~" and not char.isalnum(),
    "space": lambda char: _is_space(char) or char == "\v",
    "upper": lambda char: "A" <= char <= "Z",
    "word": _is_word,
    "xdigit": lambda char: char in "0123456789abcdefABCDEF",
}


class PatternError(ValueError):
    """No regular expression, or one that costs too much."""


class Pattern:
    """One, compiled."""

    def __init__(self, source: str) -> None:
        """Raises PatternError."""
        self._literal = source if _SPECIAL.isdisjoint(source) else None
        self._root = _Parser(source).parse() if self._literal is None else None
        self._left = _MAX_STEPS

    def is_found_in(self, text: str) -> bool:
        """Whether it fits some part of the text. Raises PatternError when all that was asked costs too much."""
        if self._literal is not None:
            return self._literal in text
        if self._root is None:
            return False
        search = _Search(text, self._left)
        try:
            return bool(self._root.follow(search, set(range(len(text) + 1))))
        finally:
            self._left = search.left


class _Search:
    """A text, and what may still be spent on it."""

    def __init__(self, text: str, left: int) -> None:
        self.text = text
        self.left = left

    def spend(self, places: Places) -> None:
        self.left -= len(places) + 1
        if self.left < 0:
            raise PatternError("the pattern takes too long")


class _Node:
    """A part of a pattern: from which places it leads to which."""

    def follow(self, search: _Search, places: Places) -> Places:
        raise NotImplementedError


class _Char(_Node):
    def __init__(self, test: Test) -> None:
        self._test = test

    def follow(self, search: _Search, places: Places) -> Places:
        search.spend(places)
        text, test = search.text, self._test
        return {place + 1 for place in places if place < len(text) and test(text[place])}


class _At(_Node):
    def __init__(self, test: Callable[[str, int], bool]) -> None:
        self._test = test

    def follow(self, search: _Search, places: Places) -> Places:
        search.spend(places)
        return {place for place in places if self._test(search.text, place)}


class _Sequence(_Node):
    def __init__(self, parts: list[_Node]) -> None:
        self._parts = parts

    def follow(self, search: _Search, places: Places) -> Places:
        for part in self._parts:
            if not places:
                break
            places = part.follow(search, places)
        return places


class _Choice(_Node):
    def __init__(self, parts: list[_Node]) -> None:
        self._parts = parts

    def follow(self, search: _Search, places: Places) -> Places:
        return set().union(*(part.follow(search, places) for part in self._parts))


class _Repeat(_Node):
    def __init__(self, part: _Node, least: int, most: int | None) -> None:
        self._part, self._least, self._most = part, least, most

    def follow(self, search: _Search, places: Places) -> Places:
        for _ in range(self._least):
            search.spend(places)
            places = self._part.follow(search, places)
        found = new = places
        count = self._least
        while new and (self._most is None or count < self._most):
            search.spend(new)
            new = self._part.follow(search, new) - found
            found = found | new
            count += 1
        return found


def _is_boundary(text: str, place: int) -> bool:
    before = place > 0 and _is_word(text[place - 1])
    return before != (place < len(text) and _is_word(text[place]))


_ATS: dict[str, Callable[[str, int], bool]] = {
    "A": lambda _, place: place == 0,
    "z": lambda text, place: place == len(text),
    "b": _is_boundary,
    "B": lambda text, place: not _is_boundary(text, place),
    "m^": lambda text, place: place == 0 or text[place - 1] == "\n",
    "m$": lambda text, place: place == len(text) or text[place] == "\n",
}


class _Parser:
    """Reads a pattern from left to right; `flags` are those of the group that it is in."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._flags: frozenset[str] = frozenset()
        self._depth = 0

    def parse(self) -> _Node:
        node = self._choice()
        if self._at < len(self._source):
            raise PatternError("unexpected )")
        return node

    def _take(self, text: str) -> bool:
        if self._source.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _next(self, missing: str) -> str:
        if self._at >= len(self._source):
            raise PatternError(missing)
        self._at += 1
        return self._source[self._at - 1]

    def _until(self, end: str, missing: str) -> str:
        found = self._source.find(end, self._at)
        if found < 0:
            raise PatternError(missing)
        text, self._at = self._source[self._at : found], found + len(end)
        return text

    def _choice(self) -> _Node:
        flags = self._flags
        parts = [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        self._flags = flags
        return parts[0] if len(parts) == 1 else _Choice(parts)

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._at < len(self._source) and self._source[self._at] not in "|)":
            nodes = self._atom()
            if nodes:
                nodes[-1] = self._repeated(nodes[-1])
            parts += nodes
        return _Sequence(parts)

    def _repeated(self, node: _Node) -> _Node:
        bounds = self._bounds()
        if bounds is None:
            return node
        self._take("?")  # how much it takes makes no difference here
        if self._bounds() is not None:
            raise PatternError("invalid nested repetition operator")
        least, most = bounds
        if max(least, most or 0) > _MAX_REPEAT or (most is not None and most < least):
            raise PatternError("invalid repeat count")
        return _Repeat(node, least, most)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        start = self._at
        if self._take("{"):
            inside, closed, _ = self._source[self._at :].partition("}")
            least, comma, most = inside.partition(",")
            numbers = [least, *([most] if most else [])]
            if closed and all(
                text.isascii() and text.isdigit() and len(text) < 7 for text in numbers
            ):
                self._at += len(inside) + 1
                return int(least), int(most) if most else None if comma else int(least)
            self._at = start  # it stands for itself
        return None

    def _atom(self) -> list[_Node]:
        char = self._next("")
        if char == "(":
            return self._group()
        if char == "[":
            return [_Char(self._class())]
        if char == "\\":
            return self._escaped()
        if char == ".":
            return [_Char((lambda _: True) if "s" in self._flags else (lambda char: char != "\n"))]
        if char in "^$":
            name = f"m{char}" if "m" in self._flags else "A" if char == "^" else "z"
            return [_At(_ATS[name])]
        if char in "*+?":
            raise PatternError(f"missing argument to repetition operator: {char}")
        return [self._literal(char)]

    def _literal(self, char: str) -> _Node:
        if "i" in self._flags:
            low = char.lower()
            return _Char(lambda found: found.lower() == low)
        return _Char(lambda found: found == char)

    def _group(self) -> list[_Node]:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise PatternError("expression nests too deeply")
        try:
            return self._grouped()
        finally:
            self._depth -= 1

    def _grouped(self) -> list[_Node]:
        flags = self._flags
        if self._take("?"):
            if self._take("P<") or self._take("<"):
                self._until(">", "invalid named capture")
            else:
                asked = self._flag_names()
                if self._source[self._at - 1] == ")":
                    self._flags = asked  # for the rest of the group around
                    return []
                self._flags = asked
        node = self._choice()
        if not self._take(")"):
            raise PatternError("missing closing )")
        self._flags = flags
        return [node]

    def _flag_names(self) -> frozenset[str]:
        on, off, is_off = set(self._flags), set[str](), False
        while (char := self._next("missing closing )")) not in ":)":
            if char == "-":
                is_off = True
            elif char in "imsU":
                (off if is_off else on).add(char)
            else:
                raise PatternError("invalid or unsupported Perl syntax")
        return frozenset(on - off)

    def _escaped(self) -> list[_Node]:
        char = self._next("trailing backslash at end of expression")
        if char in _ATS:
            return [_At(_ATS[char])]
        if char == "Q":
            text, _, _ = self._source[self._at :].partition("\\E")
            self._at = min(self._at + len(text) + 2, len(self._source))
            return [self._literal(one) for one in text]
        test = self._escaped_class(char)
        return [_Char(test)] if test is not None else [self._literal(self._escaped_char(char))]

    def _escaped_class(self, char: str) -> Test | None:
        test = _CLASSES.get(char.lower())
        if test is None or char.islower():
            return test
        return lambda found: not test(found)

    def _escaped_char(self, char: str) -> str:
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "x":
            digits = (
                self._until("}", "invalid escape sequence")
                if self._take("{")
                else self._next("invalid escape sequence") + self._next("invalid escape sequence")
            )
            try:
                return chr(int(digits, 16))
            except (ValueError, OverflowError) as error:
                raise PatternError("invalid escape sequence") from error
        if char.isalnum():
            raise PatternError(f"invalid escape sequence: \\{char}")
        return char

    def _class(self) -> Test:
        missing = "missing closing ]"
        is_negative = self._take("^")
        tests: list[Test] = []
        is_first = True
        while is_first or not self._take("]"):
            is_first = False
            if self._take("[:"):
                name = self._until(":]", missing)
                test = _NAMED.get(name.removeprefix("^"))
                if test is None:
                    raise PatternError(f"invalid character class range: [:{name}:]")
                tests.append(_negated(test) if name.startswith("^") else test)
                continue
            first = self._class_member(missing, tests)
            if first is None:
                continue
            last: str | None = first
            if (
                self._source.startswith("-", self._at)
                and self._source[self._at + 1 : self._at + 2] != "]"
            ):
                self._at += 1
                last = self._class_member(missing, tests)
            if last is None or last < first:
                raise PatternError("invalid character class range")
            tests.append(self._range(first, last))
        found = tuple(tests)

        def fits(char: str) -> bool:
            return any(test(char) for test in found)

        return _negated(fits) if is_negative else fits

    def _class_member(self, missing: str, tests: list[Test]) -> str | None:
        """A character; None for a class in the class, which is noted."""
        char = self._next(missing)
        if char != "\\":
            return char
        char = self._next(missing)
        test = self._escaped_class(char)
        if test is None:
            return self._escaped_char(char)
        tests.append(test)
        return None

    def _range(self, first: str, last: str) -> Test:
        if "i" in self._flags:
            return lambda char: first <= char.lower() <= last or first <= char.upper() <= last
        return lambda char: first <= char <= last


def _negated(test: Test) -> Test:
    return lambda char: not test(char)
