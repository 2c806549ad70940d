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
