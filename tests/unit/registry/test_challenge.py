"""WWW-Authenticate fields as registries send them, and scopes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.registry.challenge import (
    Challenge,
    merge_scopes,
    parse_challenges,
    repository_scope,
)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ('Basic realm="basic-realm"', [("basic", {"realm": "basic-realm"})]),
        (
            (
                'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
                'scope="repository:library/node:pull,push"'
            ),
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:library/node:pull,push",
                    },
                )
            ],
        ),
        (
            'Basic realm="a, b", Bearer realm="https://t" , error="insufficient_scope"',
            [
                ("basic", {"realm": "a, b"}),
                ("bearer", {"realm": "https://t", "error": "insufficient_scope"}),
            ],
        ),
        ("bEaReR Realm = https, service=x", [("bearer", {"realm": "https", "service": "x"})]),
        ('Basic realm="say \\"hi\\" \\\\"', [("basic", {"realm": 'say "hi" \\'})]),
        ("Negotiate", [("negotiate", {})]),
        ("Negotiate YWJj==, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Basic, Bearer realm=x", [("basic", {}), ("bearer", {"realm": "x"})]),
        ('Basic realm="unterminated', [("basic", {})]),
        ("", []),
        (",,, ,", []),
        ("=", []),
        ("Bearer realm=a,realm=b", [("bearer", {"realm": "a"})]),
    ],
)
def test_parse_challenges(field: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges([field]) == tuple(
        Challenge(scheme=scheme, parameters=parameters) for scheme, parameters in expected
    )


def test_several_fields_keep_their_order() -> None:
    found = parse_challenges(["Basic realm=a", "Bearer realm=b"])
    assert [challenge.scheme for challenge in found] == ["basic", "bearer"]


@given(st.text(max_size=200))
def test_no_input_breaks_the_parser(text: str) -> None:
    parse_challenges([text])


@pytest.mark.parametrize(
    ("scopes", "merged"),
    [
        ([], ()),
        ([repository_scope("library/node", "pull")], ("repository:library/node:pull",)),
        (["repository:a:push,pull", "repository:a:pull"], ("repository:a:pull,push",)),
        (
            ["repository:b:pull", "repository:a:pull repository:b:push"],
            ("repository:a:pull", "repository:b:pull,push"),
        ),
        (["registry:catalog:*"], ("registry:catalog:*",)),
    ],
)
def test_merge_scopes(scopes: list[str], merged: tuple[str, ...]) -> None:
    assert merge_scopes(scopes) == merged
