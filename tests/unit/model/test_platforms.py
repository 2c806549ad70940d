"""Platform specifiers and matching, as tables."""

from __future__ import annotations

import pytest

from wherry.model import platforms
from wherry.model.errors import InvalidArgument
from wherry.model.image import Platform
from wherry.model.platforms import (
    amd64_level,
    best_match,
    format_platform,
    matches,
    parse_platform,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("arm64", "linux/arm64"),
        ("arm", "linux/arm"),
        ("windows/amd64", "windows/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
    ],
)
def test_parse_and_format(text: str, expected: str) -> None:
    assert format_platform(parse_platform(text)) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("foo", '"foo": unknown operating system or architecture: invalid argument'),
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
        (
            "linux/",
            (
                '"" is an invalid component of "linux/": platform specifier component must match'
                ' "^[A-Za-z0-9_.-]+$": invalid argument'
            ),
        ),
    ],
)
def test_bad_specifiers_have_dockers_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_platform(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("wanted", "candidates", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64"], 0),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64", ["linux/386"], 0),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], 1),
        ("linux/arm/v7", ["linux/arm"], 0),
        ("linux/arm", ["linux/arm/v7"], 0),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm64", ["linux/arm/v7"], 0),
        ("linux/s390x", ["linux/amd64", "linux/s390x"], 1),
        ("linux/riscv64", ["linux/amd64"], None),
        ("linux/arm/v999999999", ["linux/arm/v7"], None),
    ],
)
def test_best_match(wanted: str, candidates: list[str], chosen: int | None) -> None:
    assert (
        best_match(parse_platform(wanted), [parse_platform(text) for text in candidates]) == chosen
    )


def test_attestations_without_platform_never_match() -> None:
    assert best_match(Platform(), [None, Platform(os="unknown", architecture="unknown")]) is None


def test_matches_is_not_symmetric() -> None:
    assert matches(Platform(variant="v3"), Platform())
    assert not matches(Platform(), Platform(variant="v3"))


def test_amd64_levels_build_on_each_other() -> None:
    v2 = frozenset(["cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"])
    v3 = frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"])
    assert amd64_level(frozenset()) == ""
    assert amd64_level(v2) == "v2"
    assert amd64_level(v3) == ""
    assert amd64_level(v2 | v3) == "v3"


def test_the_host_matches_itself() -> None:
    host = platforms.host_platform()
    assert matches(host, host)
