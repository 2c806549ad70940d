"""Generated names."""

import re

from wherry.engine.containers.validate import check_name
from wherry.engine.names import ADJECTIVES, SURNAMES, build_name


def test_names_are_adjective_and_surname() -> None:
    name = build_name(lambda _: False)
    adjective, _, surname = name.partition("_")
    assert adjective in ADJECTIVES
    assert surname in SURNAMES
    assert check_name(name) == name


def test_lists_have_no_doubles_and_only_letters() -> None:
    for words in (ADJECTIVES, SURNAMES):
        assert len(set(words)) == len(words)
        assert all(re.fullmatch("[a-z]+", word) for word in words)


def test_a_digit_is_added_when_all_are_taken() -> None:
    assert re.fullmatch(r"[a-z]+_[a-z]+\d+", build_name(lambda name: name[-1].isalpha()))
