"""Answers of registries turned into Docker's words, and whether they are worth another try."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from wherry.registry.challenge import parse_challenges
from wherry.registry.errors import (
    ConnectionFailed,
    ContentMismatch,
    RegistryFailure,
    build_response_error,
)
from wherry.registry.retry import RetryPolicy, next_delay_s, parse_retry_after


@pytest.mark.parametrize(
    ("status", "body", "field", "sentence"),
    [
        (
            404,
            b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"9"}}]}',
            "",
            "manifest unknown: manifest unknown",
        ),
        (
            401,
            b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}',
            'Bearer realm="x",error="insufficient_scope"',
            (
                "errors:\ndenied: requested access to the resource is denied\n"
                "unauthorized: authentication required\n"
            ),
        ),
        (403, b'{"details":"no such thing for you"}', "", "denied: no such thing for you"),
        (
            429,
            b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}',
            "",
            "toomanyrequests: You have reached your pull rate limit.",
        ),
        (429, b"", "", "toomanyrequests: too many requests"),
        (503, b"<html>", "", "received unexpected HTTP status: 503 Service Unavailable"),
        (500, b'{"errors":[{"code":"UNKNOWN"}]}', "", "unknown: unknown error"),
        (
            404,
            b"<html>",
            "",
            (
                "error parsing HTTP 404 response body: no error details found in HTTP response body:"
                ' "<html>"'
            ),
        ),
        (401, b'{"errors": "what"}', "", "unauthorized: authentication required"),
    ],
)
def test_sentences(status: int, body: bytes, field: str, sentence: str) -> None:
    assert str(build_response_error(status, body, parse_challenges([field]))) == sentence


POLICY = RetryPolicy(max_attempts=3, first_delay_s=1, max_delay_s=8, max_retry_after_s=30)
RESET = ConnectionFailed("GET", "http://r/v2/", "connection reset by peer", refused=False)


@pytest.mark.parametrize(
    ("failure", "attempt", "delay"),
    [
        (RESET, 1, 1.0),
        (RESET, 2, 2.0),
        (RESET, 3, None),
        (build_response_error(503, b""), 1, 1.0),
        (build_response_error(503, b"", (), 5.0), 1, 5.0),
        (build_response_error(429, b"", (), 20.0), 1, 20.0),
        (build_response_error(429, b"", (), 3600.0), 1, None),
        (build_response_error(429, b""), 1, None),
        (build_response_error(404, b""), 1, None),
        (build_response_error(401, b""), 1, None),
        (build_response_error(500, b'{"errors":[{"code":"DENIED"}]}'), 1, None),
        (ContentMismatch("x"), 1, None),
    ],
)
def test_retry_decisions(failure: RegistryFailure, attempt: int, delay: float | None) -> None:
    assert next_delay_s(POLICY, failure, attempt) == delay


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Tue, 24 Nov 2026 10:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("99999999999999999999", None),
        ("", None),
    ],
)
def test_parse_retry_after(value: str, seconds: float | None) -> None:
    now = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
    assert parse_retry_after(value, now) == seconds
