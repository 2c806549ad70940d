"""Compresses layers for push, in a worker: deterministic gzip, so that a second push has the same digest."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

from isal import isal_zlib

from wherry.image.layer.confine import confined
from wherry.image.layer.streams import PIECE, Beside
from wherry.image.layer.writing import write_all
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_str
from wherry.lib.worker import Report

_LEVEL = 1
# RFC 1952: deflate, no name, no time, unknown system
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


@confined
def compress(request: JsonObject, report: Report) -> JsonValue:
    """Packs the file `tar` into the new file `output`; returns {digest, size}. Synced."""
    del report
    running = hashlib.sha256()
    with (
        Path(get_str(request, "tar")).open("rb", buffering=0) as source,
        Path(get_str(request, "output")).open("xb", buffering=0) as target,
    ):

        def consume(piece: bytes) -> None:
            running.update(piece)
            write_all(target.fileno(), piece)

        beside = Beside(consume)
        packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15)
        checksum = size = 0
        beside.put(_HEADER)
        while piece := source.read(PIECE):
            checksum = zlib.crc32(piece, checksum)
            size += len(piece)
            if packed := packer.compress(piece):
                beside.put(packed)
        trailer = checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
        beside.put(packer.flush() + trailer)
        beside.close()
        os.fsync(target.fileno())
        packed_size = os.fstat(target.fileno()).st_size
    return {"digest": f"sha256:{running.hexdigest()}", "size": packed_size}
