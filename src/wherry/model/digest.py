"""The type of content digests, alone: workers need it and not the records, which cost 15 ms to import."""

from __future__ import annotations

from typing import NewType

Digest = NewType("Digest", str)  # "sha256:<64 hex>"
