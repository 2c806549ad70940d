"""An image service for tests of pull and push: blobs as files, layers as verified diff-ids, images in a dict."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from wherry.image.content import BadContent
from wherry.model.errors import NoSuchImage, NotFound
from wherry.model.image import Descriptor, Digest, ImageId, Platform
from wherry.model.oci_image import Index, Manifest, choose_manifest, parse_manifest


class FakeImages:
    """Implements ImageSink and ImageSource."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layers: set[Digest] = set()
        self.images: dict[str, ImageId] = {}
        self.targets: dict[str, Descriptor] = {}
        self.protected: list[Digest] = []
        self.ingests = 0
        self.events: list[tuple[str, str, str]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def partial_path(self, digest: Digest) -> Path:
        return self.folder / f"{digest.replace(':', '-')}.partial"

    def blob_path(self, digest: Digest) -> Path:
        return self.folder / digest.replace(":", "-")

    def has_blob(self, digest: Digest) -> bool:
        return self.blob_path(digest).exists()

    def has_layer(self, diff_id: Digest) -> bool:
        return diff_id in self.layers

    async def read_blob(self, digest: Digest) -> bytes:
        if not self.has_blob(digest):
            raise NotFound(digest)
        return self.blob_path(digest).read_bytes()

    async def put_blob(self, digest: Digest, data: bytes) -> None:
        assert digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blob_path(digest).write_bytes(data)

    @contextlib.contextmanager
    def protect(self, digests: Iterable[Digest]) -> Iterator[None]:
        added = list(digests)
        self.protected += added
        try:
            yield
        finally:
            for digest in added:
                self.protected.remove(digest)

    def begin_layer(
        self,
        descriptor: Descriptor,
        diff_id: Digest | None,
        on_progress: Callable[[int], None] | None = None,
    ) -> FakeIngest:
        self.ingests += 1
        return FakeIngest(self, descriptor, diff_id)

    def find_image(self, name: str) -> ImageId | None:
        return self.images.get(name)

    async def add_image(
        self, tag: str | None, repository: str, target: Descriptor, manifest: Descriptor
    ) -> ImageId:
        document = parse_manifest(await self.read_blob(manifest.digest), manifest.media_type)
        assert isinstance(document, Manifest)
        for blob in (document.config, *document.layers):
            assert self.has_blob(blob.digest)
        assert self.has_blob(target.digest)
        image_id = ImageId(document.config.digest)
        for name in (f"{repository}:{tag}" if tag else "", f"{repository}@{target.digest}"):
            self.images[name] = image_id
            self.targets[name] = target
        return image_id

    def publish(self, action: str, image_id: str, name: str, actor_id: str = "") -> None:
        self.events.append((action, actor_id, name))

    def list_tags(self, repository: str) -> tuple[str, ...]:
        prefix = f"{repository}:"
        return tuple(
            sorted(name.removeprefix(prefix) for name in self.images if name.startswith(prefix))
        )

    async def push_target(self, name: str, platform: Platform | None = None) -> Descriptor:
        if name not in self.targets:
            raise NoSuchImage(name)
        target = self.targets[name]
        if platform is not None:
            index = parse_manifest(await self.read_blob(target.digest))
            assert isinstance(index, Index)
            target = choose_manifest(index.entries, platform)
        return target

    async def add_repo_digest(self, repository: str, target: Descriptor) -> None:
        self.targets[f"{repository}@{target.digest}"] = target

    def verify(self) -> None:
        """Every blob is what its name says."""
        for path in self.folder.iterdir():
            if path.suffix != ".partial":
                algorithm, _, value = path.name.partition("-")
                assert hashlib.new(algorithm, path.read_bytes()).hexdigest() == value


class FakeIngest:
    """Verifies at the end, in one go."""

    def __init__(self, images: FakeImages, descriptor: Descriptor, diff_id: Digest | None) -> None:
        self.images = images
        self.descriptor = descriptor
        self.diff_id = diff_id
        self.available = 0

    def advance(self, available: int) -> None:
        assert available >= self.available
        self.available = available

    async def finish(self) -> None:
        partial = self.images.partial_path(self.descriptor.digest)
        data = partial.read_bytes()
        assert len(data) == self.available
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if digest != self.descriptor.digest:
            partial.unlink()
            raise BadContent(f"filesystem layer verification failed for digest {digest}")
        if self.diff_id is not None:
            assert self.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
            self.images.layers.add(self.diff_id)
        partial.rename(self.images.blob_path(self.descriptor.digest))

    async def abort(self) -> None:
        return
