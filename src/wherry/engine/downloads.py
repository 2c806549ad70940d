"""Downloads of blobs: shared, bounded, retried and resumed.

One download per digest, however many pulls want it: the second one watches the first. The bytes go to a
partial file that outlives the connection and the engine; what is there is not asked for again, and a worker
of the image service follows the file meanwhile. A download that nobody waits for any more is stopped.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

from wherry.engine.ingest import ImageSink, LayerIngest
from wherry.image.content import BadContent
from wherry.lib.blocking import run_blocking
from wherry.model.image import Descriptor, Digest
from wherry.registry.client import BlobBody, RegistryClient
from wherry.registry.errors import ConnectionFailed, ContentMismatch, RegistryFailure
from wherry.registry.retry import RetryPolicy, next_delay_s

logger = logging.getLogger(__name__)

_BATCH_BYTES = 1 << 20


class Phase(Enum):
    """Where a download is; values are Docker's words."""

    QUEUED = "Pulling fs layer"
    WAITING = "Waiting"
    DOWNLOADING = "Downloading"
    RETRYING = "Retrying"
    VERIFYING = "Verifying Checksum"
    DOWNLOADED = "Download complete"
    EXTRACTING = "Extracting"
    DONE = "Pull complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change: bytes for DOWNLOADING and EXTRACTING, seconds for RETRYING."""

    phase: Phase
    current: int = 0


Watcher = Callable[[Step], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRequest:
    """A blob that is wanted, and who can be asked for it, in order."""

    descriptor: Descriptor
    diff_id: Digest | None
    path: str  # the repository at all of the clients
    clients: Sequence[RegistryClient]


@dataclass(slots=True, kw_only=True)
class _Running:
    task: asyncio.Task[None]
    watchers: set[Watcher] = field(default_factory=set)
    latest: Step | None = None
    abandoned: bool = False


class Downloads:
    """All downloads of one engine."""

    def __init__(self, images: ImageSink, policy: RetryPolicy, max_concurrent: int = 3) -> None:
        self._images = images
        self._policy = policy
        self._slots = asyncio.Semaphore(max_concurrent)
        self._running: dict[Digest, _Running] = {}

    async def fetch(self, request: BlobRequest, watcher: Watcher) -> None:
        """Returns when the blob (and its layer) is durable. Raises RegistryFailure or BadContent."""
        digest = request.descriptor.digest
        running = self._running.get(digest)
        while running is not None and running.abandoned:
            # Its file and worker are still in use for a moment.
            await asyncio.wait([running.task])
            running = self._running.get(digest)
        if running is None and self.is_here(request):
            watcher(Step(phase=Phase.DONE))  # it ended after the caller looked
            return
        if running is None:
            running = self._start(request)
        elif running.latest is not None:
            watcher(running.latest)
        running.watchers.add(watcher)
        try:
            await asyncio.shield(running.task)
        finally:
            running.watchers.discard(watcher)
            if not running.watchers and not running.task.done():
                running.abandoned = True
                running.task.cancel()
                await asyncio.wait([running.task])

    def is_here(self, request: BlobRequest) -> bool:
        """Whether there is nothing to fetch."""
        return self._images.has_blob(request.descriptor.digest) and (
            request.diff_id is None or self._images.has_layer(request.diff_id)
        )

    def _start(self, request: BlobRequest) -> _Running:
        digest = request.descriptor.digest

        def report(step: Step) -> None:
            running.latest = step
            for watcher in tuple(running.watchers):
                watcher(step)

        async def work() -> None:
            try:
                await _Download(self._images, self._policy, request, report).run(self._slots)
            finally:
                if self._running.get(digest) is running:
                    del self._running[digest]

        running = _Running(task=asyncio.create_task(work(), name=f"download {digest}"))
        # A failure is told to those who wait; when all of them are gone it is nobody's.
        running.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._running[digest] = running
        return running


class _Download:
    def __init__(
        self, images: ImageSink, policy: RetryPolicy, request: BlobRequest, report: Watcher
    ) -> None:
        self._images = images
        self._policy = policy
        self._request = request
        self._descriptor = request.descriptor
        self._partial: Path = images.partial_path(request.descriptor.digest)
        self._report = report
        self._downloaded = False

    async def run(self, slots: asyncio.Semaphore) -> None:
        """Downloads and takes in; a partial file of an earlier attempt that turns out bad is given up once."""
        resumed = await run_blocking(self._prepare)
        try:
            await self._attempt(slots)
        except BadContent:
            if not resumed:
                raise
            logger.warning(
                "partial download of %s was damaged, starting again", self._descriptor.digest
            )
            await run_blocking(self._prepare)
            await self._attempt(slots)
        self._report(Step(phase=Phase.DONE))

    def _prepare(self) -> int:
        """Makes the partial file exist; returns the bytes that an earlier attempt left."""
        fd = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size > self._descriptor.size:
                os.ftruncate(fd, 0)
                size = 0
            return size
        finally:
            os.close(fd)

    async def _attempt(self, slots: asyncio.Semaphore) -> None:
        self._downloaded = False
        ingest = self._images.begin_layer(
            self._descriptor, self._request.diff_id, self._show_extraction
        )
        try:
            if slots.locked():
                self._report(Step(phase=Phase.WAITING))
            async with slots:
                await self._download(ingest)
            self._report(Step(phase=Phase.VERIFYING))
            self._report(Step(phase=Phase.DOWNLOADED))
            self._downloaded = True
            try:
                await ingest.finish()
            except BadContent as exc:
                # Docker's words (daemon/internal/distribution/xfer/download.go).
                raise BadContent(f"failed to register layer: {exc}") from exc
        except BaseException:
            await ingest.abort()
            raise

    def _show_extraction(self, consumed: int) -> None:
        if self._downloaded:
            self._report(Step(phase=Phase.EXTRACTING, current=consumed))

    async def _download(self, ingest: LayerIngest) -> None:
        fd = os.open(self._partial, os.O_WRONLY | os.O_CLOEXEC)
        try:
            have = os.fstat(fd).st_size
            ingest.advance(have)
            failures, source = 0, 0
            while have < self._descriptor.size:
                client = self._request.clients[source]
                before = have
                try:
                    async with client.open_blob(
                        self._request.path, self._descriptor.digest, have
                    ) as blob:
                        have = await self._append(fd, have, blob, ingest)
                    if have < self._descriptor.size:
                        url = f"{client.endpoint.url}/v2/{self._request.path}/blobs"
                        raise ConnectionFailed("GET", url, "unexpected EOF", refused=False)
                except RegistryFailure as failure:
                    have = os.fstat(fd).st_size
                    # Bytes that came are a success: only fruitless attempts in a row count.
                    failures = 1 if have > before else failures + 1
                    delay = next_delay_s(self._policy, failure, failures)
                    if delay is not None:
                        await self._pause(delay, failure)
                    elif source + 1 < len(self._request.clients):
                        failures, source = 0, source + 1
                    else:
                        raise
        finally:
            os.close(fd)

    async def _pause(self, delay_s: float, failure: RegistryFailure) -> None:
        logger.info(
            "download of %s interrupted, again in %.1f s: %s",
            self._descriptor.digest,
            delay_s,
            failure,
        )
        remaining = delay_s
        while remaining > 0:
            if remaining >= 1:
                self._report(Step(phase=Phase.RETRYING, current=round(remaining)))
            await asyncio.sleep(min(remaining, 1.0))
            remaining -= 1.0

    async def _append(self, fd: int, have: int, blob: BlobBody, ingest: LayerIngest) -> int:
        """Writes what is new of a body; returns the size of the file. Full batches leave the loop."""
        expected = self._descriptor.size
        if blob.size is not None and blob.size != expected:
            raise ContentMismatch(
                f"blob {self._descriptor.digest} has {blob.size} bytes, the manifest says {expected}"
            )
        position = blob.offset
        batch: list[bytes] = []
        pending = 0

        async def flush() -> None:
            nonlocal batch, pending, have
            full, batch, pending = batch, [], 0
            await _finish_in_thread(partial(_write_all, fd, full, have))
            have += sum(map(len, full))
            ingest.advance(have)
            self._report(Step(phase=Phase.DOWNLOADING, current=have))

        try:
            async for chunk in blob.chunks:
                new = chunk
                if position < have + pending:
                    # The server ignored the range: what is there already is passed over.
                    new = chunk[have + pending - position :]
                position += len(chunk)
                if position > expected:
                    raise ContentMismatch(
                        f"blob {self._descriptor.digest} is longer than the {expected} bytes of the manifest"
                    )
                if new:
                    batch.append(new)
                    pending += len(new)
                    if pending >= _BATCH_BYTES:
                        await flush()
        finally:
            if batch:
                await flush()
        return have


async def _finish_in_thread(work: Callable[[], None]) -> None:
    """As `run_blocking`, but a cancelled caller waits too: the descriptor must not be closed under the thread."""
    running = asyncio.ensure_future(run_blocking(work))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _write_all(fd: int, pieces: list[bytes], offset: int) -> None:
    view = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
