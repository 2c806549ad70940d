"""Every error kind has a status, and the statuses are Docker's."""

from __future__ import annotations

import inspect

import pytest

from wherry.api.errors import STATUSES, error_response, find_status
from wherry.model import errors


def test_every_kind_is_mapped() -> None:
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.EngineError)
    ]
    assert kinds
    for kind in kinds:
        assert next(
            base for base in kind.__mro__ if base in STATUSES
        ) is not errors.EngineError or (kind is errors.EngineError)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NoSuchContainer("x"), 404),
        (errors.InvalidArgument("x"), 400),
        (errors.NameInUse("a", "b"), 409),
        (errors.NotModified("x"), 304),
        (errors.Unauthorized("x"), 401),
        (errors.Forbidden("x"), 403),
        (errors.Unavailable("x"), 503),
        (errors.NotSupported("x"), 501),
        (errors.Internal("x"), 500),
        (errors.StartFailed("x", 127), 400),
        (errors.StartFailed("x", 126), 400),
        (errors.StartFailed("x", 128), 500),
    ],
)
def test_statuses(error: errors.EngineError, status: int) -> None:
    assert find_status(error) == status


def test_not_modified_has_no_body() -> None:
    assert error_response(304, "already started").body == b""
