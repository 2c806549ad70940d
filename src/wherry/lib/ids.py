"""Identifiers: 64 random hexadecimal digits, as Docker makes them, and their short form."""

from __future__ import annotations

import os
from pathlib import Path

_HEX = frozenset("0123456789abcdef")


def new_id() -> str:
    """64 hexadecimal digits whose first 12 are not all decimal.

    A short id of digits alone would be read as a number where one is used as a host name
    (moby pkg/stringid does the same).
    """
    while True:
        candidate = os.urandom(32).hex()
        if not candidate[:12].isdecimal():
            return candidate


def short_id(identifier: str) -> str:
    """The first 12 digits, without an algorithm prefix."""
    return identifier.removeprefix("sha256:")[:12]


def is_id_prefix(text: str) -> bool:
    """True when the text could abbreviate an id."""
    return 0 < len(text) <= 64 and _HEX.issuperset(text)


def read_boot_id() -> str:
    """Which boot of this machine it is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
