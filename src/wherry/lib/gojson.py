"""What Go's encoding/json says of a text that is no JSON, which clients of Docker see in its errors."""

from __future__ import annotations

import re

MOST_BYTES = 16 << 10  # it goes through them one by one, and who asks waits
_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPES = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\b": r"\b", "\f": r"\f", "\a": r"\a"}
_ESCAPES.update({"\v": r"\v", "\\": r"\\", "'": r"\'"})


class _Wrong(Exception):
    pass


def syntax_error(data: bytes) -> str:
    """`invalid character 'x' looking for beginning of value`; "" where Go finds nothing wrong.

    "" also of more than `MOST_BYTES`: somebody else's words do.
    """
    if len(data) > MOST_BYTES:
        return ""
    try:
        _Scanner(data.decode("latin-1")).value()
    except _Wrong as wrong:
        return str(wrong)
    except RecursionError:
        return "exceeded max depth"
    return ""


class _Scanner:
    """Goes through one value. The contexts are those of Go's scanner.go."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def _peek(self) -> str:
        if self._at >= len(self._text):
            raise _Wrong("unexpected EOF")
        return self._text[self._at]

    def _skip_space(self) -> str:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._peek()

    def _take(self, allowed: str, context: str) -> str:
        character = self._peek()
        if character not in allowed:
            shown = _ESCAPES.get(character, character)
            if not shown.isprintable():
                shown = f"\\x{ord(shown):02x}" if ord(shown) < 0x80 else f"\\u{ord(shown):04x}"
            raise _Wrong(f"invalid character '{shown}' {context}")
        self._at += 1
        return character

    def value(self) -> None:
        character = self._skip_space()
        self._take('{["-0123456789tfn', "looking for beginning of value")
        match character:
            case "{":
                self._object()
            case "[":
                self._array()
            case '"':
                self._string()
            case "t" | "f" | "n":
                self._literal({"t": "true", "f": "false", "n": "null"}[character])
            case _:
                self._number(character)

    def _object(self) -> None:
        if self._skip_space() == "}":
            self._at += 1
            return
        more = True
        while more:
            self._skip_space()
            self._take('"', "looking for beginning of object key string")
            self._string()
            self._skip_space()
            self._take(":", "after object key")
            self.value()
            self._skip_space()
            more = self._take(",}", "after object key:value pair") == ","

    def _array(self) -> None:
        if self._skip_space() == "]":
            self._at += 1
            return
        more = True
        while more:
            self.value()
            self._skip_space()
            more = self._take(",]", "after array element") == ","

    def _string(self) -> None:
        while True:
            found = _PLAIN.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._take('"\\', "in string literal") == '"':
                return
            if self._take('bfnrt\\/"u', "in string escape code") == "u":
                for _ in range(4):
                    self._take("0123456789abcdefABCDEF", r"in \u hexadecimal character escape")

    def _literal(self, word: str) -> None:
        for character in word[1:]:
            self._take(character, f"in literal {word} (expecting '{character}')")

    def _number(self, first: str) -> None:
        if first == "-":
            first = self._take("0123456789", "in numeric literal")
        if first != "0":
            self._digits()
        if self._next_is("."):
            self._take("0123456789", "after decimal point in numeric literal")
            self._digits()
        if self._next_is("eE"):
            self._next_is("+-")
            self._take("0123456789", "in exponent of numeric literal")
            self._digits()

    def _next_is(self, characters: str) -> bool:
        found = self._text[self._at : self._at + 1]
        if not found or found not in characters:
            return False
        self._at += 1
        return True

    def _digits(self) -> None:
        while self._next_is("0123456789"):
            pass
