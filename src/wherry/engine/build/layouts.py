"""OCI layouts that travel inside a build's body: caches (`--cache-from type=local`), and images as named contexts."""

from __future__ import annotations

import asyncio
import secrets

from wherry.engine.build.contexts import BuildContext
from wherry.engine.images import Images
from wherry.engine.images.records import ImageRecord
from wherry.image.config import parse_config
from wherry.image.content import BadContent
from wherry.image.save import blob_name
from wherry.lib.blocking import run_blocking
from wherry.model.image import Descriptor, Digest, Image, ImageId, Platform
from wherry.model.oci_image import (
    BadManifest,
    Index,
    choose_manifest,
    parse_index,
    parse_manifest,
)
from wherry.model.platforms import host_platform

_PIECE = 1 << 20
_REF_NAME = "org.opencontainers.image.ref.name"


class Layout:
    """One of them. What is read is checked against its digest."""

    def __init__(self, folder: BuildContext) -> None:
        self._folder = folder

    def read(self, digest: Digest) -> bytes:
        """A small blob. Raises BadContent."""
        entry = self._folder.whole.find(blob_name(digest))
        data = self._folder.read(blob_name(digest))
        if entry is None or data is None or f"sha256:{entry.digest}" != digest:
            raise BadContent(f"blob {digest} is missing or damaged")
        return data

    def find(self, tag: str, digest: str = "") -> Descriptor:
        """What the index has under a digest or a tag. Raises BadContent."""
        data = self._folder.read("index.json")
        if data is None:
            raise BadContent("could not read index.json: no such file or directory")
        try:
            document = parse_index(data)
        except BadManifest as error:
            raise BadContent(f"could not read index.json: {error}") from error
        for entry in document.entries:
            if entry.digest == digest or (
                not digest and entry.annotations.get(_REF_NAME, "latest") == tag
            ):
                return entry
        raise BadContent(f"it has no {digest or tag}")

    async def take_in(self, images: Images, descriptor: Descriptor, diff_id: Digest) -> None:
        """Makes a layer of a blob. The caller is `images.building`."""
        entry = self._folder.whole.find(blob_name(descriptor.digest))
        if entry is None or entry.size != descriptor.size:
            raise BadContent(f"blob {descriptor.digest} is missing or damaged")
        partial = images.content.tmp / f"layout-{secrets.token_hex(8)}"

        def copy() -> None:
            with self._folder.tar.open("rb") as source, partial.open("wb") as target:
                source.seek(entry.offset)
                remaining = entry.size
                while piece := source.read(min(_PIECE, remaining)):
                    target.write(piece)
                    remaining -= len(piece)

        try:
            await run_blocking(copy)
            ingest = images.begin_layer(descriptor, diff_id, partial=partial)
            try:
                ingest.advance(descriptor.size)
                await ingest.finish()
            finally:
                await ingest.abort()
        finally:
            partial.unlink(missing_ok=True)


class Layouts:
    """Those of one engine."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self.taking_in = asyncio.Lock()  # two builds may want one blob

    async def take_in(self, layout: Layout, descriptor: Descriptor, diff_id: Digest) -> None:
        """The layer, unless it is here."""
        async with self.taking_in:
            if not self._images.has_layer(diff_id):
                await layout.take_in(self._images, descriptor, diff_id)

    async def load(self, folder: BuildContext, wanted: str, platform: Platform | None) -> Image:
        """The image of a tag or digest, which nobody else knows of. The caller is `images.building`.

        Raises BadContent, BadManifest.
        """
        layout = Layout(folder)
        is_digest = wanted.startswith("sha256:")
        descriptor = layout.find("" if is_digest else wanted, wanted if is_digest else "")
        data = layout.read(descriptor.digest)
        document = parse_manifest(data, descriptor.media_type)
        while isinstance(document, Index):
            descriptor = choose_manifest(document.entries, platform or host_platform())
            data = layout.read(descriptor.digest)
            document = parse_manifest(data, descriptor.media_type)
        if not document.is_image:
            raise BadContent(f"{wanted} is no image")
        stated = layout.read(document.config.digest)
        config = parse_config(stated)
        if len(config.diff_ids) != len(document.layers):
            raise BadContent("its manifest has not the layers of its config")
        for diff_id, layer in zip(config.diff_ids, document.layers, strict=True):
            await self.take_in(layout, layer, diff_id)
        await self._images.put_blob(document.config.digest, stated)
        await self._images.put_blob(descriptor.digest, data)
        record = ImageRecord(id=ImageId(document.config.digest), manifest=descriptor)
        return self._images.describe(record, config)
