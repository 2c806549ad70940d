"""The build cache: which step gave which layers. Records in the state database, layers in the layer store.

A record whose layers are gone is as good as none. Layers that a record names are kept by garbage collection
until the record is pruned. `fresh` holds results whose layers are still being packed: they have no record yet.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.engine.build.layers import Chain, Layer, Solved
from wherry.engine.build.records import CacheRecord, PendingRecord
from wherry.engine.clock import now, parse_time
from wherry.engine.images import Images
from wherry.engine.store import Store, Table
from wherry.model.errors import InvalidArgument
from wherry.model.image import Digest

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|m|s|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One record as `builder du` shows it."""

    key: str
    record: CacheRecord
    in_use: bool
    shared: bool


class BuildCache:
    """Records of one engine."""

    def __init__(self, store: Store, images: Images) -> None:
        self._table = Table(store, "build_cache", CacheRecord)
        self._store = store
        self._images = images
        self._records = dict(self._table.items())
        self._pending = Table(store, "build_pending", PendingRecord)
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
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

    def entries(self) -> Iterator[CacheEntry]:
        """All records, the most recently used first."""
        used = self._image_layers()
        ordered = sorted(
            self._records.items(), key=lambda item: (item[1].last_used, item[0]), reverse=True
        )
        for key, record in ordered:
            if record.kind == "internal":
                continue
            own = record.layers[-1:] if record.size_bytes else ()
            shared = any(layer in used for layer in own)
            yield CacheEntry(key=key, record=record, in_use=False, shared=shared)

    def _image_layers(self) -> set[str]:
        return {layer for image in self._images.all() for layer in image.diff_ids}

    def prune(
        self, *, all_: bool, keep_bytes: int, filters: Mapping[str, Sequence[str]]
    ) -> tuple[list[str], int]:
        """Forgets records; answers their keys and the bytes that no image needs any more.

        Without `all_`, records whose layer an image has stay (pruning them frees nothing).
        """
        chosen = [
            entry
            for entry in self.entries()
            if (all_ or not entry.shared or not entry.record.size_bytes)
            and _matches(entry, filters)
        ]
        total = sum(entry.record.size_bytes for entry in self.entries())
        deleted: list[str] = []
        freed = 0
        with self._store.transaction():
            for entry in reversed(chosen):
                if keep_bytes and total <= keep_bytes:
                    break
                total -= entry.record.size_bytes
                if not entry.shared:
                    freed += entry.record.size_bytes
                self.drop(entry.key)
                deleted.append(entry.key)
            if all_ and not filters and not keep_bytes:
                for key in [key for key, rec in self._records.items() if rec.kind == "internal"]:
                    self.drop(key)
        return deleted, freed


def _name(layer: Layer) -> str:
    if layer.diff_id is not None:
        return layer.diff_id
    return layer.upper.parent.name if layer.upper is not None else ""


def _matches(entry: CacheEntry, filters: Mapping[str, Sequence[str]]) -> bool:
    record = entry.record
    for name, values in filters.items():
        match name:
            case "until" | "unused-for":
                limits = [time.time() - parse_age(value) for value in values]
                if any(parse_time(record.last_used) / 1e9 > limit for limit in limits):
                    return False
            case "id":
                if not any(entry.key.startswith(value) for value in values):
                    return False
            case "type":
                if record.kind not in values:
                    return False
            case "description":
                if not any(fnmatch.fnmatch(record.description, f"*{value}*") for value in values):
                    return False
            case "shared" | "private" | "inuse":
                pass
            case _:
                raise InvalidArgument(f"invalid filter '{name}'")
    return True


def parse_age(text: str) -> float:
    """`24h`, `1h30m`, `10d`: seconds. Raises InvalidArgument."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidArgument(f'time: invalid duration "{text}"')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
