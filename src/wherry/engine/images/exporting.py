"""What leaves the image service as a stream: `save` of images, `export` of a container's root."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wherry.engine.clock import parse_time
from wherry.engine.images.catalog import WrongPlatform
from wherry.engine.images.pipes import open_pipe, read_pipe
from wherry.engine.images.worker import run_image_worker
from wherry.image.config import (
    OCI_LAYER,
    build_manifest,
)
from wherry.image.digest import digest_of
from wherry.image.reference import Reference, is_image_id, parse_reference
from wherry.image.save import SavedImage, build_layout, build_members
from wherry.lib.blocking import run_blocking
from wherry.lib.jsonvalue import JsonValue
from wherry.model.errors import InvalidArgument, NoSuchImage, NotFound
from wherry.model.image import Descriptor, Digest, Image, ImageId, Platform
from wherry.model.oci_image import (
    INDEX_TYPES,
    OCI_CONFIG,
    OCI_MANIFEST,
    Manifest,
    parse_image_manifest,
    parse_index,
)
from wherry.model.platforms import format_platform

if TYPE_CHECKING:
    from wherry.engine.images.service import Images


@dataclass(slots=True, kw_only=True)
class Choice:
    """An image to save, under which names; `platforms` are the others of the index that its names mean."""

    image: Image
    names: list[Reference]
    manifest: Descriptor | None
    index: Descriptor | None = None
    platforms: tuple[Image, ...] = ()


async def save(images: Images, chosen: Sequence[Choice]) -> AsyncIterator[bytes]:
    """Images as one archive."""
    with ExitStack() as guard:
        with images.collector.hold():
            saved = [await _prepare(images, choice) for choice in chosen]
            files, blobs = build_layout(saved)
            # From here on only these are kept: a client may read as slowly as it likes.
            guard.enter_context(images.protect(blobs))
            guard.enter_context(
                images.protect(
                    diff_id
                    for choice in chosen
                    for image in (choice.image, *choice.platforms)
                    for diff_id in image.diff_ids
                )
            )
        paths = {digest: images.layer_tar(digest) for digest in blobs}
        request: dict[str, JsonValue] = {"members": build_members(files, blobs, paths)}
        async for data in stream_worker("wherry.image.save:save", request):
            yield data
    for choice in chosen:
        images.publish("save", choice.image.id, choice.image.id)


async def export(images: Images, key: str) -> AsyncIterator[bytes]:
    """The merged root of a snapshot as a tar, without the engine's mount points."""
    trees = await run_blocking(images.trees_of, key)
    request: dict[str, JsonValue] = {"roots": [{"trees": [str(tree) for tree in trees]}]}
    async for data in stream_worker("wherry.image.layer.diff:export", request):
        yield data


async def stream_worker(target: str, request: dict[str, JsonValue]) -> AsyncIterator[bytes]:
    """Runs a worker that writes to descriptor `output`; raises what it raised, at the end of its bytes."""
    reader, writer = open_pipe()
    worker = asyncio.ensure_future(
        run_image_worker(target, {**request, "output": writer}, fds=(writer,), pool="stream")
    )
    worker.add_done_callback(lambda _: os.close(writer))
    try:
        async for data in read_pipe(reader):
            yield data
        await worker
    finally:
        worker.cancel()
        await asyncio.wait([worker])


def choose(images: Images, refs: Sequence[str], platform: Platform | None) -> Sequence[Choice]:
    """Each image once, under the names that it was asked for; a bare repository means all its tags.

    A name that means an index brings all its platforms that are here, unless one is asked for.
    Raises NoSuchImage, InvalidArgument.
    """
    chosen: dict[tuple[str, str], Choice] = {}
    for ref in refs:
        try:
            matched = _match(images, ref, platform)
        except NoSuchImage:
            raise NoSuchImage(ref) from None  # Docker names it here as it was given, without a tag
        except WrongPlatform as error:
            wanted = format_platform(platform) if platform is not None else ""
            raise NotFound(f"no suitable export target found for platform {wanted}") from error
        for choice in matched:
            target = choice.index or choice.manifest
            key = (choice.image.id, target.digest if target else "")
            known = chosen.setdefault(key, choice).names
            known += [name for name in choice.names if name not in known]
    return list(chosen.values())


def _match(images: Images, ref: str, platform: Platform | None) -> list[Choice]:
    if not is_image_id(ref):
        reference = parse_reference(ref)
        names = images.tags_of(reference.repository)
        if not reference.tag and not reference.digest and names:
            return [_choose(images, name.canonical(), [name], platform) for name in names]
        if reference.tag and reference in names:
            return [_choose(images, ref, [reference], platform)]
    return [_choose(images, ref, [], platform)]


def _choose(images: Images, ref: str, names: list[Reference], platform: Platform | None) -> Choice:
    image = images.get(ref, platform)
    if image.id == images.host_id():
        raise InvalidArgument("the built-in image `host` cannot be saved: it is this machine")
    record = images.catalog.resolve(ref)
    choice = Choice(image=image, names=names, manifest=record.manifest_of(image))
    if platform is None and len(record.images) > 1:
        choice.index = record.target
        choice.platforms = tuple(images.get(known) for known in record.images if known != image.id)
    return choice


async def _prepare(images: Images, choice: Choice) -> SavedImage:
    if choice.index is not None:
        chosen = {image.id for image in (choice.image, *choice.platforms)}
        indexes, manifests = await _walk(images, choice.index, chosen)
        platforms = [
            _saved(image, manifests[image.id])
            for image in (choice.image, *choice.platforms)
            if image.id in manifests
        ]
        if choice.image.id in manifests:
            return replace(
                platforms[0],
                names=tuple(choice.names),
                index=choice.index,
                index_blobs=indexes,
                platforms=tuple(platforms[1:]),
            )
    descriptor = choice.manifest
    manifest = None if descriptor is None else await _read_whole(images, descriptor)
    if manifest is None or descriptor is None:
        manifest, descriptor = await _own_manifest(images, choice.image)
    saved = _saved(choice.image, (descriptor, manifest))
    return replace(saved, names=tuple(choice.names))


def _saved(image: Image, found: tuple[Descriptor, Manifest]) -> SavedImage:
    return SavedImage(
        descriptor=found[0],
        manifest=found[1],
        diff_ids=image.diff_ids,
        names=(),
        created_s=max(parse_time(image.created) // 1_000_000_000, 0),
    )


async def _walk(
    images: Images, target: Descriptor, chosen: Set[str]
) -> tuple[tuple[Digest, ...], dict[str, tuple[Descriptor, Manifest]]]:
    """The indexes and attestations that are here, the outermost first, and the whole manifests by image.

    Those of a build whose images do not stay are known to nobody but it.
    """
    indexes: list[Digest] = []
    besides: list[Digest] = []
    manifests: dict[str, tuple[Descriptor, Manifest]] = {}
    pending = [target]
    while pending:
        descriptor = pending.pop(0)
        if descriptor.media_type in INDEX_TYPES:
            if images.has_blob(descriptor.digest) and descriptor.digest not in indexes:
                indexes.append(descriptor.digest)
                pending += parse_index(await images.read_blob(descriptor.digest)).entries
        elif manifest := await _read_whole(images, descriptor):
            image = ImageId(manifest.config.digest)
            if image in chosen or images.catalog.find(image) is not None:
                manifests.setdefault(manifest.config.digest, (descriptor, manifest))
            elif images.has_blob(manifest.config.digest):  # an attestation
                layers = [layer.digest for layer in manifest.layers]
                besides += [descriptor.digest, manifest.config.digest, *layers]
    return tuple(dict.fromkeys([*indexes, *besides])), manifests


async def _read_whole(images: Images, descriptor: Descriptor) -> Manifest | None:
    """The manifest, when all that it names is here."""
    if not images.has_blob(descriptor.digest):
        return None
    manifest = parse_image_manifest(await images.read_blob(descriptor.digest))
    for layer in manifest.layers:
        if not images.has_blob(layer.digest) and not images.layers.has(layer.digest):
            return None
    return manifest


async def _own_manifest(images: Images, image: Image) -> tuple[Manifest, Descriptor]:
    config = Descriptor(
        media_type=OCI_CONFIG,
        digest=Digest(image.id),
        size=images.content.size(Digest(image.id)),
    )
    layers = tuple(
        Descriptor(media_type=OCI_LAYER, digest=diff_id, size=images.layers.get(diff_id).tar_size)
        for diff_id in image.diff_ids
    )
    data = build_manifest(config, layers)
    await images.put_blob(digest_of(data), data)
    descriptor = Descriptor(media_type=OCI_MANIFEST, digest=digest_of(data), size=len(data))
    return Manifest(media_type=OCI_MANIFEST, config=config, layers=layers), descriptor
