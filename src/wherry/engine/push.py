"""Push: an image of the image service to a registry, byte for byte, with Docker's progress lines and sentences.

Each blob goes at most once: one that the repository has is skipped, one that the registry has elsewhere is
mounted, the rest is uploaded and taken up again where a broken connection left it. Manifests follow their blobs,
an index its manifests, the tag comes last.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from wherry.engine.blobsources import BlobSources
from wherry.engine.ingest import ImageSource
from wherry.engine.pull import short_id, stream_progress
from wherry.engine.registries import Registries, translate_failure
from wherry.engine.tasks import run_together
from wherry.image.reference import Reference
from wherry.lib.blocking import run_blocking
from wherry.lib.jsonvalue import JsonValue
from wherry.model.errors import EngineError, Internal, InvalidArgument, NotFound
from wherry.model.image import Descriptor, Digest, Platform
from wherry.model.oci_image import Index, Manifest, parse_diff_ids, parse_manifest
from wherry.model.progress import Progress
from wherry.registry.auth import ANONYMOUS, Credentials
from wherry.registry.client import RegistryClient, Upload
from wherry.registry.errors import ConnectionFailed, NoCredentials, RegistryFailure, ResponseError
from wherry.registry.retry import next_delay_s

_MONOLITHIC_BYTES = 64 * 1024
_MOUNT_ATTEMPTS = 3
_PIECE_BYTES = 1 << 20
_UPDATE_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """What `POST /images/{name}/push` asks for; a reference without tag means all local tags."""

    reference: Reference
    platform: Platform | None = None  # of an index, this one only
    credentials: Credentials = ANONYMOUS


class NoLocalTag(NotFound):
    """The repository has no local tag at all."""

    def __init__(self, repository: str) -> None:
        super().__init__(f"An image does not exist locally with the tag: {repository}")


class NoSuchTag(NotFound):
    """The repository has local tags, but not this one."""

    def __init__(self, name: str) -> None:
        super().__init__(f"tag does not exist: {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    descriptor: Descriptor
    shown: str  # short diff-id of a layer, as Docker shows it; empty = not shown


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Blobs first, then manifests in order; the last one is the target."""

    blobs: tuple[_Blob, ...]
    manifests: tuple[tuple[Descriptor, bytes], ...]

    @property
    def digests(self) -> list[Digest]:
        blobs = [blob.descriptor.digest for blob in self.blobs]
        return blobs + [descriptor.digest for descriptor, _ in self.manifests]


def translate_push_failure(failure: RegistryFailure) -> EngineError:
    """Docker's push leaves out the request that asked for credentials."""
    if isinstance(failure, NoCredentials):
        return Internal("no basic auth credentials")
    return translate_failure(failure)


async def _knock(client: RegistryClient) -> None:
    try:
        await client.ping()
    except ConnectionFailed:
        raise
    except RegistryFailure:
        pass  # it answers; whom it lets in is seen when something is asked of it


class Pushes:
    """The push service of one engine."""

    def __init__(
        self,
        registries: Registries,
        images: ImageSource,
        sources: BlobSources,
        max_concurrent: int = 5,
    ) -> None:
        self._registries = registries
        self._images = images
        self._sources = sources
        self._slots = asyncio.Semaphore(max_concurrent)

    def push(self, request: PushRequest) -> AsyncIterator[Progress]:
        """Pushes; yields progress. Closing the iterator cancels the push. Raises EngineError."""
        return stream_progress(lambda say: self._run(request, say), "push")

    async def _run(self, request: PushRequest, say: Callable[[Progress], None]) -> None:
        reference = request.reference
        say(Progress(status=f"The push refers to repository [{reference.repository}]"))
        if reference.digest:
            raise InvalidArgument("cannot push a digest reference")
        tags = self._images.list_tags(reference.repository)
        if not tags:
            raise NoLocalTag(reference.familiar_repository)
        if reference.tag and reference.tag not in tags:
            raise NoSuchTag(reference.familiar())
        client = await self._choose_client(reference, request.credentials)
        for tag in [reference.tag] if reference.tag else tags:
            await self._push_tag(client, replace(reference, tag=tag), request, say)

    async def _push_tag(
        self,
        client: RegistryClient,
        reference: Reference,
        request: PushRequest,
        say: Callable[[Progress], None],
    ) -> None:
        target = await self._images.push_target(reference.canonical(), request.platform)
        plan = await self._plan(target)
        with self._images.protect(plan.digests):
            for blob in plan.blobs:
                if blob.shown:
                    say(Progress(status="Preparing", id=blob.shown, detail=True))
            await self._send(plan, client, reference, say)
            self._sources.remember(
                reference.repository, [blob.descriptor.digest for blob in plan.blobs]
            )
            await self._images.add_repo_digest(reference.repository, target)
        size = len(plan.manifests[-1][1])
        say(Progress(status=f"{reference.tag}: digest: {target.digest} size: {size}"))
        image_id = self._images.find_image(reference.canonical()) or ""
        self._images.publish("push", image_id, reference.familiar_repository, reference.familiar())
        aux: JsonValue = {"Tag": reference.tag, "Digest": target.digest, "Size": size}
        say(Progress(aux=aux, detail=True))

    async def send(
        self,
        reference: Reference,
        credentials: Credentials,
        blobs: Sequence[Descriptor],
        manifest: Descriptor,
        body: bytes,
    ) -> None:
        """A manifest that is no local image's, and its blobs, which the caller protects. Raises EngineError."""
        shown = tuple(_Blob(descriptor=blob, shown="") for blob in blobs)
        plan = _Plan(blobs=shown, manifests=((manifest, body),))
        client = await self._choose_client(reference, credentials)
        await self._send(plan, client, reference, lambda _: None)
        self._sources.remember(reference.repository, [blob.digest for blob in blobs])

    async def _send(
        self,
        plan: _Plan,
        client: RegistryClient,
        reference: Reference,
        say: Callable[[Progress], None],
    ) -> None:
        try:
            await run_together(
                _BlobPush(
                    self._images, self._sources, self._registries, client, reference, say
                ).run(blob, self._slots)
                for blob in plan.blobs
            )
            for descriptor, body in plan.manifests[:-1]:
                await client.put_manifest(
                    reference.path, descriptor.digest, descriptor.media_type, body
                )
            descriptor, body = plan.manifests[-1]
            await client.put_manifest(reference.path, reference.tag, descriptor.media_type, body)
        except RegistryFailure as failure:
            raise translate_push_failure(failure) from failure
        except OSError as exc:
            raise Internal(f"push {reference.familiar()}: {exc.strerror}") from exc

    async def _choose_client(
        self, reference: Reference, credentials: Credentials
    ) -> RegistryClient:
        """Who answers at the registry's address: found out before anything is compressed for it."""
        try:
            clients = await self._registries.clients(reference.domain, credentials, mirrors=False)
            client, _ = await self._registries.first_that_answers(clients, _knock)
        except RegistryFailure as failure:
            raise translate_push_failure(failure) from failure
        return client

    async def _plan(self, target: Descriptor) -> _Plan:
        blobs: dict[Digest, _Blob] = {}
        manifests: list[tuple[Descriptor, bytes]] = []

        async def add(descriptor: Descriptor) -> None:
            body = await self._images.read_blob(descriptor.digest)
            document = parse_manifest(body, descriptor.media_type)
            if isinstance(document, Index):
                for entry in document.entries:
                    await add(entry)
            else:
                for blob in await self._list_blobs(document):
                    blobs.setdefault(blob.descriptor.digest, blob)
            manifests.append((replace(descriptor, media_type=document.media_type), body))

        await add(target)
        return _Plan(blobs=tuple(blobs.values()), manifests=tuple(manifests))

    async def _list_blobs(self, manifest: Manifest) -> list[_Blob]:
        """The layers as Docker lists them, top first, then the config."""
        shown: Sequence[Digest] = [layer.digest for layer in manifest.layers]
        if manifest.is_image:
            config = await self._images.read_blob(manifest.config.digest)
            diff_ids = parse_diff_ids(config)
            shown = diff_ids if len(diff_ids) == len(manifest.layers) else shown
        layers = [
            _Blob(descriptor=layer, shown=short_id(name))
            for layer, name in zip(manifest.layers, shown, strict=True)
        ]
        return [*reversed(layers), _Blob(descriptor=manifest.config, shown="")]


class _BlobPush:
    """One blob to one repository."""

    def __init__(
        self,
        images: ImageSource,
        sources: BlobSources,
        registries: Registries,
        client: RegistryClient,
        reference: Reference,
        say: Callable[[Progress], None],
    ) -> None:
        self._images = images
        self._sources = sources
        self._policy = registries.policy
        self._client = client
        self._reference = reference
        self._say = say
        self._next_update = 0.0

    async def run(self, blob: _Blob, slots: asyncio.Semaphore) -> None:
        """Returns when the repository has the blob."""
        if slots.locked():
            self._line(blob, "Waiting")
        async with slots:
            failures = 0
            upload = None
            while True:
                sent = 0 if upload is None else upload.offset
                try:
                    if upload is None:
                        how, upload = await self._avoid_upload(blob.descriptor)
                        if how:
                            self._line(blob, how)
                            return
                        upload = upload or await self._open_session()
                    elif not await self._client.refresh_upload(self._reference.path, upload):
                        upload = None
                        continue
                    await self._upload(blob, upload)
                    self._line(blob, "Pushed")
                    return
                except RegistryFailure as failure:
                    moved = upload is not None and upload.offset > sent
                    failures = 1 if moved else failures + 1
                    delay = next_delay_s(self._policy, failure, failures)
                    if delay is None or getattr(failure, "refused", False):
                        raise
                    if delay >= 1:
                        self._line(blob, f"Retrying in {round(delay)} seconds")
                    await asyncio.sleep(delay)

    async def _open_session(self) -> Upload:
        upload = await self._client.start_upload(self._reference.path)
        if upload is None:
            raise Internal("registry mounted a blob that nobody asked it to")
        return upload

    async def _avoid_upload(self, descriptor: Descriptor) -> tuple[str, Upload | None]:
        """How the repository has got the blob without an upload; else an empty text.

        A registry that does not mount answers with an upload session, which is used then.
        """
        path, digest = self._reference.path, descriptor.digest
        if await self._client.find_blob(path, digest) is not None:
            return "Layer already exists", None
        sources = [
            source
            for source in self._sources.find(self._reference.domain, digest)
            if source != path
        ]
        upload = None
        for source in sources[:_MOUNT_ATTEMPTS]:
            try:
                upload = await self._client.start_upload(path, digest, source)
            except ResponseError as failure:
                # What this user may not read there is uploaded.
                if failure.status not in {401, 403, 404}:
                    raise
            else:
                if upload is None:
                    return f"Mounted from {source}", None
        return "", upload

    async def _upload(self, blob: _Blob, upload: Upload) -> None:
        path, digest = self._reference.path, blob.descriptor.digest
        size = blob.descriptor.size
        file = self._images.blob_path(digest)
        if size <= _MONOLITHIC_BYTES and upload.offset == 0:
            body = await run_blocking(file.read_bytes)
            await self._client.put_blob(path, upload, digest, body)
            return
        remaining = size - upload.offset
        if remaining > 0:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                pieces = self._read(fd, upload.offset, size, blob)
                await self._client.send_chunk(path, upload, pieces, remaining)
            finally:
                os.close(fd)
        await self._client.finish_upload(path, upload, digest)

    async def _read(self, fd: int, offset: int, size: int, blob: _Blob) -> AsyncIterator[bytes]:
        while offset < size:
            piece = await run_blocking(os.pread, fd, min(_PIECE_BYTES, size - offset), offset)
            if not piece:
                raise Internal(f"blob {blob.descriptor.digest} is shorter than its descriptor says")
            yield piece
            offset += len(piece)
            now = time.monotonic()
            if now >= self._next_update or offset == size:
                self._next_update = now + _UPDATE_INTERVAL_S
                self._line(blob, "Pushing", offset, size)

    def _line(self, blob: _Blob, status: str, current: int = 0, total: int = 0) -> None:
        if blob.shown:
            self._say(
                Progress(status=status, id=blob.shown, current=current, total=total, detail=True)
            )
