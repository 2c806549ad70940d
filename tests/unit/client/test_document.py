"""JSON without the json module's imports: the same values, in whole and in streams."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.client.document import (
    MalformedDocument,
    decode,
    decode_stream,
    encode,
    flag_of,
    mapping_of,
    number_of,
    strings_of,
    text_of,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_values_come_back(value: object) -> None:
    assert decode(json.dumps(value)) == value
    assert json.loads(encode(value)) == value


@given(st.lists(VALUES, max_size=4), st.integers(min_value=0, max_value=60))
def test_a_cut_stream_gives_what_is_complete(values: list[object], cut: int) -> None:
    text = "".join(json.dumps({"v": value}) + "\r\n" for value in values)
    first, rest = decode_stream(text[:cut])
    second, rest = decode_stream(rest + text[cut:])
    assert [*first, *second] == [{"v": value} for value in values]
    assert not rest.strip()


def test_a_cut_stream_where_json_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "json.decoder")
    text = '{"status":"Downloading","id":"1"}\r\n{"a":[1,{"b":"c"}]}\r\n'
    whole, _ = decode_stream(text)
    for cut in range(len(text)):
        first, rest = decode_stream(text[:cut])
        second, rest = decode_stream(rest + text[cut:])
        assert ([*first, *second], rest.strip()) == (whole, "")


@pytest.mark.parametrize("text", ["", "{", '{"a":}', "{} x", "nope"])
def test_what_is_no_document(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MalformedDocument):
        decode(text)
    monkeypatch.delitem(sys.modules, "json.decoder")  # as in a command, which imports no json
    with pytest.raises(MalformedDocument):
        decode(text)


def test_members_of_another_type_count_as_absent() -> None:
    document = {"s": 1, "n": "x", "b": "true", "m": [], "l": [1, "a"]}
    assert text_of(document, "s") == ""
    assert number_of(document, "n") == 0
    assert flag_of(document, "b") is False
    assert mapping_of(document, "m") == {}
    assert strings_of(document, "l") == ["a"]
