"""Compresses layers to travel, in a worker; deterministic, so that a second push has the same digest."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

import zstandard
from isal import isal_zlib

from wherry.image.layer.confine import confined
from wherry.image.layer.streams import PIECE, Beside
from wherry.image.layer.writing import write_all
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_int, get_str
from wherry.lib.worker import Report

_LEVEL = 1
_ZSTD_LEVEL = 3
# RFC 1952: deflate, no name, no time, unknown system
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class _Gzip:
    """A gzip stream; isal's own level unless one is asked for."""

    def __init__(self, level: int | None) -> None:
        self._packer = (
            isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15)
            if level is None
            else zlib.compressobj(level, zlib.DEFLATED, -15)
        )
        self._checksum = self._size = 0
        self._head = _HEADER

    def compress(self, piece: bytes) -> bytes:
        self._checksum = zlib.crc32(piece, self._checksum)
        self._size += len(piece)
        head, self._head = self._head, b""
        return head + self._packer.compress(piece)

    def flush(self) -> bytes:
        trailer = self._checksum.to_bytes(4, "little")
        trailer += (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return self._head + self._packer.flush() + trailer


@confined
def compress(request: JsonObject, report: Report) -> JsonValue:
    """Packs the file `tar` into the new file `output`; returns {digest, size}. Synced.

    `kind` is gzip or zstd; `level` may be left out.
    """
    del report
    running = hashlib.sha256()
    level = get_int(request, "level") if "level" in request else None
    packer = (
        zstandard.ZstdCompressor(
            level=_ZSTD_LEVEL
            if level is None
            else min(max(level, 1), zstandard.MAX_COMPRESSION_LEVEL),
            write_checksum=True,
        ).compressobj()
        if get_str(request, "kind") == "zstd"
        else _Gzip(level)
    )
    with (
        Path(get_str(request, "tar")).open("rb", buffering=0) as source,
        Path(get_str(request, "output")).open("xb", buffering=0) as target,
    ):

        def consume(piece: bytes) -> None:
            running.update(piece)
            write_all(target.fileno(), piece)

        with Beside(consume) as beside:
            while piece := source.read(PIECE):
                if packed := packer.compress(piece):
                    beside.put(packed)
            beside.put(packer.flush())
        os.fsync(target.fileno())
        packed_size = os.fstat(target.fileno()).st_size
    return {"digest": f"sha256:{running.hexdigest()}", "size": packed_size}
