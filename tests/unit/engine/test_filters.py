"""Filters of lists."""

import pytest

from wherry.engine.filters import InvalidFilter, check_filters, flag_filter, match_labels


def test_unknown_names_are_refused() -> None:
    check_filters({"label": ["a"]}, ("label", "until"))
    with pytest.raises(InvalidFilter, match="invalid filter 'nope'"):
        check_filters({"nope": ["a"]}, ("label",))


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [([], True), (["a"], True), (["a=1"], True), (["a=2"], False), (["a", "b"], False)],
)
def test_labels_add_up(wanted: list[str], matches: bool) -> None:
    assert match_labels(wanted, {"a": "1"}) is matches


def test_flags() -> None:
    assert flag_filter({}, "dangling", default=True)
    assert flag_filter({"dangling": ["1"]}, "dangling", default=False)
    assert not flag_filter({"dangling": ["false"]}, "dangling", default=True)
    with pytest.raises(InvalidFilter, match=r"invalid filter 'dangling=\[x\]'"):
        flag_filter({"dangling": ["x"]}, "dangling", default=True)
