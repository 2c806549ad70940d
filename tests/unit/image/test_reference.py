"""References: Docker's grammar and sentences; each row was asked of dockerd 28.5."""

from __future__ import annotations

import pytest

from wherry.image.reference import parse_reference
from wherry.model.errors import InvalidArgument

_HEX = "0" * 64


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("node", "docker.io/library/node", "node"),
        ("node:lts-slim", "docker.io/library/node:lts-slim", "node:lts-slim"),
        ("library/node", "docker.io/library/node", "node"),
        ("docker.io/node", "docker.io/library/node", "node"),
        ("index.docker.io/node", "docker.io/library/node", "node"),
        ("bitnami/redis:7", "docker.io/bitnami/redis:7", "bitnami/redis:7"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("UP/foo", "UP/foo", "UP/foo"),
        ("FOO.com/x", "FOO.com/x", "FOO.com/x"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        (f"x:1@sha256:{_HEX}", f"docker.io/library/x:1@sha256:{_HEX}", f"x:1@sha256:{_HEX}"),
        ("x:_-", "docker.io/library/x:_-", "x:_-"),
        ("a__b/c-d.e", "docker.io/a__b/c-d.e", "a__b/c-d.e"),
    ],
)
def test_names_are_normalised(text: str, canonical: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert reference.canonical() == canonical
    assert reference.familiar() == familiar
    assert parse_reference(canonical) == reference


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("foo/UP:x", "invalid reference format: repository name (foo/UP) must be lowercase"),
        ("a:b:c", "invalid reference format"),
        ("", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("ä", "invalid reference format"),
        ("a@sha256:abc", "invalid reference format"),
        ("x@sha256:" + "0" * 33, "invalid checksum digest length"),
        ("a@md5:" + "0" * 32, "unsupported digest algorithm"),
        ("x.y/" + "a" * 256, "repository name must not be more than 255 characters"),
        (
            _HEX,
            f"invalid repository name ({_HEX}), cannot specify 64-byte hexadecimal strings",
        ),
    ],
)
def test_bad_names_get_dockers_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_reference(text)
    assert str(caught.value) == sentence


def test_default_tag_only_when_nothing_is_given() -> None:
    assert parse_reference("a").with_default_tag().tag == "latest"
    assert parse_reference(f"a@sha256:{_HEX}").with_default_tag().tag == ""
