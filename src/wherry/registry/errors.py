"""What a registry or the way to it answered, as typed errors, with Docker's wording.

    RegistryFailure
    ├── ConnectionFailed   no answer: name, connection, TLS, time-out, broken stream
    ├── ResponseError      an answer that means failure; carries status and the specification's error codes
    │   └── TokenRefused   the same, of the token server that the registry names
    ├── NoCredentials      the registry wants basic authentication and there is none to give
    └── ContentMismatch    a manifest or blob that is not what its digest or size says

None of them is an `EngineError`: pull, push and login know the reference and turn them into sentences.
Codes: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

from wherry.lib.jsonvalue import JsonError, JsonValue, get_objects, get_str
from wherry.registry.challenge import Challenge

# Messages of distribution's registry/api/errcode, used when an answer gives a code alone.
_DEFAULT_MESSAGES = {
    "UNKNOWN": "unknown error",
    "UNSUPPORTED": "The operation is unsupported.",
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "UNAVAILABLE": "service unavailable",
    "TOOMANYREQUESTS": "too many requests",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "SIZE_INVALID": "provided length did not match content length",
    "NAME_INVALID": "invalid repository name",
    "TAG_INVALID": "manifest tag did not match URI",
    "NAME_UNKNOWN": "repository name not known to registry",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "MANIFEST_INVALID": "manifest invalid",
    "MANIFEST_UNVERIFIED": "manifest failed signature verification",
    "MANIFEST_BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
    "BLOB_UPLOAD_INVALID": "blob upload invalid",
}

# Bearer challenges of RFC 6750 section 3.1 that say more than the body.
_BEARER_ERRORS = {"invalid_token": "UNAUTHORIZED", "insufficient_scope": "DENIED"}

# GitHub-style bodies, {"details": "..."}, and empty ones: the status alone gives the code.
_STATUS_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """One entry of the specification's `errors` array."""

    code: str
    message: str

    def __str__(self) -> str:
        """`manifest unknown: manifest unknown`, as distribution's clients print it."""
        return f"{self.code.lower().replace('_', ' ')}: {self.message}"


class RegistryFailure(Exception):
    """Base of all of them."""


class ConnectionFailed(RegistryFailure):
    """No complete answer. `refused` = the server cannot have seen the request; `reason` is Go's wording."""

    def __init__(self, method: str, url: str, reason: str, *, refused: bool) -> None:
        super().__init__(f'{method.capitalize()} "{url}": {reason}')
        self.url = url
        self.reason = reason
        self.refused = refused


class NoCredentials(RegistryFailure):
    """Basic authentication is wanted, none was given."""

    def __init__(self, method: str, url: str) -> None:
        super().__init__(f'{method.capitalize()} "{url}": no basic auth credentials')


class ContentMismatch(RegistryFailure):
    """What came is not what was asked for."""


class ResponseError(RegistryFailure):
    """An answer of 400 and above. `code` is the first error's, or one that the status stands for."""

    def __init__(
        self,
        status: int,
        errors: tuple[ErrorInfo, ...],
        sentence: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(sentence or _join(errors) or unexpected_status(status))
        self.status = status
        self.errors = errors
        self.retry_after_s = retry_after_s

    @property
    def code(self) -> str:
        return self.errors[0].code if self.errors else ""


class TokenRefused(ResponseError):
    """The token server does not give a token for these credentials and scopes."""

    @classmethod
    def of(cls, answer: ResponseError) -> TokenRefused:
        """The token server's answer."""
        return cls(answer.status, answer.errors, str(answer), answer.retry_after_s)


def _join(errors: tuple[ErrorInfo, ...]) -> str:
    if len(errors) == 1:
        return str(errors[0])
    return "errors:\n" + "".join(f"{error}\n" for error in errors) if errors else ""


def unexpected_status(status: int) -> str:
    """`received unexpected HTTP status: 503 Service Unavailable`."""
    return f"received unexpected HTTP status: {format_status(status)}"


def format_status(status: int) -> str:
    """`401 Unauthorized`."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def build_response_error(
    status: int,
    body: bytes,
    challenges: tuple[Challenge, ...] = (),
    retry_after_s: float | None = None,
) -> ResponseError:
    """The error that an answer stands for, by the rules of distribution's client (HandleErrorResponse)."""
    if status >= 500 and not _listed_errors(body):
        return ResponseError(status, (), retry_after_s=retry_after_s)
    errors = _bearer_error(challenges) + _listed_errors(body)
    if errors:
        return ResponseError(status, errors, retry_after_s=retry_after_s)
    if status in _STATUS_CODES:
        code = _STATUS_CODES[status]
        message = _details(body) or _DEFAULT_MESSAGES[code]
        return ResponseError(
            status, (ErrorInfo(code=code, message=message),), retry_after_s=retry_after_s
        )
    shown = body[:512].decode(errors="replace")
    return ResponseError(
        status,
        (),
        f"error parsing HTTP {status} response body: no error details found in HTTP response body:"
        f" {json.dumps(shown)}",
        retry_after_s,
    )


def _bearer_error(challenges: tuple[Challenge, ...]) -> tuple[ErrorInfo, ...]:
    for challenge in challenges:
        code = _BEARER_ERRORS.get(challenge.parameters.get("error", ""))
        if challenge.scheme == "bearer" and code is not None:
            message = challenge.parameters.get("error_description") or _DEFAULT_MESSAGES[code]
            return (ErrorInfo(code=code, message=message),)
    return ()


def _parse_object(body: bytes) -> dict[str, JsonValue]:
    try:
        document: JsonValue = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _listed_errors(body: bytes) -> tuple[ErrorInfo, ...]:
    try:
        entries = get_objects(_parse_object(body), "errors")
        listed = []
        for entry in entries:
            code = get_str(entry, "code", "UNKNOWN").upper()
            message = get_str(entry, "message") or _DEFAULT_MESSAGES.get(code, code.lower())
            listed.append(ErrorInfo(code=code, message=message))
    except JsonError:
        return ()
    return tuple(listed)


def _details(body: bytes) -> str:
    try:
        return get_str(_parse_object(body), "details")
    except JsonError:
        return ""
