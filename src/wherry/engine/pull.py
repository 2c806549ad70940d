"""Pull: a registry's image into the image service, with Docker's progress lines and sentences.

Resolve (mirrors first) → manifest or index, checked → platform → config → layers in parallel → one transaction
that makes the image known. Until that transaction nothing names what came; partial files stay for the next try.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from wherry.engine.blobsources import BlobSources
from wherry.engine.downloads import BlobRequest, Downloads, Phase, Step
from wherry.engine.ingest import ImageSink
from wherry.engine.registries import Registries, translate_failure
from wherry.engine.tasks import run_together
from wherry.image.reference import Reference
from wherry.model.errors import EngineError, Forbidden, Internal, NotFound
from wherry.model.image import Descriptor, Digest, ImageId, Platform
from wherry.model.oci_image import (
    MAX_CONFIG_BYTES,
    MAX_INDEX_DEPTH,
    BadManifest,
    Manifest,
    choose_manifest,
    parse_config_platform,
    parse_diff_ids,
    parse_manifest,
)
from wherry.model.platforms import format_platform, host_platform, matches
from wherry.model.progress import Progress
from wherry.registry.auth import ANONYMOUS, Credentials
from wherry.registry.client import RegistryClient, compute_digest
from wherry.registry.errors import ContentMismatch, RegistryFailure, ResponseError
from wherry.registry.retry import next_delay_s

Answer = TypeVar("Answer")

_UPDATE_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What `POST /images/create?fromImage=` asks for; `reference` has a tag or digest unless `all_tags`."""

    reference: Reference
    all_tags: bool = False
    platform: Platform | None = None
    credentials: Credentials = ANONYMOUS


class PullAccessDenied(NotFound):
    """The registry does not show the repository to this user."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(
            f"pull access denied for {name}, repository does not exist or may require"
            f" 'docker login': {cause}"
        )


class ManifestNotFound(NotFound):
    """The repository has no such tag or digest."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"manifest for {name} not found: {cause}")


class RepositoryNotFound(NotFound):
    """The registry has no such repository."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"repository {name} not found: {cause}")


def translate_pull_failure(failure: RegistryFailure, reference: Reference) -> EngineError:
    """The sentence of moby's translatePullError (daemon/internal/distribution/errors.go)."""
    if isinstance(failure, ResponseError) and failure.errors:
        cause = str(failure.errors[0])
        if failure.code == "DENIED":
            return PullAccessDenied(reference.familiar_repository, cause)
        if failure.code == "MANIFEST_UNKNOWN":
            return ManifestNotFound(reference.familiar(), cause)
        if failure.code == "NAME_UNKNOWN":
            return RepositoryNotFound(reference.familiar_repository, cause)
    return translate_failure(failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a name led to: its target, and the manifest for the platform."""

    clients: Sequence[RegistryClient]
    target: Descriptor
    descriptor: Descriptor
    manifest: Manifest
    bodies: tuple[tuple[Digest, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """`moved` = the name means another image than before; `platform` is what the config says."""

    moved: bool
    platform: Platform | None


class Pulls:
    """The pull service of one engine."""

    def __init__(
        self,
        registries: Registries,
        images: ImageSink,
        downloads: Downloads,
        sources: BlobSources,
    ) -> None:
        self._registries = registries
        self._images = images
        self._downloads = downloads
        self._sources = sources

    def pull(self, request: PullRequest) -> AsyncIterator[Progress]:
        """Pulls; yields progress until the image is known. Closing the iterator cancels the pull.

        Nothing is yielded before the registry has answered for the first tag, so that an error until then can
        be an HTTP status, as in Docker. Raises EngineError.
        """
        return stream_progress(lambda say: self._run(request, say), "pull")

    async def _run(self, request: PullRequest, say: Callable[[Progress], None]) -> None:
        reference = request.reference
        if reference.repository == "docker.io/library/scratch":
            raise Forbidden("'scratch' is a reserved name")
        try:
            clients = await self._registries.clients(reference.domain, request.credentials)
            if request.all_tags:
                answering, tags = await self._registries.first_that_answers(
                    clients, lambda client: client.list_tags(reference.path)
                )
                clients = clients[clients.index(answering) :]
                names = [replace(reference, tag=tag) for tag in tags]
            else:
                names = [reference]
            outcomes = [await self._pull_one(name, request, clients, say) for name in names]
        except RegistryFailure as failure:
            raise translate_pull_failure(failure, reference) from failure
        except OSError as exc:
            raise Internal(f"pull {reference.familiar()}: {exc.strerror}") from exc
        moved = any(outcome.moved for outcome in outcomes)
        what = "Downloaded newer image for" if moved else "Image is up to date for"
        say(Progress(status=f"Status: {what} {reference.familiar()}"))
        for name, outcome in zip(names, outcomes, strict=True):
            _warn_of_platform(name, request.platform, outcome.platform, say)

    async def _pull_one(
        self,
        reference: Reference,
        request: PullRequest,
        clients: list[RegistryClient],
        say: Callable[[Progress], None],
    ) -> _Outcome:
        """Pulls one tag or digest."""
        wanted = reference.digest or reference.tag
        try:
            target, body, clients = await self._get_target(reference, wanted, clients)
        except RegistryFailure as failure:
            raise translate_pull_failure(failure, reference) from failure
        shown = replace(reference, tag="").canonical() if reference.digest else reference.tag
        say(Progress(status=f"Pulling from {reference.path}", id=shown))
        found = await self._choose(reference, request.platform, clients, target, body)
        before = self._images.find_image(_name(reference))
        image_id, actual = await self._take_in(reference, found, say)
        say(Progress(status=f"Digest: {target.digest}"))
        self._images.publish("pull", image_id, reference.familiar_repository, reference.familiar())
        return _Outcome(moved=before != image_id, platform=actual)

    async def _get_target(
        self, reference: Reference, wanted: str, clients: list[RegistryClient]
    ) -> tuple[Descriptor, bytes, list[RegistryClient]]:
        """The bytes that a name stands for; the clients from the one that had them on."""

        async def ask(client: RegistryClient) -> tuple[Descriptor, bytes]:
            if self._images.find_image(_name(reference)) is not None:
                head = await client.head_manifest(reference.path, wanted)
                if head is not None and self._images.has_blob(head.digest):
                    return head, await self._images.read_blob(head.digest)
            manifest = await client.get_manifest(reference.path, wanted)
            return manifest.descriptor, manifest.body

        client, (target, body) = await self._retry(
            lambda: self._registries.first_that_answers(clients, ask)
        )
        return target, body, clients[clients.index(client) :]

    async def _choose(
        self,
        reference: Reference,
        platform: Platform | None,
        clients: Sequence[RegistryClient],
        target: Descriptor,
        body: bytes,
    ) -> _Found:
        """Goes through indexes to the manifest of the platform."""
        wanted = host_platform() if platform is None else platform
        descriptor = target
        bodies = [(target.digest, body)]
        for _ in range(MAX_INDEX_DEPTH + 1):
            document = parse_manifest(body, descriptor.media_type)
            if isinstance(document, Manifest):
                return _Found(
                    clients=clients,
                    target=replace(
                        target,
                        media_type=parse_manifest(bodies[0][1], target.media_type).media_type,
                    ),
                    descriptor=replace(descriptor, media_type=document.media_type),
                    manifest=document,
                    bodies=tuple(bodies),
                )
            shown = format_platform(platform or replace(wanted, variant=""))
            descriptor = choose_manifest(document.entries, wanted, shown)
            if descriptor.digest in {digest for digest, _ in bodies}:
                raise BadManifest(f"index {target.digest} names itself")
            body = await self._get_manifest(reference.path, descriptor, clients)
            bodies.append((descriptor.digest, body))
        raise BadManifest(f"index {target.digest} is nested deeper than {MAX_INDEX_DEPTH}")

    async def _get_manifest(
        self, path: str, descriptor: Descriptor, clients: Sequence[RegistryClient]
    ) -> bytes:
        if self._images.has_blob(descriptor.digest):
            return await self._images.read_blob(descriptor.digest)
        _, manifest = await self._retry(
            lambda: self._registries.first_that_answers(
                list(clients), lambda client: client.get_manifest(path, descriptor.digest)
            )
        )
        _check_size(descriptor, manifest.body)
        return manifest.body

    async def _take_in(
        self, reference: Reference, found: _Found, say: Callable[[Progress], None]
    ) -> tuple[ImageId, Platform | None]:
        manifest = found.manifest
        wanted = [manifest.config, *manifest.layers]
        names = {blob.digest for blob in wanted} | {digest for digest, _ in found.bodies}
        with self._images.protect(names):
            config = await self._get_config(reference.path, found)
            diff_ids = _match_diff_ids(manifest, config)
            with self._images.protect([diff_id for diff_id in diff_ids if diff_id is not None]):
                await self._get_layers(reference.path, found, diff_ids, say)
                await self._images.put_blob(manifest.config.digest, config)
                for digest, body in reversed(found.bodies):
                    await self._images.put_blob(digest, body)
                image_id = await self._images.add_image(
                    reference.tag if not reference.digest else None,
                    reference.repository,
                    found.target,
                    found.descriptor,
                )
        self._sources.remember(reference.repository, [blob.digest for blob in wanted])
        return image_id, parse_config_platform(config) if manifest.is_image else None

    async def _get_config(self, path: str, found: _Found) -> bytes:
        descriptor = found.manifest.config
        if self._images.has_blob(descriptor.digest):
            return await self._images.read_blob(descriptor.digest)
        _, config = await self._retry(
            lambda: self._registries.first_that_answers(
                list(found.clients), lambda client: read_config_blob(client, path, descriptor)
            )
        )
        return config

    async def _get_layers(
        self,
        path: str,
        found: _Found,
        diff_ids: Sequence[Digest | None],
        say: Callable[[Progress], None],
    ) -> None:
        requests: dict[Digest, BlobRequest] = {}
        for descriptor, diff_id in zip(found.manifest.layers, diff_ids, strict=True):
            requests.setdefault(
                descriptor.digest,
                BlobRequest(
                    descriptor=descriptor, diff_id=diff_id, path=path, clients=found.clients
                ),
            )
        missing = [request for request in requests.values() if not self._downloads.is_here(request)]
        if not missing and self._images.has_blob(found.manifest.config.digest):
            return  # the image itself is here, and Docker does not speak of its layers then
        for request in requests.values():
            status = Phase.QUEUED.value if request in missing else "Already exists"
            say(Progress(status=status, id=short_id(request.descriptor.digest), detail=True))
        await run_together(
            self._downloads.fetch(request, _LayerLines(request.descriptor, say).show)
            for request in missing
        )

    async def _retry(self, ask: Callable[[], Coroutine[object, object, Answer]]) -> Answer:
        attempt = 0
        while True:
            try:
                return await ask()
            except RegistryFailure as failure:
                attempt += 1
                # A registry that cannot be reached at all is said at once, as in Docker.
                delay = next_delay_s(self._registries.policy, failure, attempt)
                if delay is None or getattr(failure, "refused", False):
                    raise
                await asyncio.sleep(delay)


async def read_config_blob(client: RegistryClient, path: str, descriptor: Descriptor) -> bytes:
    """An image config, checked. Raises BadManifest and RegistryFailure."""
    if descriptor.size > MAX_CONFIG_BYTES:
        raise BadManifest(f"image configuration is larger than {MAX_CONFIG_BYTES} bytes")
    body = bytearray()
    async with client.open_blob(path, descriptor.digest) as blob:
        async for chunk in blob.chunks:
            body += chunk
            if len(body) > descriptor.size:
                break
    _check_size(descriptor, bytes(body))
    if compute_digest(bytes(body), descriptor.digest.partition(":")[0]) != descriptor.digest:
        raise ContentMismatch(f"image config verification failed for digest {descriptor.digest}")
    return bytes(body)


def short_id(digest: Digest) -> str:
    """Twelve hexadecimal digits, as progress lines show a layer."""
    return digest.partition(":")[2][:12]


def _name(reference: Reference) -> str:
    return (replace(reference, tag="") if reference.digest else reference).canonical()


def _check_size(descriptor: Descriptor, body: bytes) -> None:
    if len(body) != descriptor.size:
        raise ContentMismatch(
            f"{descriptor.digest} has {len(body)} bytes, its descriptor says {descriptor.size}"
        )


def _match_diff_ids(manifest: Manifest, config: bytes) -> Sequence[Digest | None]:
    if not manifest.is_image:
        return [None] * len(manifest.layers)
    diff_ids = parse_diff_ids(config)
    if len(diff_ids) != len(manifest.layers):
        raise BadManifest("layers from manifest don't match image configuration")
    return diff_ids


def _warn_of_platform(
    reference: Reference,
    wanted: Platform | None,
    actual: Platform | None,
    say: Callable[[Progress], None],
) -> None:
    if wanted is None or actual is None or matches(wanted, actual):
        return
    say(
        Progress(
            status=f"WARNING: image with reference {reference.familiar()} was found but its platform"
            f" ({format_platform(actual)}) does not match the specified platform"
            f" ({format_platform(wanted)})"
        )
    )


async def stream_progress(
    work: Callable[[Callable[[Progress], None]], Coroutine[object, object, None]], name: str
) -> AsyncIterator[Progress]:
    """What the work says, until its end; raises what it raises. Closing the iterator cancels it."""
    lines: asyncio.Queue[Progress | None] = asyncio.Queue()
    task = asyncio.create_task(work(lines.put_nowait), name=name)
    task.add_done_callback(lambda _: lines.put_nowait(None))
    try:
        while (line := await lines.get()) is not None:
            yield line
        await task
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class _LayerLines:
    """Turns the steps of one download into progress lines, a few per second at most."""

    def __init__(self, descriptor: Descriptor, say: Callable[[Progress], None]) -> None:
        self._total = descriptor.size
        self._id = short_id(descriptor.digest)
        self._say = say
        self._next_update = 0.0

    def show(self, step: Step) -> None:
        """A Watcher."""
        if step.phase in {Phase.DOWNLOADING, Phase.EXTRACTING}:
            now = time.monotonic()
            if now >= self._next_update or step.current >= self._total:
                self._next_update = now + _UPDATE_INTERVAL_S
                self._line(step.phase.value, step.current)
            return
        self._next_update = 0.0
        if step.phase is Phase.RETRYING:
            plural = "" if step.current == 1 else "s"
            self._line(f"Retrying in {step.current} second{plural}")
            return
        if step.phase is Phase.DONE:
            self._line(Phase.EXTRACTING.value, self._total)
        self._line(step.phase.value)

    def _line(self, status: str, current: int = 0) -> None:
        total = self._total if current else 0
        self._say(Progress(status=status, id=self._id, current=current, total=total, detail=True))
