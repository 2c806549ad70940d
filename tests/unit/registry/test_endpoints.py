"""Which addresses a registry is asked at, how TLS is spoken, and when a proxy is used."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from wherry.model.errors import InvalidArgument
from wherry.registry.endpoints import (
    Endpoint,
    build_registry_config,
    build_tls_context,
    find_proxy,
    split_host_port,
)


@pytest.mark.parametrize(
    ("domain", "insecure", "addresses", "urls"),
    [
        ("docker.io", [], [], ["https://registry-1.docker.io"]),
        ("quay.example", [], [], ["https://quay.example"]),
        (
            "127.0.0.1:5000",
            [],
            [],
            ["https://127.0.0.1:5000 unverified", "http://127.0.0.1:5000 unverified"],
        ),
        ("localhost", [], [], ["https://localhost unverified", "http://localhost unverified"]),
        ("[::1]:5000", [], [], ["https://[::1]:5000 unverified", "http://[::1]:5000 unverified"]),
        (
            "lab:5000",
            ["lab:5000"],
            [],
            ["https://lab:5000 unverified", "http://lab:5000 unverified"],
        ),
        ("lab:5001", ["lab:5000"], [], ["https://lab:5001"]),
        ("lab:5001", ["lab"], [], ["https://lab:5001 unverified", "http://lab:5001 unverified"]),
        ("lab", ["10.0.0.0/8"], ["10.1.2.3"], ["https://lab unverified", "http://lab unverified"]),
        ("lab", ["10.0.0.0/8"], ["11.1.2.3"], ["https://lab"]),
        (
            "10.9.8.7",
            ["10.0.0.0/8"],
            [],
            ["https://10.9.8.7 unverified", "http://10.9.8.7 unverified"],
        ),
        ("docker.io", ["0.0.0.0/0"], ["1.2.3.4"], ["https://registry-1.docker.io"]),
    ],
)
def test_endpoints(domain: str, insecure: list[str], addresses: list[str], urls: list[str]) -> None:
    found = build_registry_config((), insecure).endpoints_for(domain, addresses)
    assert [e.url + ("" if e.verify_tls else " unverified") for e in found] == urls


def test_mirrors_come_first_and_serve_their_registry_only() -> None:
    config = build_registry_config(
        ["https://one/", "http://127.0.0.1:1", "ghcr.io=https://cache/g"]
    )
    assert [e.url for e in config.endpoints_for("docker.io")] == [
        "https://one",
        "http://127.0.0.1:1",
        "https://registry-1.docker.io",
    ]
    assert [e.url for e in config.endpoints_for("ghcr.io")] == [
        "https://cache/g",
        "https://ghcr.io",
    ]
    assert [e.is_mirror for e in config.endpoints_for("ghcr.io")] == [True, False]
    assert [e.url for e in config.endpoints_for("quay.io")] == ["https://quay.io"]


@pytest.mark.parametrize(
    "mirror", ["ftp://x", "x", "https://", "https://u:p@x", "https://x?y", "https://x#y", ""]
)
def test_bad_mirrors_are_refused(mirror: str) -> None:
    with pytest.raises(InvalidArgument):
        build_registry_config([mirror])


def test_a_bad_insecure_registry_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        build_registry_config((), ["host/path"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host", ("host", "")),
        ("host:5000", ("host", "5000")),
        ("[::1]:5000", ("::1", "5000")),
        ("[::1]", ("::1", "")),
    ],
)
def test_split_host_port(text: str, expected: tuple[str, str]) -> None:
    assert split_host_port(text) == expected


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://r/v2/", {}, None),
        ("https://r/v2/", {"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https://r/v2/", {"https_proxy": "p:3128"}, "http://p:3128"),
        ("http://r/v2/", {"HTTPS_PROXY": "http://p:3128"}, None),
        ("http://r/v2/", {"HTTP_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https://127.0.0.1:5000/", {"HTTPS_PROXY": "http://p"}, None),
        ("https://localhost/", {"HTTPS_PROXY": "http://p"}, None),
        ("https://a.lab/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "lab"}, None),
        ("https://lab/", {"HTTPS_PROXY": "http://p", "NO_PROXY": ".lab"}, "http://p"),
        ("https://a.lab/", {"HTTPS_PROXY": "http://p", "no_proxy": "x, .lab"}, None),
        ("https://alab/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "lab"}, "http://p"),
        ("https://10.1.1.1/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://11.1.1.1/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, "http://p"),
        ("https://lab:5000/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "lab:5000"}, None),
        ("https://lab:5001/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "lab:5000"}, "http://p"),
        ("https://x/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, None),
    ],
)
def test_find_proxy(url: str, environment: dict[str, str], proxy: str | None) -> None:
    assert find_proxy(url, environment) == proxy


def test_tls_without_certificates_is_the_systems(tmp_path: Path) -> None:
    assert build_tls_context(Endpoint(url="https://r"), [tmp_path]) is True


def test_tls_of_an_insecure_registry_verifies_nothing(tmp_path: Path) -> None:
    context = build_tls_context(Endpoint(url="https://r", verify_tls=False), [tmp_path])
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize("name", ["client.cert", "client.key"])
def test_half_a_client_certificate_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "r:5000").mkdir()
    (tmp_path / "r:5000" / name).write_text("")
    with pytest.raises(InvalidArgument):
        build_tls_context(Endpoint(url="https://r:5000"), [tmp_path])
