"""Named volumes as frozen records; also the persisted form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One volume. `mountpoint` is its directory on this machine."""

    name: str
    mountpoint: str
    created_at: str  # RFC 3339, seconds, local time as Docker writes it
    driver: str = "local"
    scope: str = "local"
    labels: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None
    anonymous: bool = False
