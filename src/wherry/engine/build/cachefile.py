"""The build cache as it travels between stores: records in the config of an image or of a cache manifest.

The config has the layers' diff-ids in `rootfs`, as any image config has, and the records of steps beside them;
the manifest says which blob each layer is. So an image with its cache in it (`inline`) and a manifest that is
nothing but cache (`registry`, `local`) are read alike. What comes from elsewhere is checked and bounded here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from wherry.engine.build.records import CacheRecord
from wherry.image.config import (
    BUILD_CACHE_KEY,
    build_index,
    build_manifest,
    docker_layer_type,
    parse_json,
)
from wherry.image.content import BadContent
from wherry.image.digest import InvalidDigest, parse_digest
from wherry.lib.jsonvalue import (
    JsonError,
    JsonObject,
    JsonValue,
    get_bool,
    get_list,
    get_object,
    get_objects,
    get_str,
    get_strings,
)
from wherry.model.image import Descriptor, Digest
from wherry.model.oci_image import CACHE_CONFIG, DOCKER_LIST, OCI_MANIFEST, Index, Manifest

_MAX_KEY = 128
_KINDS = frozenset({"regular", "source.local", "internal"})


def build_records(records: Mapping[str, CacheRecord], diff_ids: Sequence[str]) -> JsonObject:
    """The records as JSON; those with layers that are not in `diff_ids` become hollow."""
    places = {diff_id: place for place, diff_id in enumerate(diff_ids)}
    items: list[JsonValue] = []
    for key, record in sorted(records.items()):
        is_hollow = any(diff_id not in places for diff_id in record.layers)
        layers: list[JsonValue] = (
            [] if is_hollow else [places[diff_id] for diff_id in record.layers]
        )
        item: dict[str, JsonValue] = {"key": key, "kind": record.kind, "created": record.created}
        if record.result != key:
            item["result"] = record.result
        if record.description:
            item["description"] = record.description
        if layers:
            item["layers"] = layers
        if is_hollow:
            item["hollow"] = True
        items.append(item)
    return {"records": items}


def build_cache_config(records: JsonObject, diff_ids: Sequence[str]) -> bytes:
    """The config of a manifest that is nothing but cache."""
    document = {
        BUILD_CACHE_KEY: records,
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def build_cache_manifest(
    media_type: str, config: Descriptor, layers: Sequence[Descriptor]
) -> bytes:
    """The manifest of a cache, or the index that BuildKit calls `image-manifest=false`."""
    if media_type == OCI_MANIFEST:
        return build_manifest(config, tuple(layers))
    if media_type == DOCKER_LIST:
        layers = [
            replace(layer, media_type=docker_layer_type(layer.media_type)) for layer in layers
        ]
    return build_index([*layers, config], media_type)


def unfold_cache(document: Manifest | Index) -> Manifest | Index:
    """What `build_cache_manifest` gave, always as a manifest; any other document as it is."""
    if isinstance(document, Manifest):
        return document
    configs = [entry for entry in document.entries if entry.media_type == CACHE_CONFIG]
    if not configs:
        return document
    layers = tuple(entry for entry in document.entries if entry.media_type != CACHE_CONFIG)
    return Manifest(media_type=document.media_type, config=configs[0], layers=layers)


def parse_cache_config(data: bytes) -> tuple[dict[str, CacheRecord], tuple[Digest, ...]]:
    """Records by key and the diff-ids of all layers; no records when it has none. Raises BadContent."""
    document = parse_json(data, "cache config")
    try:
        texts = get_strings(get_object(document, "rootfs"), "diff_ids")
        diff_ids = tuple(parse_digest(text) for text in texts)
        items = get_objects(get_object(document, BUILD_CACHE_KEY), "records")
        records = dict(_parse_record(item, diff_ids) for item in items)
    except (JsonError, InvalidDigest) as error:
        raise BadContent(f"cache config: {error}") from error
    return records, diff_ids


def _parse_record(item: JsonObject, diff_ids: Sequence[str]) -> tuple[str, CacheRecord]:
    key, kind = get_str(item, "key"), get_str(item, "kind")
    result = get_str(item, "result") or key
    if not 0 < len(key) <= _MAX_KEY or len(result) > _MAX_KEY or kind not in _KINDS:
        raise JsonError("a record is malformed")
    layers: list[str] = []
    for place in get_list(item, "layers"):
        if not isinstance(place, int) or not 0 <= place < len(diff_ids):
            raise JsonError("a record names a layer that is not there")
        layers.append(diff_ids[place])
    return key, CacheRecord(
        result=result,
        layers=tuple(layers),
        description=get_str(item, "description"),
        kind=kind,
        created=get_str(item, "created"),
        hollow=get_bool(item, "hollow"),
    )
