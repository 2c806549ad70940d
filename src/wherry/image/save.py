"""Image archives on the way out: docker-archive and OCI layout in one, as Docker 25 and later write it.

The plan (`build_layout`) is pure; the worker only copies. Blobs go out as they came in, so that digests
survive: layers that were pulled compressed stay so, which every reader of the format accepts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.image.config import (
    descriptor_json,
)
from wherry.image.digest import split_digest
from wherry.image.layer.writing import Buffered, write_all
from wherry.image.reference import Reference
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_int, get_objects, get_str
from wherry.lib.tar.reader import DIRECTORY
from wherry.lib.tar.writer import TarWriter
from wherry.lib.worker import Report
from wherry.model.image import Descriptor, Digest
from wherry.model.oci_image import (
    OCI_INDEX,
    Manifest,
)

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """One image to save: its manifest, what it is called, when it was made (seconds).

    When the name means an index, `index` is that, `index_blobs` what it, the indexes in it and its attestations are, `platforms` its other images.
    """

    descriptor: Descriptor
    manifest: Manifest
    diff_ids: tuple[Digest, ...]
    names: tuple[Reference, ...]
    created_s: int = 0
    index: Descriptor | None = None
    index_blobs: tuple[Digest, ...] = ()
    platforms: tuple[SavedImage, ...] = ()


def build_layout(images: Sequence[SavedImage]) -> tuple[dict[str, bytes], dict[Digest, int]]:
    """The small files of the archive by name, and the blobs it needs with the time of each (seconds)."""
    blobs: dict[Digest, int] = {}
    index: list[JsonObject] = []
    legacy: list[JsonObject] = []
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        for digest in image.index_blobs:
            blobs.setdefault(digest, 0)
        for each in (image, *image.platforms):
            blobs.setdefault(each.descriptor.digest, 0)
            blobs.setdefault(each.manifest.config.digest, each.created_s)
            for layer in each.manifest.layers:
                blobs.setdefault(layer.digest, each.created_s)
        index += _index_entries(image)
        if not image.manifest.is_image:
            continue  # an artifact has no place in Docker's own files
        legacy.append(_legacy_entry(image))
        for name in image.names:
            if image.manifest.layers:
                top = split_digest(image.manifest.layers[-1].digest)[1]
                repositories.setdefault(name.familiar_repository, {})[name.tag] = top
    files = {
        "index.json": _json(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": _unique(index)}
        ),
        "manifest.json": _json(legacy) + b"\n",
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
    }
    if repositories:
        files["repositories"] = _json(repositories) + b"\n"
    return files, blobs


def blob_name(digest: Digest) -> str:
    """Where a blob is in the archive."""
    return "blobs/" + "/".join(split_digest(digest))


def save(arguments: JsonValue, report: Report) -> JsonValue:
    """Writes `members` ({name, mtime, and file or text}) as a tar to descriptor `output`."""
    del report
    if not isinstance(arguments, dict):
        raise TypeError("the arguments are not an object")
    output = get_int(arguments, "output", -1)
    buffer = Buffered(lambda data: write_all(output, data))
    writer = TarWriter(buffer.write)
    for member in get_objects(arguments, "members"):
        name = os.fsencode(get_str(member, "name"))
        mtime_ns = get_int(member, "mtime") * 1_000_000_000
        if name.endswith(b"/"):
            writer.member(name, kind=DIRECTORY, mode=0o755, mtime_ns=mtime_ns)
        elif path := get_str(member, "file"):
            with Path(path).open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                writer.member(name, size=size, mtime_ns=mtime_ns)
                while piece := file.read(_PIECE):
                    writer.data((piece,))
        else:
            writer.file(name, get_str(member, "text").encode(), mtime_ns=mtime_ns)
    writer.close()
    buffer.flush()
    return None


def build_members(
    files: Mapping[str, bytes], blobs: Mapping[Digest, int], paths: Mapping[Digest, Path]
) -> list[JsonObject]:
    """The worker's list: folders, blobs and files in the order of their names."""
    algorithms = sorted({split_digest(digest)[0] for digest in blobs})
    members: list[JsonObject] = [{"name": "blobs/", "mtime": 0}]
    members += [{"name": f"blobs/{algorithm}/", "mtime": 0} for algorithm in algorithms]
    members += [
        {"name": blob_name(digest), "mtime": mtime, "file": str(paths[digest])}
        for digest, mtime in sorted(blobs.items())
    ]
    members += [
        {"name": name, "mtime": 0, "text": data.decode()} for name, data in sorted(files.items())
    ]
    return members


def _index_entries(image: SavedImage) -> Iterable[JsonObject]:
    target = image.index or image.descriptor
    if not image.names:
        yield descriptor_json(target)
    for name in image.names:
        document = dict(descriptor_json(target))
        document["annotations"] = {
            "io.containerd.image.name": name.canonical(),
            "org.opencontainers.image.ref.name": name.tag,
        }
        yield document


def _legacy_entry(image: SavedImage) -> JsonObject:
    sources: dict[str, JsonValue] = {
        diff_id: {"mediaType": layer.media_type, "size": layer.size, "digest": layer.digest}
        for diff_id, layer in sorted(zip(image.diff_ids, image.manifest.layers, strict=True))
    }
    return {
        "Config": blob_name(image.manifest.config.digest),
        "RepoTags": [name.familiar() for name in image.names] or None,
        "Layers": [blob_name(layer.digest) for layer in image.manifest.layers],
        "LayerSources": sources,
    }


def _unique(entries: Iterable[JsonObject]) -> list[JsonObject]:
    seen: dict[str, JsonObject] = {}
    for entry in entries:
        seen.setdefault(json.dumps(entry, sort_keys=True), entry)
    return list(seen.values())


def _json(value: JsonValue) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
