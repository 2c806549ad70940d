"""Patterns of clients: what they find, what is none, and that none takes long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.lib.pattern import Pattern, PatternError


@pytest.mark.parametrize(
    ("source", "text", "is_found"),
    [
        ("web", "my-web-1", True),
        ("", "anything", True),
        ("^/?web$", "/web", True),
        ("^web$", "web-1", False),
        ("^web$", "web\n", False),
        ("w.b", "w\nb", False),
        ("(?s)w.b", "w\nb", True),
        ("(?i)WEB_[a-c]", "web_B", True),
        ("(?i:W)EB", "wEB", True),
        ("(?i:W)EB", "web", False),
        ("(?m)^b$", "a\nb\nc", True),
        (r"\d{2,3}[^\d]", "a12b", True),
        (r"^\w+\s\W$", "ab_1 !", True),
        (r"\bweb\b", "a web.", True),
        (r"\bweb\b", "aweb", False),
        (r"a{2}", "aa", True),
        (r"a{,2}", "a{,2}", True),
        (r"a{x", "a{x", True),
        ("[]a]+$", "]a]", True),
        ("[a-]", "-", True),
        ("[[:alpha:]_]+[[:^digit:]]$", "ab_!", True),
        (r"\x41\x{42}\.", "AB.", True),
        (r"\Qa.b\E+", "a.bb", True),
        ("(?P<name>a)|(?:b|c)+?d", "bcbcd", True),
        ("(|a)+b", "aab", True),
    ],
)
def test_what_is_found(source: str, text: str, *, is_found: bool) -> None:
    assert Pattern(source).is_found_in(text) == is_found


@pytest.mark.parametrize(
    "source",
    [
        "(",
        ")",
        "a)",
        "[",
        "[b-a]",
        "*",
        "a**",
        "a{1001}",
        "a{2,1}",
        "\\",
        r"\y",
        "(?=a)",
        "(?P<",
        "[[:no:]]",
        r"\xg1",
        "(" * 60 + ")" * 60,
    ],
)
def test_what_is_none(source: str) -> None:
    with pytest.raises(PatternError):
        Pattern(source)


@pytest.mark.parametrize(
    "source",
    [
        "(a|a)*$Z|^(a|aa)+!",
        "(.|.)*Z",
        "(a*)*b",
        "a*a*a*a*a*a*a*a*a*a*b",
        "((a{0,30}){0,30}){0,30}b",
    ],
)
def test_patterns_that_go_back_for_ever(source: str) -> None:
    assert not Pattern(source).is_found_in("a" * 60)


def test_what_costs_too_much_is_said() -> None:
    pattern = Pattern("(((((.*)*a)*b)*c)*d)*Z$")
    with pytest.raises(PatternError, match="takes too long"):
        any(pattern.is_found_in("abcd" * 200) for _ in range(10_000))


atoms = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\w", "(?:^)", "(?:$)", r"(?:\b)", "(a|b)", "(?:ab|)"]
)
pieces = st.tuples(atoms, st.sampled_from(["", "", "*", "+", "?", "{2}", "{0,1}", "*?"]))


@settings(max_examples=500)
@given(
    st.lists(st.lists(pieces, max_size=4), min_size=1, max_size=3),
    st.text(alphabet="ab_- ", max_size=8),
)
def test_it_finds_what_re_finds(branches: list[list[tuple[str, str]]], text: str) -> None:
    source = "|".join("".join(atom + sign for atom, sign in branch) for branch in branches)
    assert Pattern(source).is_found_in(text) == (re.search(source, text) is not None)
