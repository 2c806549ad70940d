"""Sizes and times as people read them, in Docker's (go-units') words."""

from __future__ import annotations

DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def human_size(size: float, digits: int = 4) -> str:
    """`1.98MB`: `digits` significant digits, units of a thousand."""
    return _scale(size, 1000.0, DECIMAL, digits)


def binary_size(size: float, digits: int = 4) -> str:
    """`1.891MiB`: units of 1024."""
    return _scale(size, 1024.0, BINARY, digits)


def _scale(size: float, base: float, units: tuple[str, ...], digits: int) -> str:
    at = 0
    while size >= base and at < len(units) - 1:
        size /= base
        at += 1
    return f"{format_general(size, digits)}{units[at]}"


def format_general(value: float, digits: int) -> str:
    """Go's %.{digits}g: significant digits without trailing zeros, an exponent of two digits."""
    return f"{value:.{digits}g}"


def human_duration(seconds: float) -> str:
    """`About a minute`, `3 hours`, `2 years`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"
