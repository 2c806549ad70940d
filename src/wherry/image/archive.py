"""Image archives on the way in: what `docker save`, skopeo and podman write, read from a stream by a worker.

Three forms, told apart by what is in them: docker-archive (manifest.json, layers by path, old ones with
symlinks between them), the same as an OCI layout (Docker 25 and later), and a plain OCI layout
(index.json). The stream is written down once, hashed on the way; layers that are plain tars are then
renamed into place. Names in the archive are keys of a table, never paths.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.image.config import (
    OCI_LAYER,
    build_manifest,
    descriptor_json,
    parse_config,
)
from wherry.image.content import BadContent, ContentStore, sync_folder
from wherry.image.digest import digest_of, matches, split_digest
from wherry.image.layer.build import PendingLayer, published
from wherry.image.layer.confine import confined
from wherry.image.layer.mount import TAR_NAME
from wherry.image.layer.streams import Beside, Decompressor
from wherry.image.layer.writing import write_all
from wherry.image.reference import InvalidReference, parse_reference
from wherry.lib.jsonvalue import JsonError, JsonObject, JsonValue, get_int, get_str, get_strings
from wherry.lib.tar.reader import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, TarReader
from wherry.lib.worker import Report
from wherry.model.image import Descriptor, Digest
from wherry.model.oci_image import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_CONFIG,
    OCI_MANIFEST,
    Index,
    Manifest,
    parse_image_manifest,
    parse_index,
    parse_manifest,
)

if TYPE_CHECKING:
    from io import BufferedReader

_MAX_MEMBERS = 100_000
_MAX_LINK_HOPS = 16
_MAX_NESTED_INDEXES = 8
_REPORT_EVERY = 8 << 20
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class _Member:
    path: Path
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer to make: where its bytes are, what they are, and what the image says they are."""

    member: _Member | None
    descriptor: Descriptor
    diff_id: Digest


@dataclass(frozen=True, slots=True)
class _Plan:
    """One image of the archive."""

    digest: Digest  # of the config
    config: bytes
    layers: tuple[_Layer, ...]
    names: tuple[str, ...]
    manifest: tuple[Descriptor, bytes] | None = None  # the archive's own, to be kept byte for byte
    indexes: tuple[tuple[Descriptor, bytes], ...] = ()  # that lead to it, outermost first
    blobs: tuple[tuple[Digest, _Member], ...] = ()  # of an artifact, which has no layers

    @property
    def members(self) -> tuple[_Member | None, ...]:
        """The files of the layers."""
        return tuple(layer.member for layer in self.layers)


@confined
def load(request: JsonObject, report: Report) -> JsonValue:
    """Reads an archive from descriptor `input` and makes its blobs and layers.

    Returns a list of {config, names, manifest, layers}. Raises BadContent, TarError, LayerError, OSError.
    """
    folder = Path(get_str(request, "folder"))
    content = ContentStore(Path(get_str(request, "root")))
    archive = _Archive(folder)
    archive.extract(get_int(request, "input", -1), report)
    loader = _Loader(content, Path(get_str(request, "layers")), get_str(request, "driver"), report)
    return [loader.load(plan) for plan in archive.plans()]


class _Archive:
    """The members of an archive, written to files named by number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._members: dict[str, _Member] = {}
        self._links: dict[str, str] = {}

    def extract(self, source: int, report: Report) -> None:
        stream = Decompressor(lambda count: os.read(source, count))
        reader = TarReader(stream.read)
        reported = 0
        for entry in reader:
            name = _clean_name(os.fsdecode(entry.path))
            if len(self._members) + len(self._links) >= _MAX_MEMBERS:
                raise BadContent("the archive has too many members")
            if entry.type == REGULAR and entry.extents is None:
                self._members[name] = self._write(reader, entry.size)
            elif entry.type == SYMLINK:
                target = posixpath.join(posixpath.dirname(name), os.fsdecode(entry.link))
                self._links[name] = _clean_name(target)
            elif entry.type == HARD_LINK:
                self._links[name] = _clean_name(os.fsdecode(entry.link))
            elif entry.type != DIRECTORY:
                raise BadContent(f"the archive has a member of an unexpected type: {name}")
            if reader.offset - reported >= _REPORT_EVERY:
                reported = reader.offset
                report({"received": reported})
        reader.drain()

    def plans(self) -> Iterator[_Plan]:
        """The images in it."""
        if self._find("manifest.json") is not None:
            yield from self._docker_plans()
        elif self._find("index.json") is not None:
            yield from self._oci_plans()
        else:
            raise BadContent(
                "the archive holds no images: it has neither manifest.json nor index.json"
            )

    def _write(self, reader: TarReader, size: int) -> _Member:
        path = self._folder / str(len(self._members))
        running = hashlib.sha256()
        with path.open("xb", buffering=0) as file:

            def consume(piece: bytes) -> None:
                running.update(piece)
                write_all(file.fileno(), piece)

            if size < 1 << 20:
                for piece in reader.data():
                    consume(piece)
            else:
                with Beside(consume) as beside:
                    for piece in reader.data():
                        beside.put(piece)
        return _Member(path, size, Digest(f"sha256:{running.hexdigest()}"))

    def _find(self, name: str) -> _Member | None:
        name = _clean_name(name)
        for _ in range(_MAX_LINK_HOPS):
            member = self._members.get(name)
            if member is not None or name not in self._links:
                return member
            name = self._links[name]
        return None

    def _get(self, name: str) -> _Member:
        member = self._find(name)
        if member is None:
            raise BadContent(f"the archive has no {name}")
        return member

    def _read(self, name: str) -> bytes:
        member = self._get(name)
        if member.size > 16 << 20:
            raise BadContent(f"{name} is too large")
        return member.path.read_bytes()

    def _blob(self, digest: Digest) -> str:
        return "blobs/" + "/".join(split_digest(digest))

    def _docker_plans(self) -> Iterator[_Plan]:
        try:
            entries = json.loads(self._read("manifest.json"))
        except (ValueError, RecursionError) as error:
            raise BadContent(f"manifest.json is not JSON: {error}") from error
        if not isinstance(entries, list):
            raise BadContent("manifest.json is not a list")
        # Docker 25 and later, and we, write an OCI layout beside it: its manifests keep every digest.
        known: list[_Plan] = []
        said: set[bytes] = set()
        if self._find("index.json") is not None:
            known = self._oci_images()
        for entry in entries:
            if not isinstance(entry, dict):
                raise BadContent("manifest.json: expected objects")
            try:
                plan = self._docker_plan(entry)
            except JsonError as error:
                raise BadContent(f"manifest.json: {error}") from error
            said.add(plan.config)
            same = [other for other in known if other.config == plan.config]
            same.sort(key=lambda other: other.members != plan.members)
            yield replace(same[0], names=plan.names) if same else plan
        for plan in known:
            if (
                plan.config not in said
            ):  # another platform or an artifact: no place in manifest.json
                yield plan

    def _docker_plan(self, entry: JsonObject) -> _Plan:
        config = self._read(get_str(entry, "Config"))
        diff_ids = parse_config(config).diff_ids
        paths = get_strings(entry, "Layers")
        if len(paths) != len(diff_ids):
            raise BadContent(
                f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(paths)}"
            )
        layers = []
        for path, diff_id in zip(paths, diff_ids, strict=True):
            member = self._find(path)
            size = member.size if member else 0
            layers.append(
                _Layer(member, Descriptor(media_type=OCI_LAYER, digest=diff_id, size=size), diff_id)
            )
        return _Plan(digest_of(config), config, tuple(layers), get_strings(entry, "RepoTags"))

    def _oci_plans(self) -> Iterator[_Plan]:
        plans = self._oci_images()
        if not plans:
            raise BadContent("the archive holds no images")
        yield from plans

    def _oci_images(self) -> list[_Plan]:
        """What index.json leads to, indexes in it included; attestations come with what they attest."""
        plans: list[_Plan] = []
        beside: dict[Digest, list[tuple[Digest, _Member]]] = {}
        pending: list[tuple[Descriptor, tuple[tuple[Descriptor, bytes], ...]]] = [
            (entry, ()) for entry in parse_index(self._read("index.json")).entries
        ]
        while pending:
            descriptor, indexes = pending.pop(0)
            name = self._blob(descriptor.digest)
            if self._find(name) is None:
                continue  # a platform that was left out when saving
            data = self._read(name)
            if not matches(descriptor.digest, data):
                raise BadContent(f"{name} does not match its digest")
            if descriptor.media_type in INDEX_TYPES or isinstance(parse_manifest(data), Index):
                if len(indexes) >= _MAX_NESTED_INDEXES:
                    raise BadContent("indexes are nested too deeply")
                above = (*indexes, (descriptor, data))
                pending += [(below, above) for below in parse_index(data).entries]
            elif descriptor.media_type in MANIFEST_TYPES or not descriptor.media_type:
                manifest = parse_image_manifest(data)
                top = indexes[0][0] if indexes else descriptor
                if _is_attestation(descriptor, manifest, has_siblings=bool(indexes)):
                    beside.setdefault(top.digest, []).extend(
                        [(descriptor.digest, self._get(name)), *self._blobs_of(manifest)]
                    )
                elif plan := self._oci_plan(top, descriptor, data):
                    plans.append(replace(plan, indexes=indexes))
        return [
            replace(plan, blobs=(*plan.blobs, *beside.get(plan.indexes[0][0].digest, ())))
            if plan.indexes
            else plan
            for plan in plans
        ]

    def _blobs_of(self, manifest: Manifest) -> Iterator[tuple[Digest, _Member]]:
        """The config and layers that are here."""
        for digest in (manifest.config.digest, *(layer.digest for layer in manifest.layers)):
            member = self._find(self._blob(digest))
            if member is not None:
                yield digest, member

    def _oci_plan(self, named: Descriptor, descriptor: Descriptor, data: bytes) -> _Plan | None:
        manifest = parse_image_manifest(data)
        digest = manifest.config.digest
        if self._find(self._blob(digest)) is None:
            return None
        config = self._read(self._blob(digest))
        if not matches(digest, config):
            raise BadContent("the image config does not match its digest")
        own = (replace(descriptor, media_type=manifest.media_type), data)
        if not manifest.is_image:
            digests = [layer.digest for layer in manifest.layers]
            blobs = tuple((digest, self._get(self._blob(digest))) for digest in digests)
            return _Plan(digest, config, (), _names_of(named), own, blobs=blobs)
        diff_ids = parse_config(config).diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise BadContent("the manifest and the image config differ in their number of layers")
        layers = tuple(
            _Layer(self._find(self._blob(layer.digest)), layer, diff_id)
            for layer, diff_id in zip(manifest.layers, diff_ids, strict=True)
        )
        return _Plan(digest, config, layers, _names_of(named), own)


class _Loader:
    """Makes the blobs and layers of planned images."""

    def __init__(self, content: ContentStore, layers: Path, driver: str, report: Report) -> None:
        self._content = content
        self._layers = layers
        self._driver = driver
        self._report = report

    def load(self, plan: _Plan) -> JsonObject:
        """Everything of one image, durable when this returns."""
        for layer in plan.layers:
            if published(self._layers, layer.diff_id) is None:
                self._load_layer(layer)
            elif layer.member is not None:
                self._keep_blob(layer, layer.member)
        for digest, member in plan.blobs:
            self._adopt_blob(member, digest)
        self._content.put(plan.digest, plan.config)
        descriptor, manifest = plan.manifest or self._own_manifest(plan)
        self._content.put(descriptor.digest, manifest)
        for index, data in plan.indexes:
            self._content.put(index.digest, data)
        descriptor = replace(descriptor, annotations={}, platform=None)
        target = plan.indexes[0][0] if plan.indexes else descriptor
        blobs = [
            *(layer.descriptor.digest for layer in plan.layers),
            *(digest for digest, _ in plan.blobs),
            *(index.digest for index, _ in plan.indexes),
        ]
        return {
            "config": plan.digest,
            "names": plan.names,
            "blobs": blobs,
            "manifest": descriptor_json(descriptor),
            "target": descriptor_json(replace(target, annotations={}, platform=None)),
        }

    def _own_manifest(self, plan: _Plan) -> tuple[Descriptor, bytes]:
        """Of the uncompressed layers: the manifest that Docker 28 saves for such an image."""
        layers = []
        for layer in plan.layers:
            record = published(self._layers, layer.diff_id)
            size = record.tar_size if record else 0
            layers.append(Descriptor(media_type=OCI_LAYER, digest=layer.diff_id, size=size))
        config = Descriptor(media_type=OCI_CONFIG, digest=plan.digest, size=len(plan.config))
        data = build_manifest(config, tuple(layers))
        return Descriptor(media_type=OCI_MANIFEST, digest=digest_of(data), size=len(data)), data

    def _load_layer(self, layer: _Layer) -> None:
        member = layer.member
        if member is None:
            raise BadContent(f"the archive has no layer {layer.descriptor.digest}")
        if not member.path.exists():  # two images share it, and the first took it
            raise BadContent(f"layer {layer.diff_id} is used under two diff IDs")
        short = layer.diff_id.partition(":")[2][:12]
        self._report({"layer": short, "current": 0, "total": member.size})
        pending = PendingLayer(self._layers, self._driver)
        try:
            if member.digest == layer.diff_id:
                record = pending.adopt(member.path, layer.diff_id)
            else:
                with member.path.open("rb", buffering=0) as file:
                    record = pending.build(lambda count: file.read(count) or b"")
            if record.diff_id != layer.diff_id:
                raise BadContent(
                    f"invalid diffID for layer: expected {layer.diff_id}, got {record.diff_id}"
                )
            if layer.descriptor.digest == layer.diff_id:
                pending.keep_tar(self._content.path(layer.diff_id))
            else:
                self._adopt_blob(member, layer.descriptor.digest)
            pending.publish()
        finally:
            pending.close()
        self._report({"layer": short, "current": member.size, "total": member.size})

    def _keep_blob(self, layer: _Layer, member: _Member) -> None:
        """The layer is there, made from other bytes perhaps: the manifest's own must be in the store too."""
        tar = self._layers / split_digest(layer.diff_id)[1] / TAR_NAME
        if layer.descriptor.digest == layer.diff_id and tar.exists():
            self._content.link(layer.diff_id, tar)
        elif layer.descriptor.digest == member.digest:
            self._adopt_blob(member, member.digest)

    def _adopt_blob(self, member: _Member, digest: Digest) -> None:
        if not member.path.exists() or self._content.has(digest):
            return
        with member.path.open("rb") as file:
            if member.digest != digest and not _holds(file, digest):
                raise BadContent(f"blob {digest} does not match its digest")
            os.fsync(file.fileno())
        self._content.adopt(digest, member.path)
        sync_folder(self._content.path(digest).parent)


def _holds(file: BufferedReader, digest: Digest) -> bool:
    """Whether a file is what a digest of another algorithm than the archive's own says."""
    algorithm, expected = split_digest(digest)
    return algorithm != "sha256" and hashlib.file_digest(file, algorithm).hexdigest() == expected


def _is_attestation(descriptor: Descriptor, manifest: Manifest, *, has_siblings: bool) -> bool:
    """Of BuildKit: for no platform, about another manifest of the same index."""
    if any("in-toto" in layer.media_type for layer in manifest.layers):
        return True
    is_for_none = descriptor.platform is not None and descriptor.platform.os == "unknown"
    return has_siblings and (is_for_none or bool(descriptor.artifact_type))


def _clean_name(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _names_of(descriptor: Descriptor) -> tuple[str, ...]:
    """The names that an index gives a manifest; a bare tag names nothing."""
    for key in _NAME_ANNOTATIONS:
        text = descriptor.annotations.get(key, "")
        if "/" in text or ":" in text:
            try:
                return (parse_reference(text).with_default_tag().familiar(),)
            except InvalidReference:
                continue
    return ()
