"""The seam between pull and push (network) and the image service (disk), as Protocols with their contracts.

`Images` implements them; pull and push ask for no more, and their tests use an in-memory sink.
Nothing here is decompressed, hashed or synced on the event loop: that is the ingest worker's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from wherry.model.image import Descriptor, Digest, ImageId, Platform


class LayerIngest(Protocol):
    """One blob that is being taken in while its bytes arrive in a partial file.

    A worker follows the file from offset 0 (bytes of an earlier attempt count), hashes the compressed
    bytes, decompresses, hashes the tar and builds the layer (EROFS index, or an unpacked tree).
    """

    def advance(self, available: int) -> None:
        """The first `available` bytes of the partial file are there; never shrinks."""

    async def finish(self) -> None:
        """All bytes are there: waits until digest, size and diff-id are verified and all is durable.

        The partial file has then become the blob (renamed), and the layer can be mounted. Raises
        `BadContent` when something does not match; the partial file is then gone.
        """

    async def abort(self) -> None:
        """Stops the worker and drops what it made; the partial file stays, for a later resume. Idempotent."""


class ImageSink(Protocol):
    """Where pulled content goes."""

    def partial_path(self, digest: Digest) -> Path:
        """ROOT/tmp/<algorithm>-<hex>.partial: survives a restart, removed by age at start-up (a day)."""

    def has_blob(self, digest: Digest) -> bool:
        """Whether the verified blob is in the content store."""

    def has_layer(self, diff_id: Digest) -> bool:
        """Whether the layer is unpacked (or indexed) and durable."""

    async def read_blob(self, digest: Digest) -> bytes:
        """A small blob (manifest, config). Raises NotFound."""

    async def put_blob(self, digest: Digest, data: bytes) -> None:
        """Stores a small blob that the caller has verified; atomic, durable, idempotent."""

    def protect(self, digests: Iterable[Digest]) -> AbstractContextManager[None]:
        """While open, garbage collection leaves blobs and layers of these digests alone, present or not."""

    def begin_layer(
        self,
        descriptor: Descriptor,
        diff_id: Digest | None,
        on_progress: Callable[[int], None] | None = None,
    ) -> LayerIngest:
        """Starts to take in `partial_path(descriptor.digest)`, which exists (it may be empty).

        Without a diff-id the blob is only verified and stored (artifacts, other platforms' layers).
        `on_progress` is called with the number of compressed bytes worked through. Several ingests may be
        open at once; those beyond the workers' bound catch up later, the file being on disk.
        """

    def find_image(self, name: str) -> ImageId | None:
        """The image that a canonical reference (`docker.io/library/node:lts`, or `…@sha256:…`) names now."""

    async def add_image(
        self, tag: str | None, repository: str, target: Descriptor, manifest: Descriptor
    ) -> ImageId:
        """Makes a complete image known, in one transaction, and returns its id (digest of its config).

        `target` is what the registry calls it (an index, or the manifest itself), `manifest` the chosen
        platform's; both blobs, the config and all layers are there. `repository` is canonical
        (`docker.io/library/node`); `repository@target.digest` becomes a repo digest, and
        `repository:tag` moves here when `tag` is given. Publishes nothing: a pull is one event, not two.
        """

    def publish(self, action: str, image_id: str, name: str, actor_id: str = "") -> None:
        """An event of an image: Docker's pull and push have the reference as their actor."""


class ImageSource(Protocol):
    """Where content to push comes from."""

    def list_tags(self, repository: str) -> tuple[str, ...]:
        """The local tags of a canonical repository, sorted."""

    async def push_target(self, name: str, platform: Platform | None = None) -> Descriptor:
        """The manifest or index to push for a canonical reference. Raises NotFound.

        With a platform, the manifest of the name's image for it, even when there is an index.

        An image made locally (loaded uncompressed, built, committed) has its layers compressed here, by a
        worker, once: blobs and manifest are kept, so that a second push has the same digest. An image of which
        only one platform is here is pushed as that platform's manifest.
        """

    def has_blob(self, digest: Digest) -> bool:
        """Whether the verified blob is in the content store."""

    def blob_path(self, digest: Digest) -> Path:
        """The file of a blob that is there."""

    async def read_blob(self, digest: Digest) -> bytes:
        """A small blob (manifest, config). Raises NotFound."""

    def protect(self, digests: Iterable[Digest]) -> AbstractContextManager[None]:
        """As in ImageSink."""

    async def add_repo_digest(self, repository: str, target: Descriptor) -> None:
        """After a push: `repository@target.digest` becomes a repo digest of that image."""

    def find_image(self, name: str) -> ImageId | None:
        """As in ImageSink."""

    def publish(self, action: str, image_id: str, name: str, actor_id: str = "") -> None:
        """As in ImageSink."""
