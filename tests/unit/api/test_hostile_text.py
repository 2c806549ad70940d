"""Texts that are no UTF-8, and JSON that is too deep: an answer with a sentence, never a broken connection."""

from __future__ import annotations

import json

import pytest

from wherry.api.errors import error_response
from wherry.api.message import Query, json_response
from wherry.api.parameters import parse_filters, parse_platform_parameter
from wherry.engine.containers.security import decode_seccomp
from wherry.image.config import parse_json
from wherry.image.content import BadContent
from wherry.model.errors import Internal, InvalidArgument
from wherry.model.oci_image import BadManifest, parse_json_object
from wherry.wire.base import BodyError, Struct, decode_body

DEEP = b'{"a":' * 20_000 + b"1" + b"}" * 20_000


class Body(Struct):
    a: int = 0


def test_a_name_of_half_characters_in_an_error() -> None:
    body = error_response(404, "No such container: \udcff\ud800").body
    assert json.loads(body) == {"message": "No such container: \ufffd\ufffd"}


def test_file_names_that_are_no_utf8_in_an_answer() -> None:
    assert json.loads(json_response([{"Path": "/a\udcff"}]).body) == [{"Path": "/a\ufffd"}]


def test_parameters_are_text_and_paths_are_bytes() -> None:
    query = Query("name=a%ff&path=/x%ff%00")
    assert query.get("name") == "a\ufffd"
    assert query.get_path("path") == "/x\udcff\0"
    assert query.get_path("none") == ""


def test_json_that_is_too_deep() -> None:
    with pytest.raises(BodyError, match="max depth"):
        decode_body(DEEP, Body)
    with pytest.raises(InvalidArgument):
        parse_filters(Query(f"filters={DEEP.decode()}"))
    with pytest.raises(InvalidArgument):
        parse_platform_parameter(Query(f"platform={DEEP.decode()}"))
    with pytest.raises(Internal):
        decode_seccomp(DEEP.decode())


def test_half_characters_in_an_image_are_refused() -> None:
    config = b'{"config":{"Env":["A=\\ud800"]}}'
    with pytest.raises(BadContent):
        parse_json(config, "image config")
    with pytest.raises(BadManifest):
        parse_json_object(config, 1 << 20, "image configuration")
    assert parse_json(b'{"a":"\\ud83d\\ude00"}', "it") == {"a": "\U0001f600"}
