"""Contexts that are kept between builds, so that a client sends only the files that changed.

A client lists its folder first: of every file a stamp (size, times, inode) that changes when the file does. It is
told which files are not here under that stamp, and sends those alone. Their bytes go to the end of one file, the
pool; entries of the index point into it. A pool that is mostly garbage is given up: the next build sends all.
The folders lie among the cache mounts, so that `builder du` and `builder prune` know them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.engine.build.index import Entry
from wherry.image.content import remove_tree
from wherry.lib.blocking import run_blocking
from wherry.lib.ids import read_boot_id
from wherry.model.errors import Conflict

_PREFIX = "context-"
_MAX_CONTEXTS = 8
_MAX_OFFERS = 64
_SPARE_BYTES = 64 << 20
_PIECE = 1 << 30
_EMPTY = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a client's folder. A file without a stamp is always sent."""

    path: str
    kind: str  # as in `Entry`
    mode: int
    size: int = 0
    mtime_ns: int = 0
    link: str = ""
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    stamp: str
    digest: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Offer:
    key: str
    entries: tuple[Listed, ...]


class KeptContexts:
    """Those of one engine."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "build-cache"
        self._offers: dict[str, _Offer] = {}
        self._known: dict[str, Mapping[str, _Known]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def offer(self, key: str, entries: Iterable[Listed]) -> tuple[str, list[int]]:
        """A token for the build, and the places of the files that must be sent."""
        offer = _Offer(hashlib.sha256(os.fsencode(key)).hexdigest()[:32], tuple(entries))
        known = await self._load(offer.key, key)
        missing = [
            place
            for place, entry in enumerate(offer.entries)
            if entry.kind == "f" and entry.size and not _is_known(entry, known)
        ]
        while len(self._offers) >= _MAX_OFFERS:
            del self._offers[next(iter(self._offers))]
        token = secrets.token_hex(16)
        self._offers[token] = offer
        return token, missing

    async def complete(
        self, token: str, body: Path, sent: Sequence[Entry], target: Path
    ) -> list[Entry]:
        """The whole context: `target` becomes its data. Raises Conflict when something is not here any more."""
        offer = self._offers.pop(token, None)
        if offer is None:
            raise Conflict("the engine no longer knows what the context lacked: build again")
        async with self._locks.setdefault(offer.key, asyncio.Lock()):
            return await run_blocking(self._complete, offer, body, sent, target)

    def _complete(
        self, offer: _Offer, body: Path, sent: Sequence[Entry], target: Path
    ) -> list[Entry]:
        folder = self._place(offer.key)
        pool = folder / "pool"
        known = self._known.get(offer.key, {}) if pool.exists() else {}
        begin = pool.stat().st_size if pool.exists() else 0
        fresh = {entry.path: entry for entry in sent if entry.kind == "f"}
        entries: list[Entry] = []
        now_known: dict[str, _Known] = {}
        for listed in offer.entries:
            entry = fresh.get(listed.path)
            if listed.kind != "f":
                found = _Known("", "", 0, 0)
            elif entry is not None:
                found = _Known(listed.stamp, entry.digest, begin + entry.offset, entry.size)
            elif not listed.size:
                found = _Known("", _EMPTY, 0, 0)
            elif _is_known(listed, known):
                found = known[listed.path]
            else:
                raise Conflict(f"{listed.path} is not here any more: build again")
            if found.stamp:
                now_known[listed.path] = found
            entries.append(_entry(listed, found))
        # Now that nothing is missing: what is refused leaves nothing there.
        folder.mkdir(mode=0o700, exist_ok=True)
        _append(pool, body)
        os.link(pool, target)
        self._keep(offer.key, folder, known, now_known)
        return entries

    def _keep(
        self, key: str, folder: Path, known: Mapping[str, _Known], now_known: Mapping[str, _Known]
    ) -> None:
        live = sum(found.size for found in now_known.values())
        if (folder / "pool").stat().st_size > 2 * live + _SPARE_BYTES:
            self._forget(key)
            return
        if now_known != known:
            rows = {
                path: [found.stamp, found.digest, found.offset, found.size]
                for path, found in now_known.items()
            }
            temporary = folder / "index.new"
            document = {"boot": read_boot_id(), "files": rows}
            temporary.write_text(json.dumps(document, separators=(",", ":")))
            temporary.replace(folder / "index.json")
            self._known[key] = now_known
        os.utime(folder)
        kept = sorted(self._folder.glob(f"{_PREFIX}*/"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-_MAX_CONTEXTS]:
            other = old.name.removeprefix(_PREFIX)
            if other not in self._locks or not self._locks[other].locked():
                self._forget(other)

    def _forget(self, key: str) -> None:
        self._known.pop(key, None)
        place = self._place(key)
        place.with_suffix(".id").unlink(missing_ok=True)
        remove_tree(place)

    def _place(self, key: str) -> Path:
        return self._folder / f"{_PREFIX}{key}"

    async def _load(self, key: str, identity: str) -> Mapping[str, _Known]:
        async with self._locks.setdefault(key, asyncio.Lock()):
            return await run_blocking(self._read, key, identity)

    def _read(self, key: str, identity: str) -> Mapping[str, _Known]:
        place = self._place(key)
        if not (place / "pool").exists():
            self._known.pop(key, None)
        elif key not in self._known:
            self._known[key] = _read_index(place)
        self._folder.mkdir(mode=0o710, exist_ok=True)
        place.with_suffix(".id").write_text(f"context {identity}", errors="surrogateescape")
        return self._known.get(key, {})


def _is_known(listed: Listed, known: Mapping[str, _Known]) -> bool:
    found = known.get(listed.path)
    return found is not None and bool(listed.stamp) and found.stamp == listed.stamp


def _entry(listed: Listed, found: _Known) -> Entry:
    return Entry(
        listed.path,
        listed.kind,
        listed.mode,
        size=found.size,
        link=listed.link,
        digest=found.digest,
        offset=found.offset,
        mtime_ns=listed.mtime_ns,
    )


def _append(pool: Path, body: Path) -> None:
    """Puts the body at the end of the pool."""
    pool.touch(mode=0o600)
    # Not opened for appending, which sendfile refuses; the caller has the lock.
    with body.open("rb") as source, pool.open("r+b") as target:
        begin = target.seek(0, os.SEEK_END)
        left = os.fstat(source.fileno()).st_size
        try:
            while left:
                left -= os.sendfile(target.fileno(), source.fileno(), None, min(left, _PIECE))
        except OSError:
            target.truncate(begin)
            raise


def _read_index(place: Path) -> dict[str, _Known]:
    """What an earlier engine wrote; nothing when it is torn, or may be: nothing of it is synced."""
    size = (place / "pool").stat().st_size
    try:
        document = json.loads((place / "index.json").read_bytes())
        if document["boot"] != read_boot_id():
            return {}
        known = {path: _Known(*row) for path, row in document["files"].items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}
    if any(found.offset + found.size > size for found in known.values()):
        return {}
    return known
