"""The image service: what the engine, the API, pull, push and the builder ask of images.

Composition of the parts beside it: `catalog` (which images, which names), the content and layer stores,
`snapshots`, the `collector`. Everything here runs on the event loop and is quick; bulk work is a worker's.
Implements `wherry.engine.ingest`'s ImageSink.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from wherry.engine.clock import ZERO_TIME, now
from wherry.engine.images import archives
from wherry.engine.images.catalog import Catalog, lookup_name, restore_names
from wherry.engine.images.collector import Collector
from wherry.engine.images.ingest import Ingest
from wherry.engine.images.records import ImageRecord, SnapshotRecord
from wherry.engine.images.removal import Deleted, ImageUser, Removal
from wherry.engine.images.snapshots import Snapshots
from wherry.engine.store import Store
from wherry.image.config import ImageConfig, parse_config, parse_manifest
from wherry.image.content import BadContent, ContentStore
from wherry.image.layer.record import LayerRecord
from wherry.image.layer.store import MAX_LAYERS, LayerStore, TooManyLayers
from wherry.image.reference import InvalidReference, parse_reference
from wherry.lib.jsonvalue import JsonValue
from wherry.model.errors import NoSuchImage
from wherry.model.image import Descriptor, Digest, Image, ImageId, Platform, RootMount
from wherry.model.platforms import best_match, format_platform
from wherry.model.progress import Progress

logger = logging.getLogger(__name__)

Publish = Callable[[str, str, str, Mapping[str, str]], None]


def _silent(kind: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
    """The default for `publish`: nobody listens."""


def _unused(image_id: ImageId) -> Sequence[ImageUser]:  # noqa: ARG001 - the shape of `users`
    return ()


class Images:
    """Images, their layers and snapshots of one ROOT."""

    def __init__(
        self,
        store: Store,
        root: Path,
        run: Path,
        *,
        driver: str = "",
        publish: Publish = _silent,
    ) -> None:
        """Opens what is there; `root` and `run` exist. `driver` forces one for new layers."""
        self.content = ContentStore(root)
        removed = self.content.clean_tmp()
        if removed:
            logger.info("removed %d files that an earlier engine left in tmp", removed)
        self.layers = LayerStore(root, run, driver)
        self.catalog = Catalog(store)
        self.snapshots = Snapshots(store, root, self.layers)
        self.collector = Collector(self.content, self.layers, self._needs)
        self.root = root
        self._store = store
        self._publish = publish
        self._users: Callable[[ImageId], Sequence[ImageUser]] = _unused
        self._configs: dict[ImageId, ImageConfig] = {}
        self._restore()

    def set_users(self, users: Callable[[ImageId], Sequence[ImageUser]]) -> None:
        """Tells who answers which containers are made from an image."""
        self._users = users

    async def close(self) -> None:
        """Unmounts the layers that no container has, and waits for what is being removed."""
        await asyncio.to_thread(self.layers.close_unused, self.snapshots.used_layers())
        await self.collector.close()

    def _restore(self) -> None:
        for record in self.catalog.images():
            try:
                self._config(record.id)
            except (BadContent, NoSuchImage) as error:
                logger.warning("image %s is damaged, forgetting it: %s", record.id, error)
                with self._store.transaction():
                    for reference in self.catalog.names_of(record.id):
                        self.catalog.unpoint(reference.canonical(), record.id)
                    self.catalog.delete_image(record.id)
        with self._store.transaction():
            restore_names(self.catalog, [record.id for record in self.catalog.images()])

    # ---- looking up

    @property
    def driver(self) -> str:
        """The name of the driver that makes new layers."""
        return self.layers.driver

    def get(self, ref: str, platform: Platform | None = None) -> Image:
        """The image that a name, id or prefix of an id means. Raises NoSuchImage, InvalidReference.

        With a platform, the one of the name's images that is for it.
        """
        record = self.catalog.resolve(ref)
        if platform is None:
            return self._image(record.images[0])
        platforms = [self._config(image_id).platform for image_id in record.images]
        index = best_match(platform, platforms)
        if index is None:
            raise NoSuchImage(_for_platform(ref, platform))
        return self._image(record.images[index])

    def find_image(self, name: str) -> ImageId | None:
        """See ImageSink."""
        record = self.catalog.name(lookup_name(parse_reference(name)))
        return None if record is None else record.images[0]

    def variants(self, ref: str) -> tuple[Image, ...]:
        """Every platform of a name that is here, the default first. Raises NoSuchImage."""
        return tuple(self._image(image_id) for image_id in self.catalog.resolve(ref).images)

    def all(self) -> tuple[Image, ...]:
        """Every image, newest first."""
        images = [self._image(record.id) for record in self.catalog.images()]
        return tuple(sorted(images, key=lambda image: (image.created, image.id), reverse=True))

    def _image(self, image_id: ImageId) -> Image:
        record = self.catalog.get(image_id)
        config = self._config(image_id)
        references = self.catalog.names_of(image_id)
        return Image(
            id=image_id,
            repo_tags=tuple(ref.familiar() for ref in references if not ref.digest),
            repo_digests=tuple(ref.familiar() for ref in references if ref.digest),
            parent=record.parent,
            comment=config.comment,
            created=config.created,
            author=config.author,
            platform=config.platform,
            config=config.config,
            diff_ids=config.diff_ids,
            history=config.history,
            size_bytes=sum(self._layer_size(diff_id) for diff_id in config.diff_ids),
            manifest=record.manifest,
            last_tag_time=record.last_tag_time,
            is_host=bool(record.host_base),
        )

    def _config(self, image_id: ImageId) -> ImageConfig:
        config = self._configs.get(image_id)
        if config is None:
            config = parse_config(self.content.read(Digest(image_id)))
            self._configs[image_id] = config
        return config

    def _layer_size(self, diff_id: Digest) -> int:
        record = self.layers.find(diff_id)
        return record.size_bytes if record else 0

    def _needs(self) -> tuple[set[Digest], set[Digest]]:
        blobs, images = self.catalog.in_use()
        layers = {diff_id for image_id in images for diff_id in self._config(image_id).diff_ids}
        return blobs, layers | self.snapshots.used_layers()

    # ---- names

    def tag(self, ref: str, repository: str, tag: str = "") -> None:
        """Gives an image one more name. Raises NoSuchImage, InvalidReference."""
        image = self.get(ref)
        text = f"{repository}:{tag}" if tag else repository
        reference = parse_reference(text)
        if reference.digest:
            raise InvalidReference("refusing to create a tag with a digest reference")
        self.point(reference.with_default_tag().canonical(), image.id, image.manifest)

    def point(self, canonical: str, image_id: ImageId, target: Descriptor | None) -> None:
        """Makes a canonical name mean an image, now."""
        reference = parse_reference(canonical)
        with self._store.transaction():
            self.catalog.point(canonical, image_id, target)
            self.catalog.put_image(replace(self.catalog.get(image_id), last_tag_time=now()))
        if not reference.digest:
            self.publish("tag", image_id, reference.familiar())

    def publish(self, action: str, image_id: str, name: str, actor_id: str = "") -> None:
        """Publishes an event of an image, with its labels; `actor_id` when Docker shows the name there."""
        labels: Mapping[str, str] = {}
        if self.catalog.find(ImageId(image_id)) is not None:
            labels = self._config(ImageId(image_id)).config.labels
        self._publish("image", action, actor_id or image_id, {**labels, "name": name})

    async def remove(self, ref: str, *, force: bool = False, prune: bool = True) -> list[Deleted]:
        """Removes what `ref` names, as `docker rmi` does. Raises NoSuchImage, Conflict."""
        image_id = self.catalog.resolve(ref).images[0]
        removal = Removal(
            self.catalog,
            self._users,
            lambda known: self._config(known).diff_ids,
            self.publish,
            force=force,
        )
        with self._store.transaction():
            removal.remove(ref, image_id, prune=prune)
        for entry in removal.records:
            self._configs.pop(ImageId(entry.deleted), None)
        self.collect()
        return removal.records

    def collect(self) -> int:
        """Removes blobs and layers that nothing needs any more; returns the bytes."""
        freed = self.collector.collect()
        self.snapshots.forget_stacks()
        return freed

    # ---- taking content in (ImageSink)

    def partial_path(self, digest: Digest) -> Path:
        """See ImageSink."""
        return self.content.partial_path(digest)

    def has_blob(self, digest: Digest) -> bool:
        """See ImageSink."""
        return self.content.has(digest)

    def has_layer(self, diff_id: Digest) -> bool:
        """See ImageSink."""
        return self.layers.has(diff_id)

    def blob_path(self, digest: Digest) -> Path:
        """See ImageSource."""
        return self.content.path(digest)

    async def read_blob(self, digest: Digest) -> bytes:
        """See ImageSink."""
        return await asyncio.to_thread(self.content.read, digest)

    async def put_blob(self, digest: Digest, data: bytes) -> None:
        """See ImageSink."""
        await asyncio.to_thread(self.content.put, digest, data)

    def protect(self, digests: Iterable[Digest]) -> AbstractContextManager[None]:
        """See ImageSink."""
        return self.collector.protect(digests)

    def begin_layer(
        self,
        descriptor: Descriptor,
        diff_id: Digest | None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Ingest:
        """See ImageSink."""
        partial = self.content.partial_path(descriptor.digest)
        return Ingest(
            {
                "digest": descriptor.digest,
                "size": descriptor.size,
                "diffId": diff_id or "",
                "partial": str(partial),
                "blob": str(self.content.path(descriptor.digest)),
                "layers": str(self.layers.folder),
                "driver": self.driver,
            },
            partial,
            on_progress,
            self._layer_done,
        )

    def _layer_done(self, result: JsonValue) -> None:
        if isinstance(result, Mapping):
            self.layers.find(LayerRecord.from_json(result).diff_id)

    async def add_image(
        self, tag: str | None, repository: str, target: Descriptor, manifest: Descriptor
    ) -> ImageId:
        """See ImageSink."""
        document = parse_manifest(await self.read_blob(manifest.digest))
        image_id = ImageId(document.config.digest)
        blobs = {
            manifest.digest,
            target.digest,
            document.config.digest,
            *(layer.digest for layer in document.layers),
        }
        await self.register(image_id, manifest=manifest, blobs=blobs)
        with self._store.transaction():
            for name in (f"{repository}@{target.digest}", f"{repository}:{tag}" if tag else ""):
                if name:
                    self.catalog.point(name, image_id, target)
            self.catalog.put_image(replace(self.catalog.get(image_id), last_tag_time=now()))
        return image_id

    async def register(
        self,
        image_id: ImageId,
        *,
        manifest: Descriptor | None,
        blobs: Iterable[Digest],
        parent: str = "",
        host_base: str = "",
    ) -> Image:
        """Makes an image known whose config and layers are there; idempotent. Raises BadContent."""
        config = parse_config(await self.read_blob(Digest(image_id)))
        if len(config.diff_ids) > MAX_LAYERS:
            raise TooManyLayers
        for diff_id in config.diff_ids:
            self.layers.get(diff_id)
        self._configs[image_id] = config
        old = self.catalog.find(image_id)
        known = set(old.blobs) if old else set()
        record = ImageRecord(
            id=image_id,
            manifest=manifest or (old.manifest if old else None),
            blobs=tuple(sorted({Digest(image_id), *blobs, *known})),
            parent=parent or (old.parent if old else ""),
            created_here=old.created_here if old else now(),
            last_tag_time=old.last_tag_time if old else ZERO_TIME,
            host_base=host_base or (old.host_base if old else ""),
        )
        with self._store.transaction():
            self.catalog.put_image(record)
        return self._image(image_id)

    # ---- archives

    def load(
        self,
        stream: AsyncIterator[bytes],
        *,
        quiet: bool = False,
        platform: Platform | None = None,
    ) -> AsyncIterator[Progress]:
        """Takes every image of an archive in (docker-archive or OCI, packed or not); yields Docker's lines."""
        return archives.load(self, stream, quiet=quiet, platform=platform)

    # ---- snapshots

    async def create_snapshot(
        self, image: Image | None, key: str, *, volatile: bool = False
    ) -> RootMount:
        """Makes the writable directory of a container or build step over an image (None: over nothing)."""
        record = SnapshotRecord(
            image_id=image.id if image else "",
            diff_ids=image.diff_ids if image else (),
            volatile=volatile,
        )
        return await self.snapshots.create(key, record)

    def root_mount(self, key: str) -> RootMount:
        """What to mount for a snapshot. Raises NoSuchSnapshot."""
        return self.snapshots.root_mount(key)

    async def remove_snapshot(self, key: str) -> None:
        """Removes a snapshot; its files are freed in their own time. Idempotent."""
        for folder in self.snapshots.forget(key):
            self.collector.discard(folder)


def _for_platform(ref: str, platform: Platform) -> str:
    return f"{ref} for platform {format_platform(platform)}"
