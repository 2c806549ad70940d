"""Making images here: layers of snapshots and streams, commit, import, and what push needs compressed.

What is made gets a manifest of its own at once, over the blobs as they are: a parent's layers as they
came from the registry, new ones uncompressed. `push_target` replaces those by compressed ones, once.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wherry.build.errors import DockerfileError
from wherry.build.parser import parse_dockerfile
from wherry.build.plan import ImageState, plan_stage
from wherry.build.stages import parse_program, resolve
from wherry.engine.clock import now
from wherry.engine.images.pipes import feed_pipe, open_pipe
from wherry.engine.images.records import ImageRecord
from wherry.engine.images.worker import run_image_worker
from wherry.engine.tasks import run_together
from wherry.image.compression import GZIP, Compression
from wherry.image.config import (
    OCI_LAYER,
    ImageConfig,
    as_oci_layer,
    build_config,
    build_manifest,
)
from wherry.image.digest import digest_of
from wherry.image.layer.record import LayerRecord
from wherry.image.layer.store import MAX_LAYERS, TooManyLayers
from wherry.lib.blocking import run_blocking
from wherry.lib.jsonvalue import JsonValue, get_int, get_str
from wherry.model.container import ContainerConfig
from wherry.model.errors import Internal, InvalidArgument, NotFound
from wherry.model.image import Descriptor, Digest, HistoryEntry, Image, ImageId, Platform
from wherry.model.oci_image import (
    INDEX_TYPES,
    OCI_CONFIG,
    OCI_MANIFEST,
    Manifest,
    parse_image_manifest,
    parse_index,
)
from wherry.model.platforms import host_platform

if TYPE_CHECKING:
    from wherry.engine.images.service import Images

_CHANGE_WORDS = frozenset(
    (
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    )
)
_UNCOMPRESSED = frozenset((OCI_LAYER, "application/vnd.docker.image.rootfs.diff.tar"))


def apply_changes(config: ContainerConfig, changes: Sequence[str]) -> ContainerConfig:
    """A config after the instructions of `--change`. Raises InvalidArgument with Docker's sentences."""
    lines = [line for change in changes for line in change.splitlines() if line.strip()]
    if not changes:
        return config
    if not lines:
        raise InvalidArgument("file with no instructions")
    for line in lines:
        word = line.split(maxsplit=1)[0]
        if word.upper() not in _CHANGE_WORDS:
            raise InvalidArgument(f"{word} is not a valid change command")
    state = ImageState(config=replace(config, on_build=()))
    try:
        program = parse_program(parse_dockerfile("\n".join(["FROM scratch", *lines])))
        resolution = resolve(program, build_args={}, platform_values={})
        changed = plan_stage(resolution, program.stages[0], state).state.config
    except DockerfileError as error:
        raise InvalidArgument(error.sentence) from error
    return replace(
        changed,
        on_build=(*config.on_build, *changed.on_build),
        args_escaped=config.args_escaped,  # BuildKit's mark, not that of `--change`
    )


async def layer_of_snapshot(images: Images, key: str) -> LayerRecord | None:
    """What a snapshot changes, as a layer; None when nothing was changed."""
    result = await run_image_worker(
        "wherry.image.layer.diff:commit",
        {
            "upper": str(images.snapshots.upper(key)),
            "tar": str(images.content.tmp / f"commit-{key[:64]}-{id(images):x}"),
            "layers": str(images.layers.folder),
            "blobs": str(images.content.path(_EMPTY_SHA256).parent),
            "driver": images.driver,
        },
    )
    return _layer(images, result) if result is not None else None


async def layer_of_stream(images: Images, stream: AsyncIterator[bytes]) -> LayerRecord:
    """A tar stream of any compression as a layer. Raises BadContent."""
    reader, writer = open_pipe()
    feeder = asyncio.ensure_future(feed_pipe(writer, stream))
    try:
        result = await run_image_worker(
            "wherry.image.layer.build:build",
            {
                "input": reader,
                "layers": str(images.layers.folder),
                "blobs": str(images.content.path(_EMPTY_SHA256).parent),
                "driver": images.driver,
            },
            fds=(reader,),
            pool="stream",
        )
        os.close(reader)
        reader = -1
        await feeder  # raises what the stream raised
    finally:
        if reader >= 0:
            os.close(reader)
        feeder.cancel()
        await asyncio.wait([feeder])
    return _layer(images, result)


async def make_image(
    images: Images,
    config: ImageConfig,
    *,
    base: Image | None = None,
    parent: str = "",
    keep: bool = True,
) -> Image:
    """Makes an image of a config whose layers are there; the catalog knows it if it is to be kept. Raises TooManyLayers.

    The caller holds the collector from before it made the layers.
    """
    if len(config.diff_ids) > MAX_LAYERS:
        raise TooManyLayers
    if base is not None:
        config = replace(config, host_base=images.host_base_of(base))
    data = build_config(config)
    image_id = ImageId(digest_of(data))
    layers = await _descriptors(images, config.diff_ids, base)
    document = build_manifest(
        Descriptor(media_type=OCI_CONFIG, digest=Digest(image_id), size=len(data)), layers
    )
    manifest = Descriptor(media_type=OCI_MANIFEST, digest=digest_of(document), size=len(document))
    await images.put_blob(Digest(image_id), data)
    await images.put_blob(manifest.digest, document)
    if not keep:
        return images.describe(ImageRecord(id=image_id, manifest=manifest), config)
    return await images.register(
        image_id,
        manifest=manifest,
        blobs=(manifest.digest, *(layer.digest for layer in layers)),
        parent=parent,
    )


async def commit(
    images: Images,
    key: str,
    parent: Image | None,
    *,
    config: ContainerConfig,
    created_by: str = "",
    author: str = "",
    comment: str = "",
    changes: Sequence[str] = (),
) -> Image:
    """An image of a snapshot's changes over its parent; the caller has paused what writes to it.

    When nothing was changed it has the parent's layers, as with Docker.
    """
    config = apply_changes(config, changes)
    with images.collector.hold():
        layer = await layer_of_snapshot(images, key)
        return await make_child(
            images,
            parent,
            layer,
            config=config,
            history=HistoryEntry(
                created=now(),
                created_by=created_by,
                author=author,
                comment=comment,
                empty_layer=layer is None,
            ),
        )


async def make_child(
    images: Images,
    parent: Image | None,
    layer: LayerRecord | None,
    *,
    config: ContainerConfig,
    history: HistoryEntry,
    platform: Platform | None = None,
) -> Image:
    """The parent's image with a new config, and perhaps one more layer. The caller holds the collector."""
    diff_ids = parent.diff_ids if parent else ()
    made = ImageConfig(
        platform=platform or (parent.platform if parent else own_platform()),
        config=config,
        diff_ids=(*diff_ids, layer.diff_id) if layer else diff_ids,
        history=(*(parent.history if parent else ()), history),
        created=history.created,
        author=history.author,
        comment=history.comment,
    )
    return await make_image(images, made, base=parent, parent=parent.id if parent else "")


def own_platform() -> Platform:
    """What images made here are for; levels of amd64 are no variant of an image, as in Docker."""
    platform = host_platform()
    return replace(platform, variant="") if platform.architecture == "amd64" else platform


async def import_tar(
    images: Images,
    stream: AsyncIterator[bytes],
    *,
    source: str = "-",
    message: str = "",
    changes: Sequence[str] = (),
    platform: Platform | None = None,
) -> Image:
    """An image of one layer, from a tar of a root file system."""
    if platform is not None and platform.os != "linux":
        raise InvalidArgument("operating system is not supported")
    config = apply_changes(ContainerConfig(), changes)
    comment = message or f"Imported from {source}"
    with images.collector.hold():
        layer = await layer_of_stream(images, stream)
        return await make_child(
            images,
            None,
            layer,
            config=config,
            history=HistoryEntry(created=now(), comment=comment),
            platform=platform,
        )


async def push_target(images: Images, name: str, platform: Platform | None = None) -> Descriptor:
    """See `wherry.engine.ingest.ImageSource`."""
    record = images.catalog.resolve(name)
    target = record.target
    if (
        platform is None
        and target is not None
        and target.media_type in INDEX_TYPES
        and await _is_whole(images, target)
    ):
        return target
    image = images.get(name, platform)
    manifest = record.manifest_of(image)
    if manifest is None:
        raise NotFound(f"image {image.id} has no manifest")
    return await _compressed(images, image, manifest)


async def _is_whole(images: Images, target: Descriptor) -> bool:
    for entry in parse_index(await images.read_blob(target.digest)).entries:
        if not images.has_blob(entry.digest):
            return False
        manifest = parse_image_manifest(await images.read_blob(entry.digest))
        needed = (manifest.config.digest, *(layer.digest for layer in manifest.layers))
        if not all(images.has_blob(digest) for digest in needed):
            return False
    return True


async def _compressed(images: Images, image: Image, manifest: Descriptor) -> Descriptor:
    """The manifest with no uncompressed layer in it; made and kept when it is not so already."""
    document = parse_image_manifest(await images.read_blob(manifest.digest))
    if any(name.digest == manifest.digest for name in images.catalog.names_of(image.id)):
        return manifest  # a registry has it so: what came uncompressed goes back as it came
    plain = plain_layers(document)
    if not plain:
        return manifest
    with images.collector.hold():
        replaced = dict(zip(plain, await portable_layers(images, plain), strict=True))
        layers = [replaced.get(layer.digest, layer) for layer in document.layers]
        data = build_manifest(document.config, tuple(layers))
        packed = Descriptor(media_type=OCI_MANIFEST, digest=digest_of(data), size=len(data))
        await images.put_blob(packed.digest, data)
        await images.register(
            image.id,
            manifest=packed,
            blobs=(packed.digest, *(layer.digest for layer in layers)),
        )
        images.retarget(image.id, manifest, packed)
    return packed


def plain_layers(manifest: Manifest) -> list[Digest]:
    """The layers that are not compressed."""
    return [layer.digest for layer in manifest.layers if layer.media_type in _UNCOMPRESSED]


async def portable_layers(
    images: Images, diff_ids: Sequence[Digest], compression: Compression = GZIP
) -> tuple[Descriptor, ...]:
    """Layers as blobs that can travel: as one came with an image, else compressed now.

    The caller holds the collector: nothing names the new blobs.
    """
    known: dict[Digest, Descriptor] = {}
    for record in images.catalog.images():
        if record.manifest is None or not images.has_blob(record.manifest.digest):
            continue
        manifest = parse_image_manifest(await images.read_blob(record.manifest.digest))
        if not manifest.is_image:
            continue
        for diff_id, layer in zip(images.get(record.id).diff_ids, manifest.layers, strict=False):
            is_wanted = compression.is_kind_of(layer.media_type)
            is_good = is_wanted or (not compression.force and layer.media_type not in _UNCOMPRESSED)
            if is_good and images.has_blob(layer.digest) and (is_wanted or diff_id not in known):
                known[diff_id] = as_oci_layer(layer)
    missing = [diff_id for diff_id in dict.fromkeys(diff_ids) if diff_id not in known]
    packed = await run_together(_compress(images, diff_id, compression) for diff_id in missing)
    known.update(zip(missing, packed, strict=True))
    return tuple(known[diff_id] for diff_id in diff_ids)


async def recompress(images: Images, image: Image, compression: Compression) -> Image:
    """The image with a manifest whose layers are compressed so. The caller holds the collector."""
    layers = await portable_layers(images, image.diff_ids, compression)
    config = Digest(image.id)
    size = len(await images.read_blob(config))
    data = build_manifest(Descriptor(media_type=OCI_CONFIG, digest=config, size=size), layers)
    packed = Descriptor(media_type=OCI_MANIFEST, digest=digest_of(data), size=len(data))
    await images.put_blob(packed.digest, data)
    return replace(image, manifest=packed)


async def _compress(images: Images, diff_id: Digest, compression: Compression = GZIP) -> Descriptor:
    tar = images.layer_tar(diff_id)
    if compression.kind == "uncompressed":
        await run_blocking(images.content.link, diff_id, tar)
        size = tar.stat().st_size
        return Descriptor(media_type=compression.media_type, digest=diff_id, size=size)
    output = images.content.tmp / f"packed-{diff_id.partition(':')[2][:32]}-{secrets.token_hex(4)}"
    request: dict[str, JsonValue] = {
        "tar": str(tar),
        "output": str(output),
        "layers": str(images.layers.folder),
        "kind": compression.kind,
    }
    if compression.level is not None:
        request["level"] = compression.level
    try:
        result = await run_image_worker("wherry.image.layer.compress:compress", request)
        if not isinstance(result, Mapping):
            raise Internal("the compressor gave no result")
        digest = Digest(get_str(result, "digest"))
        await run_blocking(images.content.adopt, digest, output)
    finally:
        output.unlink(missing_ok=True)
    return Descriptor(
        media_type=compression.media_type, digest=digest, size=get_int(result, "size")
    )


async def _descriptors(
    images: Images, diff_ids: Sequence[Digest], parent: Image | None
) -> tuple[Descriptor, ...]:
    known: dict[Digest, Descriptor] = {}
    if parent is not None and parent.manifest is not None:
        manifest = parse_image_manifest(await images.read_blob(parent.manifest.digest))
        known = dict(zip(parent.diff_ids, manifest.layers, strict=False))
    return tuple(
        known.get(diff_id)
        or Descriptor(
            media_type=OCI_LAYER, digest=diff_id, size=images.layers.get(diff_id).tar_size
        )
        for diff_id in diff_ids
    )


def _layer(images: Images, result: JsonValue) -> LayerRecord:
    if not isinstance(result, Mapping):
        raise Internal("the layer worker gave no result")
    return images.layers.get(LayerRecord.from_json(result).diff_id)


_EMPTY_SHA256 = digest_of(b"")
