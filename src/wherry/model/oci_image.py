"""Manifests and indexes (OCI image-spec 1.1, Docker v2 schema 2): JSON bytes → checked records.

Only shape and limits are checked here, digests by who has the bytes. What may come from a stranger is bounded:
the number of layers, entries and the depth of indexes. The bytes themselves are what is stored and pushed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from wherry.lib.jsonvalue import (
    JsonError,
    JsonObject,
    JsonValue,
    get_int,
    get_object,
    get_objects,
    get_str,
    get_strings,
)
from wherry.model.errors import InvalidArgument
from wherry.model.image import Descriptor, Digest, Platform
from wherry.model.platforms import best_match, format_platform

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
CACHE_CONFIG = "application/vnd.wherry.build-cache.v1+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
IMAGE_CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

# moby's layer.maxLayerDepth; overlay's mount data bounds it in Docker, pitfall 9 here.
MAX_LAYERS = 125
MAX_INDEX_ENTRIES = 1000
MAX_INDEX_DEPTH = 3
MAX_MANIFEST_BYTES = 4 << 20
MAX_CONFIG_BYTES = 8 << 20

_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z|sha512:[0-9a-f]{128}\Z")


class BadManifest(InvalidArgument):
    """A manifest, index or config that is not well formed or beyond the limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One platform's image, or an artifact when `config` is not an image's."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""

    @property
    def is_image(self) -> bool:
        """Whether it can be run; anything else is stored and pushed as it is."""
        return self.config.media_type in IMAGE_CONFIG_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Several platforms' manifests (or further indexes) under one name."""

    media_type: str
    entries: tuple[Descriptor, ...]


def parse_manifest(body: bytes, media_type: str = "") -> Manifest | Index:
    """What the bytes are; `media_type` as the registry or the parent says. Raises BadManifest."""
    document = parse_json_object(body, MAX_MANIFEST_BYTES, "manifest")
    try:
        stated = get_str(document, "mediaType")
        known = media_type if media_type in INDEX_TYPES | MANIFEST_TYPES else ""
        if stated and known and stated != known:
            raise BadManifest(f"mediaType in manifest should be '{known}' not '{stated}'")
        kind = known or stated
        if "schemaVersion" in document and get_int(document, "schemaVersion") == 1:
            raise BadManifest(
                "Docker Image manifest version 2, schema 1 is not supported: the image must be"
                " upgraded to the OCI format or Docker Image manifest v2, schema 2"
            )
        kind = kind or _guess_type(document)
        if kind in INDEX_TYPES:
            return _parse_index(document, kind)
        if kind in MANIFEST_TYPES:
            return _parse_image(document, kind)
    except JsonError as exc:
        raise BadManifest(f"manifest is malformed: {exc}") from exc
    raise BadManifest(f"unsupported manifest media type: {kind}")


def _guess_type(document: JsonObject) -> str:
    """OCI lets `mediaType` out of the document; who asks a registry has it from the header."""
    if "manifests" in document:
        return OCI_INDEX
    config_type = get_str(get_object(document, "config"), "mediaType")
    return DOCKER_MANIFEST if config_type == DOCKER_CONFIG else OCI_MANIFEST


def parse_index(body: bytes) -> Index:
    """An index and nothing else. Raises BadManifest."""
    document = parse_manifest(body)
    if isinstance(document, Manifest):
        raise BadManifest("expected an index, found a manifest")
    return document


def parse_image_manifest(body: bytes) -> Manifest:
    """A manifest and nothing else. Raises BadManifest."""
    document = parse_manifest(body)
    if isinstance(document, Index):
        raise BadManifest("expected a manifest, found an index")
    return document


def _parse_index(document: JsonObject, media_type: str) -> Index:
    # CVE-2021-41190: a document that is both must not be read as one here and as the other there.
    if "layers" in document or "config" in document:
        raise BadManifest("an index must not have 'config' or 'layers'")
    entries = get_objects(document, "manifests")
    if len(entries) > MAX_INDEX_ENTRIES:
        raise BadManifest(f"index has {len(entries)} entries, more than {MAX_INDEX_ENTRIES}")
    return Index(media_type=media_type, entries=tuple(parse_descriptor(entry) for entry in entries))


def _parse_image(document: JsonObject, media_type: str) -> Manifest:
    if "manifests" in document:
        raise BadManifest("an image manifest must not have 'manifests'")
    layers = get_objects(document, "layers")
    config = parse_descriptor(get_object(document, "config"))
    # The layers of a build cache are those of many steps, not of one root.
    if len(layers) > (MAX_INDEX_ENTRIES if config.media_type == CACHE_CONFIG else MAX_LAYERS):
        raise BadManifest("max depth exceeded")
    subject = get_object(document, "subject")
    return Manifest(
        media_type=media_type,
        config=config,
        layers=tuple(parse_descriptor(layer) for layer in layers),
        subject=parse_descriptor(subject) if subject else None,
        artifact_type=get_str(document, "artifactType"),
    )


def parse_descriptor(document: JsonObject) -> Descriptor:
    """A content descriptor. Raises BadManifest when digest or size cannot be used."""
    digest, size = get_str(document, "digest"), get_int(document, "size", -1)
    if not _DIGEST.match(digest):
        raise BadManifest(f"invalid digest in manifest: {json.dumps(digest[:160])}")
    if size < 0:
        raise BadManifest(f"invalid size of {digest} in manifest: {size}")
    annotations = get_object(document, "annotations")
    platform = get_object(document, "platform")
    return Descriptor(
        media_type=get_str(document, "mediaType"),
        digest=Digest(digest),
        size=size,
        annotations={key: get_str(annotations, key) for key in annotations},
        platform=parse_platform_object(platform) if platform else None,
        artifact_type=get_str(document, "artifactType"),
    )


def parse_platform_object(document: JsonObject) -> Platform:
    """`{"os": …, "architecture": …}` of an index entry or of an image config."""
    return Platform(
        os=get_str(document, "os"),
        architecture=get_str(document, "architecture"),
        variant=get_str(document, "variant"),
        os_version=get_str(document, "os.version"),
        os_features=get_strings(document, "os.features"),
    )


def parse_diff_ids(body: bytes) -> tuple[Digest, ...]:
    """The layers' uncompressed digests, as an image config lists them. Raises BadManifest."""
    document = parse_json_object(body, MAX_CONFIG_BYTES, "image configuration")
    try:
        rootfs = get_object(document, "rootfs")
        diff_ids = get_strings(rootfs, "diff_ids")
    except JsonError as exc:
        raise BadManifest(f"image configuration is malformed: {exc}") from exc
    if not rootfs or any(not _DIGEST.match(diff_id) for diff_id in diff_ids):
        raise BadManifest("invalid rootfs in image configuration")
    return tuple(Digest(diff_id) for diff_id in diff_ids)


def parse_config_platform(body: bytes) -> Platform:
    """The platform that an image config names. Raises BadManifest."""
    document = parse_json_object(body, MAX_CONFIG_BYTES, "image configuration")
    try:
        return parse_platform_object(document)
    except JsonError as exc:
        raise BadManifest(f"image configuration is malformed: {exc}") from exc


def parse_json_object(body: bytes, limit: int, what: str) -> JsonObject:
    """A JSON object of at most `limit` bytes. Raises BadManifest."""
    if len(body) > limit:
        raise BadManifest(f"{what} is larger than {limit} bytes")
    try:
        document: JsonValue = json.loads(body)
        if _HALF_CHARACTER.search(body):
            json.dumps(document, ensure_ascii=False).encode()  # a lone surrogate cannot be stored
    except (ValueError, RecursionError) as exc:
        raise BadManifest(f"{what} is not JSON") from exc
    if not isinstance(document, dict):
        raise BadManifest(f"{what} is not a JSON object")
    return document


def is_attestation(entry: Descriptor) -> bool:
    """BuildKit's provenance and SBOM entries, which no platform choice may pick."""
    return "vnd.docker.reference.type" in entry.annotations


def choose_manifest(entries: Sequence[Descriptor], wanted: Platform, shown: str = "") -> Descriptor:
    """The entry that runs on `wanted` best. Raises NoMatchingManifest, which names `shown` if given.

    An entry without a platform (tools that write one image per index leave it out) is taken when it is
    the only one.
    """
    candidates = [entry for entry in entries if not is_attestation(entry)]
    chosen = best_match(wanted, [entry.platform for entry in candidates])
    if chosen is not None:
        return candidates[chosen]
    silent = [entry for entry in candidates if entry.platform is None]
    if len(silent) == 1:
        return silent[0]
    raise NoMatchingManifest(shown or format_platform(wanted))


class NoMatchingManifest(BadManifest):
    """The index has nothing for the platform."""

    def __init__(self, wanted: str) -> None:
        super().__init__(f"no matching manifest for {wanted} in the manifest list entries")
