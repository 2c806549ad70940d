"""How the rest of an instruction's line falls into words: quoted words, fields, JSON, flags, pairs.

Quotes and escapes stay in the words, since expansion (`expand.py`) is what removes them. The rules are
those of BuildKit's line parsers; nothing here knows an instruction's meaning.
"""

from __future__ import annotations

import json
import re

from wherry.build.errors import TextProblem

FIELD_SEPARATOR = re.compile(r"[\t\v\f\r ]+")
QUOTES = "'\""


def split_fields(rest: str) -> tuple[str, ...]:
    """Fields between white space, quotes not special."""
    return tuple(FIELD_SEPARATOR.split(rest)) if rest else ()


def split_words(rest: str, escape: str) -> tuple[str, ...]:
    """Words between white space; a quoted or escaped space does not end a word."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    seen_quote = False
    position = 0
    while position < len(rest):
        char = rest[position]
        position += 1
        if not quote and char.isspace():
            if word or seen_quote:
                words.append("".join(word))
            word, seen_quote = [], False
            continue
        if char == escape and quote != "'":
            if position == len(rest):
                break
            word.append(char)
            char = rest[position]
            position += 1
        elif quote:
            if char == quote:
                quote = ""
        elif char in QUOTES:
            quote, seen_quote = char, True
        word.append(char)
    if word or seen_quote:
        words.append("".join(word))
    return tuple(words)


def parse_json_array(rest: str) -> tuple[str, ...] | None:
    """The strings of a JSON array; None when the text is not a JSON array at all."""
    text = rest.lstrip()
    if not text.startswith("["):
        return None
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    strings = tuple(value for value in values if isinstance(value, str))
    if len(strings) != len(values):
        raise TextProblem(
            "when using JSON array syntax, arrays must be comprised of strings only", rest
        )
    return strings


def _refuse_constant(name: str) -> object:
    raise ValueError(name)  # Go's JSON knows no NaN or Infinity


def split_flags(rest: str) -> tuple[tuple[str, ...], str]:
    """The leading `--flag[=value]` words, unquoted, and what follows them; `--` ends the flags."""
    flags: list[str] = []
    word: list[str] = []
    quote = ""
    seen_quote = in_word = False
    position = 0
    while position < len(rest):
        char = rest[position]
        if not in_word:
            if char.isspace():
                position += 1
                continue
            if not rest.startswith("--", position):
                return tuple(flags), rest[position:]
            in_word = True
        position += 1
        if not quote and char.isspace():
            in_word = False
            if word == ["-", "-"]:
                return tuple(flags), rest[position - 1 :].lstrip()
            if word or seen_quote:
                flags.append("".join(word))
            word, seen_quote = [], False
        elif char == quote:
            quote = ""
        elif not quote and char in QUOTES:
            quote, seen_quote = char, True
        elif char == "\\":
            if position < len(rest):
                word.append(rest[position])
                position += 1
        else:
            word.append(char)
    if word and word != ["-", "-"]:
        flags.append("".join(word))
    return tuple(flags), ""


def parse_pairs(rest: str, escape: str, keyword: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    """`name=value ...`, or the old `name value with spaces`; the flag says that it was the old form."""
    words = split_words(rest, escape)
    if not words:
        return (), False
    if "=" not in words[0]:
        parts = FIELD_SEPARATOR.split(rest, maxsplit=1)
        if len(parts) < 2:
            raise TextProblem(f"{keyword} must have two arguments", rest)
        return ((parts[0], parts[1]),), True
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise TextProblem(
                f"Syntax error - can't find = in {quote_go(word)}. Must be of the form: name=value",
                word,
            )
        pairs.append((name, value))
    return tuple(pairs), False


def quote_go(text: str) -> str:
    """The text as Go's `%q` writes it, near enough for messages."""
    return json.dumps(text, ensure_ascii=False)
