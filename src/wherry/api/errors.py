"""Error kinds → HTTP statuses: the only table of them, and Docker's error body."""

from __future__ import annotations

from wherry.api.message import BodyTooLarge, Response, json_response
from wherry.model.errors import (
    Conflict,
    EngineError,
    Forbidden,
    Internal,
    InvalidArgument,
    NotFound,
    NotModified,
    NotSupported,
    StartFailed,
    Unauthorized,
    Unavailable,
)
from wherry.wire.system import ErrorResponse

STATUSES: dict[type[EngineError], int] = {
    NotFound: 404,
    InvalidArgument: 400,
    Conflict: 409,
    NotModified: 304,
    Unauthorized: 401,
    Forbidden: 403,
    Unavailable: 503,
    NotSupported: 501,
    Internal: 500,
    StartFailed: 500,
    BodyTooLarge: 413,
    EngineError: 500,
}


def find_status(error: EngineError) -> int:
    """The status of an error's kind; the nearest one in its class tree."""
    if isinstance(error, StartFailed):
        # moby translates 126 and 127 to InvalidParameter (daemon/errors.go, translateContainerdStartErr).
        return 400 if error.exit_code in {126, 127} else 500
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def error_response(status: int, message: str) -> Response:
    """Docker's error body."""
    if status == 304:
        return Response(304)
    return json_response(ErrorResponse(message), status)
