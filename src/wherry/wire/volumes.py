"""Volumes in the Engine API's JSON."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType


class UsageData(Struct, kw_only=True, rename="pascal"):
    """What a volume takes, in `system df`; -1 = not known."""

    ref_count: int
    size: int


class Volume(Struct, kw_only=True, rename="pascal"):
    """GET /volumes/{name}."""

    created_at: str | UnsetType = UNSET
    driver: str
    labels: dict[str, str] | None
    mountpoint: str
    name: str
    options: dict[str, str] | None
    scope: str
    usage_data: UsageData | UnsetType = UNSET


class ListResponse(Struct, kw_only=True, rename="pascal"):
    """GET /volumes."""

    volumes: list[Volume]
    warnings: list[str] | None = None


class CreateRequest(Struct, kw_only=True, rename="pascal"):
    """POST /volumes/create."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class PruneReport(Struct, kw_only=True, rename="pascal"):
    """POST /volumes/prune."""

    volumes_deleted: list[str] | None
    space_reclaimed: int
