"""Images in and out as archives: the engine's half, which relays the stream and makes the result known."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.engine.images.making import plain_layers
from wherry.engine.images.pipes import feed_pipe, open_pipe
from wherry.engine.images.worker import run_image_worker
from wherry.image.config import parse_config
from wherry.image.content import BadContent
from wherry.image.reference import parse_reference
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_int, get_object, get_str, get_strings
from wherry.model.image import Descriptor, Digest, Image, ImageId, Platform
from wherry.model.oci_image import parse_descriptor, parse_image_manifest
from wherry.model.platforms import host_platform, matches
from wherry.model.progress import Progress

if TYPE_CHECKING:
    from wherry.engine.images.service import Images

_BACKLOG = 64


async def load(
    images: Images,
    stream: AsyncIterator[bytes],
    *,
    quiet: bool = False,
    platform: Platform | None = None,
) -> AsyncIterator[Progress]:
    """Takes every image of an archive in; yields Docker's lines. Raises BadContent and others."""
    with (
        images.collector.hold(),
        tempfile.TemporaryDirectory(prefix="load-", dir=images.content.tmp) as folder,
    ):
        async for item in _run_load(images, stream, Path(folder)):
            if isinstance(item, Progress):
                if not quiet:
                    yield item
                continue
            async for line in _make_known(images, item, platform):
                yield line


async def _run_load(
    images: Images, stream: AsyncIterator[bytes], folder: Path
) -> AsyncIterator[Progress | list[JsonObject]]:
    lines: asyncio.Queue[Progress | None] = asyncio.Queue()

    def on_progress(value: JsonValue) -> None:
        line = _layer_progress(value)
        if line is not None and lines.qsize() < _BACKLOG:
            lines.put_nowait(line)

    async def work(source: int) -> JsonValue:
        try:
            return await run_image_worker(
                "wherry.image.archive:load",
                {
                    "input": source,
                    "folder": str(folder),
                    "root": str(images.root),
                    "layers": str(images.layers.folder),
                    "driver": images.driver,
                },
                fds=(source,),
                pool="stream",
                on_progress=on_progress,
            )
        finally:
            os.close(source)
            lines.put_nowait(None)

    reader, writer = open_pipe()
    worker = asyncio.ensure_future(work(reader))
    feeder = asyncio.ensure_future(feed_pipe(writer, stream))
    # Half an archive is not worth a worker: of many clients that break off none may wait for one.
    feeder.add_done_callback(lambda fed: worker.cancel() if _has_failed(fed) else None)
    try:
        while (line := await lines.get()) is not None:
            yield line
        if _has_failed(feeder):
            await feeder
        result = await worker
        await feeder
    finally:
        worker.cancel()
        feeder.cancel()
        await asyncio.gather(worker, feeder, return_exceptions=True)
    if not isinstance(result, list):
        raise BadContent("the archive holds no images")
    yield [document for document in result if isinstance(document, dict)]


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


async def _make_known(
    images: Images, documents: list[JsonObject], platform: Platform | None
) -> AsyncIterator[Progress]:
    loaded: list[tuple[JsonObject, Image, Descriptor]] = []
    if platform is not None:
        documents = [
            document
            for document in documents
            if matches(platform, await _platform_of(images, document))
        ]
        if not documents:
            raise BadContent("the archive has no image for the platform that was asked for")
    for document in documents:
        descriptor = parse_descriptor(get_object(document, "manifest"))
        target = parse_descriptor(get_object(document, "target"))
        blobs = [descriptor.digest, *map(Digest, get_strings(document, "blobs"))]
        image_id = ImageId(get_str(document, "config"))
        if target == descriptor and (known := await _packed_manifest(images, image_id, descriptor)):
            target, descriptor, blobs = known, known, []
        image = await images.register(image_id, manifest=descriptor, blobs=blobs)
        loaded.append((document, image, target))
    wanted = platform or host_platform()
    # Of one name's platforms the last is what the name means: the one that runs here.
    loaded.sort(key=lambda known: matches(wanted, known[1].platform))
    said: set[str] = set()
    for document, image, target in loaded:
        images.publish("load", image.id, image.id)
        for line in _point_names(images, get_strings(document, "names"), image, target):
            if line.stream not in said:
                yield line
            said.add(line.stream)


async def _platform_of(images: Images, document: JsonObject) -> Platform:
    return parse_config(await images.read_blob(Digest(get_str(document, "config")))).platform


async def _packed_manifest(
    images: Images, image_id: ImageId, loaded: Descriptor
) -> Descriptor | None:
    """What the image came with from a registry, when the archive has its layers uncompressed.

    It stays the image's manifest, so that a push gives back the digest of the pull.
    """
    record = images.catalog.find(image_id)
    if record is None or record.manifest is None or not images.has_blob(record.manifest.digest):
        return None
    if not plain_layers(parse_image_manifest(await images.read_blob(loaded.digest))):
        return None
    manifest = parse_image_manifest(await images.read_blob(record.manifest.digest))
    if plain_layers(manifest) or not all(
        images.has_blob(layer.digest) for layer in manifest.layers
    ):
        return None
    return record.manifest


def _point_names(
    images: Images, names: Sequence[str], image: Image, target: Descriptor
) -> Iterator[Progress]:
    for name in names:
        reference = parse_reference(name).with_default_tag()
        images.check_new_name(reference)
        old = images.catalog.name(reference.canonical())
        if old is not None and image.id not in old.images and old.target != target:
            yield Progress(
                stream=f"The image {reference.familiar()} already exists, renaming the old one with"
                f" ID {old.images[0]} to empty string\n"
            )
        images.point(reference.canonical(), image.id, target, quiet=True)
        yield Progress(stream=f"Loaded image: {reference.familiar()}\n")
    if not names:
        yield Progress(stream=f"Loaded image ID: {image.id}\n")


def _layer_progress(value: JsonValue) -> Progress | None:
    if not isinstance(value, dict) or "layer" not in value:
        return None
    return Progress(
        status="Loading layer",
        id=get_str(value, "layer"),
        current=get_int(value, "current"),
        total=get_int(value, "total"),
        detail=True,
    )
