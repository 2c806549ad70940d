"""Layers of an image with their changes, and the lines of a check; of this engine only."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType


class LayerChange(Struct, kw_only=True, rename="pascal"):
    """Kind is 0 changed, 1 added, 2 deleted, as in a container's changes."""

    kind: int
    path: str
    size: int


class LayerItem(Struct, kw_only=True, rename="pascal"):
    """One of GET /wherry/images/{name}/layers."""

    id: str
    created_by: str
    size: int
    changes: list[LayerChange]


class CheckLine(Struct, kw_only=True):
    """One line of POST /wherry/check; the last one has the problems."""

    checking: str | UnsetType = UNSET
    problems: list[str] | UnsetType = UNSET
