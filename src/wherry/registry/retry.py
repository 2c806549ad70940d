"""Whether a failed request is worth another try, and when: pure decisions, no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from wherry.registry.errors import ConnectionFailed, RegistryFailure, ResponseError

# Statuses that pass: request time-out, too early, too many requests, and the gateways' (ggcr's table).
_TEMPORARY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 522, 524})

# Codes that stay true however often one asks, whatever status carries them.
_FINAL_CODES = frozenset(
    {"DENIED", "MANIFEST_UNKNOWN", "NAME_UNKNOWN", "UNAUTHORIZED", "UNSUPPORTED"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`max_attempts` is Docker's --max-download-attempts; delays double from `first_delay_s`."""

    max_attempts: int = 5
    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    max_retry_after_s: float = 60.0


def is_temporary(failure: RegistryFailure) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(failure, ConnectionFailed):
        return True
    if isinstance(failure, ResponseError):
        return failure.status in _TEMPORARY_STATUSES and failure.code not in _FINAL_CODES
    return False


def next_delay_s(policy: RetryPolicy, failure: RegistryFailure, attempt: int) -> float | None:
    """Seconds to wait after the `attempt`-th failure (from 1) in a row; None = give up.

    A server that asks for more patience than `max_retry_after_s` (a spent pull quota, for hours) is not
    waited for: the user gets its sentence now. A 429 without Retry-After is such a quota as well.
    """
    if attempt >= policy.max_attempts or not is_temporary(failure):
        return None
    delay = min(policy.first_delay_s * float(2 ** (attempt - 1)), policy.max_delay_s)
    if not isinstance(failure, ResponseError):
        return delay
    if failure.retry_after_s is None:
        return None if failure.status == 429 else delay
    if failure.retry_after_s > policy.max_retry_after_s:
        return None
    return max(delay, failure.retry_after_s)


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Seconds of a Retry-After field: a number, or an HTTP date; None when it is neither."""
    text = value.strip()
    if text.isdecimal() and len(text) <= 9:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - now).total_seconds(), 0.0)
