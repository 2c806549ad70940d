"""Paths as Go's `path.Clean` has them."""

from __future__ import annotations

import posixpath


def clean_path(path: str) -> str:
    """`normpath`, which keeps two leading slashes (POSIX lets them mean something), with one of them."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned
