"""Which sources of ADD, and which contexts, are fetched from elsewhere."""

from __future__ import annotations

import re

_GIT_URL = re.compile(r"(git@[\w.-]+:|git://|ssh://|github\.com/)|(https?://.+\.git)(#.*)?$")


def is_url(source: str) -> bool:
    """Whether a source is downloaded."""
    return source.startswith(("http://", "https://"))


def is_git(source: str) -> bool:
    """Whether a source is a git repository."""
    return _GIT_URL.match(source) is not None
