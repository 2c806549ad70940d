"""Which kernel this is, or is to be taken for.

Newer calls are tried, and their absence handled; WHERRY_ASSUME_KERNEL=6.1 makes the code walk the ways of an
older kernel on a newer one, so that tests can.
"""

from __future__ import annotations

import os


def parse_release(text: str) -> tuple[int, int]:
    """Major and minor of a release string: (6, 18) of "6.18.44-cloud"."""
    found: list[int] = []
    for part in text.split(".")[:2]:
        digits = ""
        for letter in part:
            if not letter.isdigit():
                break
            digits += letter
        found.append(int(digits or "0"))
    return found[0], found[1] if len(found) > 1 else 0


def may_use(major: int, minor: int) -> bool:
    """False when the environment says that the kernel is older than this version."""
    assumed = os.environ.get("WHERRY_ASSUME_KERNEL", "")
    return not assumed or parse_release(assumed) >= (major, minor)
