"""Go's words for what is no JSON, as encoding/json of Go 1.24 prints them."""

from __future__ import annotations

import pytest

from wherry.lib.gojson import MOST_BYTES, syntax_error


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{invalid", "invalid character 'i' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("'a'", r"invalid character '\'' looking for beginning of value"),
        ("trux", "invalid character 'x' in literal true (expecting 'e')"),
        ("-x", "invalid character 'x' in numeric literal"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("1e+x", "invalid character 'x' in exponent of numeric literal"),
        (r'"\x"', "invalid character 'x' in string escape code"),
        (r'"\u12g4"', r"invalid character 'g' in \u hexadecimal character escape"),
        ('"a\nb"', r"invalid character '\n' in string literal"),
        ("\x00", r"invalid character '\x00' looking for beginning of value"),
        ("é", "invalid character 'Ã' looking for beginning of value"),
        ('{"a":', "unexpected EOF"),
        ('"abc', "unexpected EOF"),
        ("[" * 5000, "exceeded max depth"),
        ('{"a": [1, -0.5e-3, true, false, null, "\\u00e9"], "b": {}} ', ""),
    ],
)
def test_what_is_wrong(text: str, sentence: str) -> None:
    assert syntax_error(text.encode()) == sentence


def test_a_long_text_holds_nobody_up() -> None:
    assert syntax_error(b"[" + b" " * (MOST_BYTES - 2) + b"x")
    assert syntax_error(b"[" + b" " * (MOST_BYTES - 1) + b"x") == ""
