"""The build cache in a registry: manifests that are read there and written there, by reference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from wherry.engine.build.cachefile import unfold_cache
from wherry.engine.downloads import BlobRequest, Downloads
from wherry.engine.pull import read_config_blob, translate_pull_failure
from wherry.engine.push import Pushes
from wherry.engine.registries import Registries
from wherry.image.reference import Reference, parse_reference
from wherry.model.errors import InvalidArgument
from wherry.model.image import Descriptor, Digest
from wherry.model.oci_image import MAX_INDEX_DEPTH, BadManifest, Manifest, parse_manifest
from wherry.registry.auth import ANONYMOUS, Credentials
from wherry.registry.client import RegistryClient
from wherry.registry.errors import RegistryFailure

Fetch = Callable[[Descriptor, Digest], Awaitable[None]]
Found = tuple[bytes, tuple[Descriptor, ...], Fetch]


class CacheRegistry:
    """Whom the builder asks for caches that are not here."""

    def __init__(self, registries: Registries, downloads: Downloads, pushes: Pushes) -> None:
        self._registries = registries
        self._downloads = downloads
        self._pushes = pushes

    async def read(self, ref: str, credentials: Mapping[str, Credentials]) -> list[Found]:
        """Of each manifest that a reference leads to: its config, its layers, how to fetch one. Raises EngineError."""
        reference = parse_reference(ref).with_default_tag()
        try:
            clients = await self._registries.clients(
                reference.domain, credentials.get(reference.domain, ANONYMOUS)
            )
            wanted = reference.digest or reference.tag
            return await self._read(reference, wanted, clients, MAX_INDEX_DEPTH)
        except RegistryFailure as failure:
            raise translate_pull_failure(failure, reference) from failure

    async def _read(
        self, reference: Reference, wanted: str, clients: list[RegistryClient], depth: int
    ) -> list[Found]:
        client, found = await self._registries.first_that_answers(
            clients, lambda client: client.get_manifest(reference.path, wanted)
        )
        document = unfold_cache(parse_manifest(found.body, found.descriptor.media_type))
        clients = clients[clients.index(client) :]
        if isinstance(document, Manifest):
            config = await read_config_blob(client, reference.path, document.config)
            return [(config, document.layers, self._fetcher(reference, clients))]
        if not depth:
            raise BadManifest(f"index {wanted} is nested deeper than {MAX_INDEX_DEPTH}")
        all_found: list[Found] = []
        for entry in document.entries:
            all_found += await self._read(reference, entry.digest, clients, depth - 1)
        return all_found

    def _fetcher(self, reference: Reference, clients: list[RegistryClient]) -> Fetch:
        async def fetch(descriptor: Descriptor, diff_id: Digest) -> None:
            request = BlobRequest(
                descriptor=descriptor, diff_id=diff_id, path=reference.path, clients=clients
            )
            try:
                await self._downloads.fetch(request, lambda _: None)
            except RegistryFailure as failure:
                raise translate_pull_failure(failure, reference) from failure

        return fetch

    async def write(
        self,
        ref: str,
        credentials: Mapping[str, Credentials],
        blobs: tuple[Descriptor, ...],
        manifest: Descriptor,
        body: bytes,
    ) -> None:
        """Puts a manifest and its blobs, which are in the content store. Raises EngineError."""
        reference = parse_reference(ref).with_default_tag()
        if reference.digest:
            raise InvalidArgument(f"cannot export a cache to a digest: {ref}")
        mine = credentials.get(reference.domain, ANONYMOUS)
        await self._pushes.send(reference, mine, blobs, manifest, body)
