"""The build cache: which step gave which layers. Records in the state database, layers in the layer store.

A record whose layers are gone is as good as none. Layers that a record names are kept by garbage collection
until the record is pruned. `fresh` holds results whose layers are still being packed: they have no record yet.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import replace

from wherry.engine.build.layers import Chain, Layer, Solved
from wherry.engine.build.records import CacheItem, CacheRecord, PendingRecord, short_cache_id
from wherry.engine.clock import now
from wherry.engine.images import Images
from wherry.engine.store import Store, Table
from wherry.lib.ids import read_boot_id
from wherry.model.image import Digest


class BuildCache:
    """Records of one engine."""

    def __init__(self, store: Store, images: Images) -> None:
        self._table = Table(store, "build_cache", CacheRecord)
        self._store = store
        self._images = images
        self._records = dict(self._table.items())
        self._pending = Table(store, "build_pending", PendingRecord)
        self._boot_id = read_boot_id()
        self.fresh: dict[str, Solved] = {}

    def find(self, key: str) -> CacheRecord | None:
        """The record, with all its layers there; its use is noted."""
        record = self._records.get(key)
        if record is None:
            return None
        if not all(self._images.layers.has(Digest(diff_id)) for diff_id in record.layers):
            self.drop(key)
            return None
        record = replace(record, last_used=now(), use_count=record.use_count + 1)
        self._records[key] = record
        return record

    def peek(self, key: str) -> CacheRecord | None:
        """The record, its use not noted."""
        return self._records.get(key)

    def put(self, key: str, record: CacheRecord) -> None:
        """Inserts or replaces."""
        self._records[key] = record
        with self._store.transaction():
            self._table.put(key, record)
            self._pending.delete(key)

    def promise(
        self, key: str, record: CacheRecord, chain: Chain, own: Layer | None, epoch: int
    ) -> None:
        """Notes a finished step whose record `put` will follow, for an engine that comes after a crash."""
        self._pending.put(
            key,
            PendingRecord(
                record=record,
                layers=tuple(_name(layer) for layer in chain.layers),
                own=_name(own) if own is not None else "",
                epoch=epoch,
                boot_id=self._boot_id,
                time_ns=time.time_ns(),
            ),
        )

    def take_promises(self) -> list[tuple[str, PendingRecord]]:
        """Those of an engine that crashed, oldest first; they are forgotten here."""
        found = list(self._pending.items())
        for key, _ in found:
            self._pending.delete(key)
        usable = [pair for pair in found if pair[1].boot_id == self._boot_id]
        return sorted(usable, key=lambda pair: pair[1].time_ns)

    def drop(self, key: str) -> None:
        """Forgets; idempotent."""
        self._records.pop(key, None)
        self._table.delete(key)

    def save_uses(self, keys: Iterable[str]) -> None:
        """Writes when records were used last, once a build."""
        with self._store.transaction():
            for key in keys:
                record = self._records.get(key)
                if record is not None:
                    self._table.put(key, record)

    def layers(self) -> set[Digest]:
        """What garbage collection must keep."""
        return {Digest(layer) for record in self._records.values() for layer in record.layers}

    def items(self, in_use: Collection[str]) -> list[CacheItem]:
        """All steps but those that only change the config; `in_use` are keys of builds that go on."""
        used = {layer for image in self._images.all() for layer in image.diff_ids}
        shown = {key: rec for key, rec in self._records.items() if self._is_shown(key, rec)}
        makers = {record.layers: key for key, record in shown.items() if record.size_bytes}
        items: list[CacheItem] = []
        for key, record in shown.items():
            own = record.layers[-1:] if record.size_bytes else ()
            parent = makers.get(record.layers[: -len(own) or None]) if record.layers else None
            items.append(
                CacheItem(
                    key=key,
                    kind=record.kind,
                    description=record.description,
                    parents=(short_cache_id(parent),) if parent not in {None, key} else (),
                    in_use=key in in_use,
                    shared=any(layer in used for layer in own),
                    size_bytes=record.size_bytes,
                    created=record.created,
                    last_used=record.last_used,
                    use_count=record.use_count,
                )
            )
        return items

    def _is_shown(self, key: str, record: CacheRecord) -> bool:
        """Not when it is but another name of a step that is shown."""
        is_alias = record.result != key and record.result in self._records
        return record.kind != "internal" and not is_alias

    def forget(self, keys: Collection[str]) -> None:
        """Drops steps and their other names."""
        with self._store.transaction():
            for key, record in list(self._records.items()):
                if key in keys or record.result in keys:
                    self.drop(key)

    def forget_configs(self) -> None:
        """Drops the steps that only change the config."""
        self.forget([key for key, record in self._records.items() if record.kind == "internal"])


def _name(layer: Layer) -> str:
    if layer.diff_id is not None:
        return layer.diff_id
    return layer.upper.parent.name if layer.upper is not None else ""
