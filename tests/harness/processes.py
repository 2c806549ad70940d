"""What the test process holds: descriptors and children. A test that leaves one fails itself.

Unseen, a leaked descriptor is closed whenever the garbage collector comes to its owner: during some later test,
that compares before and after, and fails for it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def open_descriptors() -> dict[str, str]:
    """What each number leads to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


def children() -> set[int]:
    """Also those that have ended and were not waited for."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends
            found.update(map(int, (task / "children").read_text().split()))
    return found
