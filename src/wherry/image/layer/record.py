"""What is known of one layer on disk: the record beside it, `layer.json`, which makes the folder complete.

A layer is a folder ROOT/layers/<hex of its diff-id>. It is made beside under another name and renamed, so
that a folder with this name is whole and durable. `implicit` lists the directories whose attributes come
from below (see `layer.tree`), `probe` a file whose first bytes prove that index and tar belong together.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from wherry.image.content import sync_folder
from wherry.lib.jsonvalue import JsonObject, get_bool, get_int, get_object, get_str, get_strings
from wherry.model.digest import Digest

RECORD_NAME = "layer.json"
TREE_NAME = "fs"
EROFS = "erofs"
OVERLAY = "overlay2"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """`size_bytes` is what its files and symlinks hold (Docker's size of a layer), `tar_size` the length of its tar."""

    diff_id: Digest
    driver: str
    size_bytes: int
    tar_size: int
    opaque_root: bool = False
    implicit_root: bool = False
    implicit: tuple[str, ...] = ()
    probe_path: str = ""
    probe_sha256: str = ""

    @property
    def key(self) -> str:
        """The folder's name."""
        return self.diff_id.partition(":")[2]

    def to_json(self) -> JsonObject:
        """The document in `layer.json`."""
        return {
            "diffId": self.diff_id,
            "driver": self.driver,
            "size": self.size_bytes,
            "tarSize": self.tar_size,
            "opaqueRoot": self.opaque_root,
            "implicitRoot": self.implicit_root,
            "implicit": self.implicit,
            "probe": {"path": self.probe_path, "sha256": self.probe_sha256},
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> LayerRecord:
        """Raises JsonError."""
        probe = get_object(document, "probe")
        return cls(
            diff_id=Digest(get_str(document, "diffId")),
            driver=get_str(document, "driver"),
            size_bytes=get_int(document, "size"),
            tar_size=get_int(document, "tarSize"),
            opaque_root=get_bool(document, "opaqueRoot"),
            implicit_root=get_bool(document, "implicitRoot"),
            implicit=get_strings(document, "implicit"),
            probe_path=get_str(probe, "path"),
            probe_sha256=get_str(probe, "sha256"),
        )


def read_record(folder: Path) -> LayerRecord:
    """The record of a layer's folder. Raises OSError, ValueError."""
    document = json.loads((folder / RECORD_NAME).read_bytes())
    if not isinstance(document, dict):
        raise ValueError(f"{folder / RECORD_NAME}: not an object")
    return LayerRecord.from_json(document)


def write_record(folder: Path, record: LayerRecord) -> None:
    """Writes or replaces the record, atomically and durably."""
    temporary = folder / f"{RECORD_NAME}.new"
    with temporary.open("w") as file:
        json.dump(record.to_json(), file, ensure_ascii=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / RECORD_NAME)
    sync_folder(folder)
