"""`--cache-to`: the records of a build and their layers, in the image's config, in a registry or as an OCI layout.

`mode=min` gives the layers of the result alone, and of all other steps what they are called, so that a build that
needs nothing of them finds them done; `mode=max` gives the layers of every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from wherry.engine.build.cache import BuildCache
from wherry.engine.build.cachefile import build_cache_config, build_cache_manifest, build_records
from wherry.engine.build.outputs import Outputs
from wherry.engine.build.records import CacheOption, CacheRecord
from wherry.engine.build.remotes import CacheRegistry
from wherry.engine.images import Images
from wherry.image.digest import digest_of
from wherry.lib.jsonvalue import JsonObject
from wherry.model.image import Descriptor, Digest
from wherry.model.oci_image import CACHE_CONFIG
from wherry.registry.auth import Credentials


class CacheExporter:
    """Writes the cache of a build. The caller is `images.building`."""

    def __init__(
        self, images: Images, cache: BuildCache, registry: CacheRegistry, outputs: Outputs
    ) -> None:
        self._images = images
        self._cache = cache
        self._registry = registry
        self._outputs = outputs

    def inline(self, keys: Iterable[str], diff_ids: Sequence[Digest]) -> JsonObject:
        """What goes into the config of an image with these layers."""
        return build_records(self._choose(keys), diff_ids)

    async def export(
        self,
        option: CacheOption,
        keys: Iterable[str],
        results: Sequence[Sequence[Digest]],
        credentials: Mapping[str, Credentials],
    ) -> str:
        """Writes to a registry, or the tar of an OCI layout, whose name it answers. Raises EngineError."""
        everything = option.attributes.get("mode") == "max"
        records = self._choose(keys)
        wanted = (record.layers for record in records.values()) if everything else results
        needed = dict.fromkeys(Digest(layer) for layers in wanted for layer in layers)
        diff_ids = tuple(needed)
        config = build_cache_config(build_records(records, diff_ids), diff_ids)
        layers = await self._images.portable_layers(diff_ids, option.compression)
        described = Descriptor(media_type=CACHE_CONFIG, digest=digest_of(config), size=len(config))
        body = build_cache_manifest(option.media_type, described, layers)
        manifest = Descriptor(media_type=option.media_type, digest=digest_of(body), size=len(body))
        await self._images.put_blob(described.digest, config)
        if option.type == "registry":
            blobs = tuple({blob.digest: blob for blob in (*layers, described)}.values())
            ref = option.attributes["ref"]
            await self._registry.write(ref, credentials, blobs, manifest, body)
            return ""
        await self._images.put_blob(manifest.digest, body)
        name = {"org.opencontainers.image.ref.name": option.attributes.get("tag", "latest")}
        return await self._outputs.write_layout(
            replace(manifest, annotations=name),
            [blob.digest for blob in (manifest, *layers, described)],
        )

    def _choose(self, keys: Iterable[str]) -> dict[str, CacheRecord]:
        chosen: dict[str, CacheRecord] = {}
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            record = self._cache.peek(key)
            if record is not None and key not in chosen:
                chosen[key] = record
                waiting.append(record.result)  # the same step by its content
        return chosen
