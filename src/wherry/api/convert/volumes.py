"""Volumes: model records → the Engine API's JSON."""

from __future__ import annotations

from msgspec import UNSET

from wherry.model.volume import Volume
from wherry.wire import volumes as wire


def build_volume(volume: Volume, usage: tuple[int, int] | None = None) -> wire.Volume:
    """GET /volumes/{name}; `usage` is the number of containers and bytes, for `system df`."""
    return wire.Volume(
        created_at=volume.created_at or UNSET,
        driver=volume.driver,
        labels=None if volume.labels is None else dict(volume.labels),
        mountpoint=volume.mountpoint,
        name=volume.name,
        options=None if volume.options is None else dict(volume.options),
        scope=volume.scope,
        usage_data=UNSET if usage is None else wire.UsageData(ref_count=usage[0], size=usage[1]),
    )
