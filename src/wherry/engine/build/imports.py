"""`--cache-from`: records of steps from an image, a registry or a folder, and the layers when a step needs them.

A source that cannot be read costs the build its cache and nothing else: a line says why. Layers are fetched
late, so that a stage whose files are in no later step costs no bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from wherry.engine.build.cache import BuildCache
from wherry.engine.build.cachefile import parse_cache_config, unfold_cache
from wherry.engine.build.contexts import BuildContext
from wherry.engine.build.layouts import Layout, Layouts
from wherry.engine.build.records import BuildOptions, CacheOption, CacheRecord
from wherry.engine.build.remotes import CacheRegistry, Fetch
from wherry.engine.clock import now
from wherry.engine.images import Images
from wherry.engine.tasks import run_together
from wherry.image.content import BadContent
from wherry.model.errors import EngineError, InvalidArgument, NoSuchImage
from wherry.model.image import Descriptor, Digest
from wherry.model.oci_image import (
    Index,
    parse_image_manifest,
    parse_manifest,
)

HOLLOW = Digest("")  # stands for layers that nobody has


class HollowCache(Exception):
    """Files of a step are needed that a cache knew without its layers: the build begins again without such."""


class ImportedCache:
    """Records that are not in this store's cache, for one build."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._records: dict[str, CacheRecord] = {}
        self._layers: dict[str, tuple[Descriptor, Fetch]] = {}

    def add(self, config: bytes, layers: tuple[Descriptor, ...], fetch: Fetch) -> bool:
        """Takes in what one source has; whether that is anything. Raises BadContent."""
        records, diff_ids = parse_cache_config(config)
        if records and len(diff_ids) != len(layers):
            raise BadContent("cache config: its layers are not those of the manifest")
        self._records.update(records)
        for diff_id, layer in zip(diff_ids, layers, strict=False):
            self._layers.setdefault(diff_id, (layer, fetch))
        return bool(records)

    def find(self, key: str) -> CacheRecord | None:
        """The record; its layers are here or can be fetched."""
        return self._records.get(key)

    def drop_hollow(self) -> None:
        """Forgets the records without layers."""
        self._records = {key: rec for key, rec in self._records.items() if not rec.hollow}

    async def fetch(self, diff_ids: Iterable[Digest]) -> None:
        """Returns when the layers are here. Raises EngineError, HollowCache."""
        diff_ids = list(diff_ids)
        if HOLLOW in diff_ids:
            raise HollowCache
        wanted = [
            (diff_id, *self._layers[diff_id])
            for diff_id in diff_ids
            if diff_id in self._layers and not self._images.layers.has(diff_id)
        ]
        await run_together(fetch(descriptor, diff_id) for diff_id, descriptor, fetch in wanted)

    def keep(self, keys: Iterable[str], cache: BuildCache) -> None:
        """Records of these keys become this store's own where their layers have come."""
        layers = self._images.layers
        for key in keys:
            record = self._records.get(key)
            if record is None or record.hollow or cache.peek(key) is not None:
                continue
            found = [layers.find(Digest(diff_id)) for diff_id in record.layers]
            if all(found):
                own = found[-1].size_bytes if found and found[-1] is not None else 0
                size = own if record.kind != "internal" else 0
                cache.put(key, replace(record, size_bytes=size, last_used=now()))


class CacheImporter:
    """Reads the sources of a build."""

    def __init__(self, images: Images, registry: CacheRegistry, layouts: Layouts) -> None:
        self._images = images
        self._registry = registry
        self._layouts = layouts

    async def load(
        self,
        cache: ImportedCache,
        options: BuildOptions,
        context: BuildContext,
        say: Callable[[str], None],
    ) -> None:
        """All sources; what cannot be read is said. The caller is `images.building`."""
        for name in options.classic_cache_from:
            await self._load_image(cache, name)
        for number, source in enumerate(options.cache_from):
            try:
                if source.type == "local":
                    await self._load_folder(cache, context, number, source)
                elif not await self._load_image(cache, source.attributes["ref"]):
                    await self._load_reference(cache, source.attributes["ref"], options, say)
            except (EngineError, BadContent) as error:
                say(f"[Warning] no cache from {source.shown()}: {error}\n")

    async def _load_image(self, cache: ImportedCache, ref: str) -> bool:
        """Whether the reference is an image here with its cache in it."""
        try:
            image = self._images.get(ref)
        except (NoSuchImage, InvalidArgument):
            return False
        if image.manifest is None:
            return False
        config = await self._images.read_blob(Digest(image.id))
        manifest = parse_image_manifest(await self._images.read_blob(image.manifest.digest))
        return cache.add(config, manifest.layers, _is_here)

    async def _load_reference(
        self,
        cache: ImportedCache,
        ref: str,
        options: BuildOptions,
        say: Callable[[str], None],
    ) -> None:
        say(f"importing cache manifest from {ref}\n")
        for config, layers, fetch in await self._registry.read(ref, options.credentials):
            cache.add(config, layers, fetch)

    async def _load_folder(
        self, cache: ImportedCache, context: BuildContext, number: int, source: CacheOption
    ) -> None:
        layout = Layout(context.cache_folder(number))
        wanted = source.attributes.get("digest", "")
        found = layout.find(source.attributes.get("tag", "latest"), wanted)
        manifest = unfold_cache(parse_manifest(layout.read(found.digest)))
        if isinstance(manifest, Index):
            raise BadContent("its manifest is an index")

        async def fetch(descriptor: Descriptor, diff_id: Digest) -> None:
            await self._layouts.take_in(layout, descriptor, diff_id)

        cache.add(layout.read(manifest.config.digest), manifest.layers, fetch)


async def _is_here(descriptor: Descriptor, diff_id: Digest) -> None:
    raise BadContent(f"layer {diff_id} of a local image has gone ({descriptor.digest})")
