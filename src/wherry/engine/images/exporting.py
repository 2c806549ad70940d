"""What leaves the image service as a stream: `save` of images, `export` of a container's root."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
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
from wherry.model.image import Descriptor, Digest, Image, Platform
from wherry.model.oci_image import (
    OCI_CONFIG,
    OCI_MANIFEST,
    Manifest,
    parse_image_manifest,
)
from wherry.model.platforms import format_platform

if TYPE_CHECKING:
    from wherry.engine.images.service import Images


Chosen = Sequence[tuple[Image, tuple[Reference, ...]]]


async def save(images: Images, chosen: Chosen) -> AsyncIterator[bytes]:
    """Images as one archive."""
    with ExitStack() as guard:
        with images.collector.hold():
            saved = [await _prepare(images, image, names) for image, names in chosen]
            files, blobs = build_layout(saved)
            # From here on only these are kept: a client may read as slowly as it likes.
            guard.enter_context(images.protect(blobs))
            guard.enter_context(images.protect(d for image, _ in chosen for d in image.diff_ids))
        paths = {digest: images.layer_tar(digest) for digest in blobs}
        request: dict[str, JsonValue] = {"members": build_members(files, blobs, paths)}
        async for data in stream_worker("wherry.image.save:save", request):
            yield data
    for image, _ in chosen:
        images.publish("save", image.id, image.id)


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


def choose(images: Images, refs: Sequence[str], platform: Platform | None) -> Chosen:
    """Each image once, under the names that it was asked for; a bare repository means all its tags.

    Raises NoSuchImage, InvalidArgument.
    """
    chosen: dict[str, tuple[Image, list[Reference]]] = {}
    for ref in refs:
        try:
            matched = _match(images, ref, platform)
        except NoSuchImage:
            raise NoSuchImage(ref) from None  # Docker names it here as it was given, without a tag
        except WrongPlatform as error:
            wanted = format_platform(platform) if platform is not None else ""
            raise NotFound(f"no suitable export target found for platform {wanted}") from error
        for image, names in matched:
            if image.id == images.host_id():
                raise InvalidArgument(
                    "the built-in image `host` cannot be saved: it is this machine"
                )
            known = chosen.setdefault(image.id, (image, []))[1]
            known += [name for name in names if name not in known]
    return [(image, tuple(names)) for image, names in chosen.values()]


def _match(
    images: Images, ref: str, platform: Platform | None
) -> list[tuple[Image, tuple[Reference, ...]]]:
    if not is_image_id(ref):
        reference = parse_reference(ref)
        names = images.tags_of(reference.repository)
        if not reference.tag and not reference.digest and names:
            return [(images.get(name.canonical(), platform), (name,)) for name in names]
        if reference.tag and reference in names:
            return [(images.get(ref, platform), (reference,))]
    return [(images.get(ref, platform), ())]


async def _prepare(images: Images, image: Image, names: tuple[Reference, ...]) -> SavedImage:
    manifest, descriptor = None, image.manifest
    if descriptor is not None and images.has_blob(descriptor.digest):
        manifest = parse_image_manifest(await images.read_blob(descriptor.digest))
        layers = [layer.digest for layer in manifest.layers]
        if not all(images.has_blob(d) or images.layers.has(d) for d in layers):
            manifest = None
    if manifest is None or descriptor is None:
        manifest, descriptor = await _own_manifest(images, image)
    return SavedImage(
        descriptor=descriptor,
        manifest=manifest,
        diff_ids=image.diff_ids,
        names=names,
        created_s=max(parse_time(image.created) // 1_000_000_000, 0),
    )


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
