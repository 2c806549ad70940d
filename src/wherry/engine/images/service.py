"""The image service: what the engine, the API, pull, push and the builder ask of images.

Composition of the parts beside it: `catalog` (which images, which names), the content and layer stores,
`snapshots`, the `collector`. Everything here runs on the event loop and is quick; bulk work is a worker's.
Implements `wherry.engine.ingest`'s ImageSink.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from wherry.engine.clock import ZERO_TIME, format_time, now
from wherry.engine.filters import Filters
from wherry.engine.images import archives, exporting, listing, making
from wherry.engine.images.catalog import Catalog, WrongPlatform, lookup_name, restore_names
from wherry.engine.images.changes import Change, parse_changes
from wherry.engine.images.collector import Collector
from wherry.engine.images.ingest import Ingest
from wherry.engine.images.records import ImageRecord, SnapshotRecord
from wherry.engine.images.removal import Deleted, ImageUser, Removal
from wherry.engine.images.snapshots import Snapshots
from wherry.engine.images.worker import run_image_worker
from wherry.engine.store import Store
from wherry.image.compression import GZIP, Compression
from wherry.image.config import (
    ImageConfig,
    parse_config,
)
from wherry.image.content import PARTIAL_MAX_AGE_S, BadContent, ContentStore, NoSuchBlob
from wherry.image.host import HostTree
from wherry.image.layer.confine import wait_for_orphans
from wherry.image.layer.mount import TAR_NAME
from wherry.image.layer.record import LayerRecord
from wherry.image.layer.store import MAX_LAYERS, LayerStore, TooManyLayers
from wherry.image.reference import InvalidReference, Reference, parse_reference, parse_tagged
from wherry.image.snapshot.uppers import UpperSpace
from wherry.lib.blocking import run_blocking
from wherry.lib.jsonvalue import JsonValue
from wherry.lib.program import WorkerPool
from wherry.model.container import ContainerConfig
from wherry.model.errors import Conflict, Forbidden, NoSuchImage, NotSupported
from wherry.model.image import Descriptor, Digest, HistoryEntry, Image, ImageId, Platform, RootMount
from wherry.model.oci_image import (
    parse_image_manifest,
)
from wherry.model.platforms import best_match
from wherry.model.progress import Progress

logger = logging.getLogger(__name__)

_HOST_NAMES = frozenset(("host", "host:latest"))
_DIGEST_ALGORITHM = "sha256"
_HOST_ID = re.compile(r"[0-9a-f]{12,64}")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

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
        layers = root / "layers"
        layers.mkdir(mode=0o700, exist_ok=True)
        wait_for_orphans(layers)
        self.content = ContentStore(root)
        removed = self.content.clean_tmp()
        if removed:
            logger.info("removed %d files that an earlier engine left in tmp", removed)
        self.layers = LayerStore(root, run, driver)
        self.catalog = Catalog(store)
        self.host = HostTree(run / "layers")
        self._uppers = UpperSpace(root, run)
        self.snapshots = Snapshots(store, self._uppers, self.layers, self.host)
        self.collector = Collector(self.content, self.layers, self._needs)
        self.root = root
        self._publish = publish
        self._users: Callable[[ImageId], Sequence[ImageUser]] = _unused
        self._cached_layers: Callable[[], set[Digest]] = set
        self._configs: dict[ImageId, ImageConfig] = {}
        self._ingest_workers = WorkerPool()
        self._preparing: asyncio.Future[None] | None = None
        self._restore()

    def set_users(self, users: Callable[[ImageId], Sequence[ImageUser]]) -> None:
        """Tells who answers which containers are made from an image."""
        self._users = users

    def set_cached_layers(self, cached: Callable[[], set[Digest]]) -> None:
        """Tells who answers which layers the build cache keeps, beside those of images and snapshots."""
        self._cached_layers = cached

    async def start(self) -> None:
        """Repairs what a crash left, and prepares what the first container would wait for."""
        for key in self.snapshots.orphans():
            logger.info("removing snapshot %s, which nothing names", key)
            await self.remove_snapshot(key)
        for layer in self.layers.unmountable():
            logger.warning("layer %s cannot be mounted here, unpacking it", layer.diff_id)
            await run_image_worker(
                "wherry.image.layer.build:unpack",
                {"layers": str(self.layers.folder), "key": layer.key},
            )
            self.layers.reload(layer.diff_id)
        self.collector.collect(min_age_s=PARTIAL_MAX_AGE_S)  # a broken pull may go on where it was
        self._preparing = asyncio.ensure_future(self._prepare_host())

    async def _prepare_host(self) -> None:
        try:
            await run_blocking(self.host.current)
        except (NotSupported, OSError) as error:
            logger.warning("the image `host` is not available: %s", error)

    async def close(self) -> None:
        """Unmounts the layers that no container has, and waits for what is being removed."""
        if self._preparing is not None and not self._preparing.done():
            await self._preparing
        await self._ingest_workers.close()
        await run_blocking(self._unmount)
        await self.collector.close()

    def _unmount(self) -> None:
        self.layers.close_unused(self.snapshots.used_layers())
        self.host.close()
        self._uppers.close()

    def _restore(self) -> None:
        for record in self.catalog.images():
            try:
                self._config(record.id)
            except (BadContent, NoSuchImage) as error:
                logger.warning("image %s is damaged, forgetting it: %s", record.id, error)
                with self.catalog.transaction():
                    for reference in self.catalog.names_of(record.id):
                        self.catalog.unpoint(reference.canonical(), record.id)
                    self.catalog.delete_image(record.id)
        with self.catalog.transaction():
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
        if self._is_host(ref):
            return self._host_image()
        record = self.catalog.resolve(ref)
        if platform is None:
            return self._image(record.images[0])
        platforms = [self._config(image_id).platform for image_id in record.images]
        index = best_match(platform, platforms)
        if index is None:
            raise WrongPlatform(ref, platforms[0], platform)
        return self._image(record.images[index])

    def find_image(self, name: str) -> ImageId | None:
        """See ImageSink."""
        record = self.catalog.name(lookup_name(parse_reference(name)))
        return None if record is None else record.images[0]

    def all(self) -> tuple[Image, ...]:
        """Every image, newest first."""
        images = [self._image(record.id) for record in self.catalog.images()]
        return tuple(sorted(images, key=lambda image: (image.created, image.id), reverse=True))

    def _is_host(self, ref: str) -> bool:
        if ref in _HOST_NAMES:
            return True
        digits = ref.removeprefix("sha256:")
        return _HOST_ID.fullmatch(digits) is not None and self.host.image_digest().startswith(
            digits
        )

    def _host_image(self) -> Image:
        return Image(
            id=self.host_id(),
            repo_tags=("host:latest",),
            comment="this machine's own programs, without its data",
            created=format_time(self.host.packages_time_ns()),
            platform=making.own_platform(),
            config=ContainerConfig(env=(f"PATH={DEFAULT_PATH}",), cmd=("bash",)),
            history=(
                HistoryEntry(
                    created=format_time(self.host.packages_time_ns()),
                    created_by="the root file system of this machine, masked",
                    empty_layer=True,
                ),
            ),
            is_host=True,
        )

    def host_id(self) -> ImageId:
        """The id of the built-in image `host`, now."""
        return ImageId("sha256:" + self.host.image_digest())

    def host_base_of(self, image: Image) -> str:
        """The id of the host image below an image; empty for an image that stands alone."""
        if self.catalog.find(image.id) is not None:
            return self._config(image.id).host_base
        return image.id if image.is_host else ""

    def _image(self, image_id: ImageId) -> Image:
        return self.describe(self.catalog.get(image_id), self._config(image_id))

    def describe(self, record: ImageRecord, config: ImageConfig) -> Image:
        """The image that a record and its config are, known to the catalog or not."""
        references = self.catalog.names_of(record.id)
        return Image(
            id=record.id,
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
            is_host=bool(config.host_base),
        )

    def _config(self, image_id: ImageId) -> ImageConfig:
        config = self._configs.get(image_id)
        if config is None:
            record = self.catalog.find(image_id)
            config = self._read_config(image_id, record.manifest if record else None)
            self._configs[image_id] = config
        return config

    def _read_config(self, image_id: ImageId, manifest: Descriptor | None) -> ImageConfig:
        data = self.content.read(Digest(image_id))
        try:
            return parse_config(data)
        except BadContent:
            if manifest and not parse_image_manifest(self.content.read(manifest.digest)).is_image:
                return ImageConfig()  # what an artifact's config is nobody knows
            raise

    def _layer_size(self, diff_id: Digest) -> int:
        record = self.layers.find(diff_id)
        return record.size_bytes if record else 0

    def _needs(self) -> tuple[set[Digest], set[Digest]]:
        blobs, images = self.catalog.in_use()
        layers = {diff_id for image_id in images for diff_id in self._config(image_id).diff_ids}
        return blobs, layers | self.snapshots.used_layers() | self._cached_layers()

    # ---- names

    def tag(self, ref: str, repository: str, tag: str = "") -> None:
        """Gives an image one more name, with all platforms of the old one. Raises NoSuchImage, InvalidReference."""
        image = self.get(ref)
        if self.catalog.find(image.id) is None:
            raise Forbidden("the built-in image `host` cannot be tagged; commit a container of it")
        text = f"{repository}:{tag}" if tag else repository
        reference = parse_reference(text)
        if reference.digest:
            raise InvalidReference("refusing to create a tag with a digest reference")
        self.check_new_name(reference)
        name = reference.with_default_tag().canonical()
        record = self.catalog.resolve(ref)
        target = record.target or image.manifest
        with self.catalog.transaction():
            for other in record.images[:0:-1]:
                self.catalog.point(name, other, target)
            self.point(name, image.id, target)

    def check_new_name(self, reference: Reference) -> None:
        """Raises Forbidden, InvalidReference for a name that would be read as something else."""
        if reference.with_default_tag().familiar() in _HOST_NAMES:
            raise Forbidden("the name host is that of the built-in image")
        if reference.familiar_repository == _DIGEST_ALGORITHM:
            raise InvalidReference(
                "refusing to create an ambiguous tag using digest algorithm as name"
            )

    def point(
        self,
        canonical: str,
        image_id: ImageId,
        target: Descriptor | None,
        *,
        quiet: bool = False,
    ) -> None:
        """Makes a canonical name mean an image; unless `quiet`, the image and an event say that it was tagged now."""
        with self.catalog.transaction():
            self.catalog.point(canonical, image_id, target)
            if not quiet:
                self.catalog.put_image(replace(self.catalog.get(image_id), last_tag_time=now()))
        if not quiet:
            self.publish("tag", image_id, parse_reference(canonical).familiar())

    def publish(self, action: str, image_id: str, name: str, actor_id: str = "") -> None:
        """Publishes an event of an image, with its labels; `actor_id` when Docker shows the name there."""
        labels: Mapping[str, str] = {}
        if self.catalog.find(ImageId(image_id)) is not None:
            labels = self._config(ImageId(image_id)).config.labels
        self._publish("image", action, actor_id or image_id, {**labels, "name": name})

    async def remove(
        self,
        ref: str,
        *,
        force: bool = False,
        prune: bool = True,
        platforms: Sequence[Platform] = (),
    ) -> list[Deleted]:
        """Removes what `ref` names, or only some platforms of it, as `docker rmi` does.

        Raises NoSuchImage, WrongPlatform, Conflict.
        """
        if self._is_host(ref):
            raise Forbidden("the built-in image `host` cannot be removed")
        chosen = self.catalog.resolve(ref).images  # every platform that the name has
        if platforms:
            chosen = tuple(dict.fromkeys(self.get(ref, platform).id for platform in platforms))
        removal = Removal(
            self.catalog,
            self._users,
            lambda known: self._config(known).diff_ids,
            self.publish,
            force=force,
        )
        with self.catalog.transaction():
            for image_id in chosen:
                removal.remove(ref, image_id, prune=prune)
        for entry in removal.records:
            self._configs.pop(ImageId(entry.deleted), None)
        self.collect()
        return [entry for entry in removal.records if not self._is_named_still(entry.untagged)]

    def _is_named_still(self, name: str) -> bool:
        """Whether a name that was taken from one platform's image is still another's."""
        return bool(name) and self.catalog.name(parse_reference(name).canonical()) is not None

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
        return await run_blocking(self.content.read, digest)

    async def put_blob(self, digest: Digest, data: bytes) -> None:
        """See ImageSink."""
        await run_blocking(self.content.put, digest, data)

    def protect(self, digests: Iterable[Digest]) -> AbstractContextManager[None]:
        """See ImageSink."""
        return self.collector.protect(digests)

    def begin_layer(
        self,
        descriptor: Descriptor,
        diff_id: Digest | None,
        on_progress: Callable[[int], None] | None = None,
        *,
        partial: Path | None = None,
    ) -> Ingest:
        """See ImageSink. What is no download has a `partial` file of its own, which the blob is made of."""
        partial = partial or self.content.partial_path(descriptor.digest)
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
            self._ingest_workers,
        )

    def _layer_done(self, result: JsonValue) -> None:
        if isinstance(result, Mapping):
            self.layers.find(LayerRecord.from_json(result).diff_id)

    async def add_image(
        self, tag: str | None, repository: str, target: Descriptor, manifest: Descriptor
    ) -> ImageId:
        """See ImageSink."""
        if tag:
            self.check_new_name(parse_tagged(repository, tag))
        document = parse_image_manifest(await self.read_blob(manifest.digest))
        image_id = ImageId(document.config.digest)
        blobs = {
            manifest.digest,
            target.digest,
            document.config.digest,
            *(layer.digest for layer in document.layers),
        }
        await self.register(image_id, manifest=manifest, blobs=blobs)
        with self.catalog.transaction():
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
    ) -> Image:
        """Makes an image known whose config and layers are there; idempotent. Raises BadContent."""
        config = await run_blocking(self._read_config, image_id, manifest)
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
        )
        with self.catalog.transaction():
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

    def save(self, refs: Sequence[str], platform: Platform | None = None) -> AsyncIterator[bytes]:
        """Images as one archive, docker-archive and OCI layout in one. Raises NoSuchImage at once."""
        return exporting.save(self, exporting.choose(self, refs, platform))

    def save_as(self, chosen: Sequence[exporting.Choice]) -> AsyncIterator[bytes]:
        """Images under other names than they have here, as one archive."""
        return exporting.save(self, chosen)

    async def import_(
        self,
        stream: AsyncIterator[bytes],
        *,
        repository: str = "",
        tag: str = "",
        source: str = "-",
        message: str = "",
        changes: Sequence[str] = (),
        platform: Platform | None = None,
    ) -> Image:
        """An image of one layer, from a tar of a root file system, tagged when a repository is given."""
        name = self._new_name(repository, tag)
        image = await making.import_tar(
            self, stream, source=source, message=message, changes=changes, platform=platform
        )
        if name:
            self.point(name, image.id, image.manifest)
        self.publish("import", image.id, image.id)
        return self._image(image.id)

    async def commit(
        self,
        key: str,
        *,
        config: ContainerConfig,
        repository: str = "",
        tag: str = "",
        author: str = "",
        comment: str = "",
        changes: Sequence[str] = (),
    ) -> Image:
        """An image of a container's changes; the caller has paused it, and gives its config."""
        name = self._new_name(repository, tag)
        parent = self._parent_of(key)
        image = await making.commit(
            self,
            key,
            parent,
            config=config,
            created_by=" ".join(config.cmd or ()),  # without the entry point, as Docker
            author=author,
            comment=comment,
            changes=changes,
        )
        self.publish("create", image.id, image.id)
        if name:
            self.point(name, image.id, image.manifest)
        return self._image(image.id)

    def _new_name(self, repository: str, tag: str) -> str:
        if not repository:
            return ""
        reference = parse_tagged(repository, tag)
        if reference.digest:
            raise InvalidReference("cannot import digest reference")
        self.check_new_name(reference)
        return reference.canonical()

    def _parent_of(self, key: str) -> Image | None:
        record = self.snapshots.get(key)
        if not record.image_id:
            return None
        if record.over_host and not record.diff_ids:
            return self._host_image()
        return self._image(ImageId(record.image_id))

    # ---- for the builder

    def building(self) -> AbstractContextManager[None]:
        """While open, nothing is collected: layers and images may be made before anything names them."""
        return self.collector.hold()

    async def make_image(
        self, config: ImageConfig, base: Image | None = None, *, keep: bool = True
    ) -> Image:
        """An image of layers that are here already; nobody knows of one that is not kept. The caller is `building`.

        The layers of `base` keep the form in which they came; it does not become the image's parent, as
        with BuildKit: its last name takes it away.
        """
        known = {record.id for record in self.catalog.images()}
        image = await making.make_image(self, config, base=base, keep=keep)
        if keep and image.id not in known:
            self.publish("create", image.id, image.id)
        return image

    async def portable_layers(
        self, diff_ids: Sequence[Digest], compression: Compression = GZIP
    ) -> tuple[Descriptor, ...]:
        """Layers as compressed blobs. The caller is `building`."""
        return await making.portable_layers(self, diff_ids, compression)

    async def recompressed(
        self, image: Image, compression: Compression, *, keep: bool = False
    ) -> Image:
        """The image with a manifest of such layers, which stays when it is to be kept. The caller is `building`."""
        image = await making.recompress(self, image, compression)
        if keep and image.manifest is not None:
            manifest = parse_image_manifest(await self.read_blob(image.manifest.digest))
            blobs = (image.manifest.digest, *(layer.digest for layer in manifest.layers))
            return await self.register(image.id, manifest=image.manifest, blobs=blobs)
        return image

    # ---- giving content out (ImageSource)

    def list_tags(self, repository: str) -> tuple[str, ...]:
        """See ImageSource."""
        return tuple(sorted(name.tag for name in self.tags_of(repository)))

    def tags_of(self, repository: str) -> tuple[Reference, ...]:
        """The tags of a canonical repository."""
        found = [parse_reference(name) for name, _ in self.catalog.names()]
        return tuple(ref for ref in found if ref.repository == repository and ref.tag)

    async def push_target(self, name: str, platform: Platform | None = None) -> Descriptor:
        """See ImageSource."""
        return await making.push_target(self, name, platform)

    async def add_repo_digest(self, repository: str, target: Descriptor) -> None:
        """See ImageSource."""
        for record in self.catalog.images():
            if record.manifest == target or target.digest in record.blobs:
                self.point(f"{repository}@{target.digest}", record.id, target, quiet=True)
                return

    def retarget(self, image_id: ImageId, old: Descriptor, new: Descriptor) -> None:
        """The tags of an image that meant one manifest mean another of the same image from now on."""
        with self.catalog.transaction():
            for reference in self.catalog.names_of(image_id):
                name = self.catalog.name(reference.canonical())
                if name is not None and name.target == old and not reference.digest:
                    self.catalog.point(reference.canonical(), image_id, new)

    def layer_tar(self, digest: Digest) -> Path:
        """The file of a blob; a layer's own tar stands for a blob that was never stored. Raises NotFound."""
        path = self.content.path(digest)
        if path.exists():
            return path
        tar = self.layers.folder / digest.partition(":")[2] / TAR_NAME
        if tar.exists():
            return tar
        raise NoSuchBlob(digest)

    # ---- lists and sizes

    def list_all(self, filters: Filters | None = None, *, all_: bool = False) -> tuple[Image, ...]:
        """Images newest first, as `docker image ls` selects them. Raises InvalidFilter, NoSuchImage."""
        filters = filters or {}
        refs = (*filters.get("before", ()), *filters.get("since", ()))
        return listing.select_images(
            self.all(),
            filters,
            find={ref: self.get(ref) for ref in refs},
            parents=self._parents(),
            all_=all_,
        )

    def count_users(self, image_id: ImageId) -> int:
        """How many containers are made from an image."""
        return len(self._users(image_id))

    def history(
        self, ref: str, platform: Platform | None = None
    ) -> tuple[listing.HistoryLine, ...]:
        """The lines of `docker history`. Raises NoSuchImage, WrongPlatform."""
        image = self.get(ref, platform)
        parents: list[Image] = []
        parent = image.parent
        while parent and self.catalog.find(ImageId(parent)) is not None:
            parents.append(self._image(ImageId(parent)))
            parent = parents[-1].parent
        return listing.build_history(image, self._sizes(), parents)

    def disk_usage(self) -> tuple[tuple[listing.ImageUsage, ...], int]:
        """Every image with its shared bytes, and the bytes of all layers."""
        usages, total = listing.measure_usage(self.all(), self._sizes())
        return tuple(
            replace(usage, containers=self.count_users(usage.image.id)) for usage in usages
        ), total

    async def layer_changes(self, ref: str) -> list[listing.LayerChanges]:
        """What each layer of an image adds, changes and deletes, bottom first."""
        image = self.get(ref)
        entries = [entry for entry in image.history if not entry.empty_layer]
        found: list[listing.LayerChanges] = []
        for index, diff_id in enumerate(image.diff_ids):
            below = await run_blocking(self.layers.open_stack, image.diff_ids[:index])
            tree = await run_blocking(self.layers.tree, diff_id)
            result = await run_image_worker(
                "wherry.image.layer.diff:changes",
                {"upper": str(tree), "trees": [str(path) for path in below]},
            )
            found.append(
                listing.LayerChanges(
                    diff_id=diff_id,
                    created_by=entries[index].created_by if index < len(entries) else "",
                    size_bytes=self.layers.get(diff_id).size_bytes,
                    changes=tuple(parse_changes(result)),
                )
            )
        return found

    async def check(self, on_progress: Callable[[JsonValue], None] | None = None) -> list[str]:
        """Re-hashes everything in ROOT; says in sentences what is wrong, also between the records."""
        with self.collector.hold():
            result = await run_image_worker(
                "wherry.image.check:check", {"root": str(self.root)}, on_progress=on_progress
            )
            problems = (
                [item for item in result if isinstance(item, str)]
                if isinstance(result, list)
                else []
            )
            blobs, layers = self._needs()
            problems += [
                f"blob {digest} is missing"
                for digest in sorted(blobs)
                if not self.content.has(digest) and not self.layers.has(digest)
            ]
            problems += [
                f"layer {diff_id} is missing"
                for diff_id in sorted(layers)
                if not self.layers.has(diff_id)
            ]
        return problems

    async def prune(self, filters: Filters | None = None) -> tuple[list[Deleted], int]:
        """Removes unused images; returns what `rmi` would have said, and the bytes of their layers."""
        chosen = listing.select_prunable(
            self.all(),
            filters or {},
            used=frozenset(image.id for image in self.all() if self._users(image.id)),
            parents=self._parents(),
        )
        deleted: list[Deleted] = []
        sizes = self._sizes()
        with self.collector.hold():
            for image in chosen:
                refs = (*image.repo_tags, *image.repo_digests) or (image.id,)
                for ref in refs:
                    try:
                        deleted += await self.remove(ref)
                    except (Conflict, NoSuchImage):
                        continue  # another of them went first, or it is used after all
            # Not what a sweep takes: that comes when the last who holds it off has ended.
            _, needed = self._needs()
        gone = {diff_id for image in chosen for diff_id in image.diff_ids} - needed
        reclaimed = sum(sizes.get(diff_id, 0) for diff_id in gone)
        self._publish("image", "prune", "", {"reclaimed": str(reclaimed)})
        return deleted, reclaimed

    def _parents(self) -> frozenset[str]:
        return frozenset(record.parent for record in self.catalog.images() if record.parent)

    def _sizes(self) -> dict[Digest, int]:
        return {record.diff_id: record.size_bytes for record in self.layers.all()}

    # ---- snapshots

    async def create_snapshot(
        self, image: Image | None, key: str, *, volatile: bool = False
    ) -> RootMount:
        """Makes the writable directory of a container or build step over an image (None: over nothing)."""
        record = SnapshotRecord(
            image_id=image.id if image else "",
            diff_ids=image.diff_ids if image else (),
            volatile=volatile,
            over_host=image is not None and bool(self.host_base_of(image)),
        )
        with self.collector.protect(record.diff_ids):  # an rmi while the layers are mounted
            return await self.snapshots.create(key, record)

    def root_mount(self, key: str) -> RootMount:
        """What to mount for a snapshot. Raises NoSuchSnapshot."""
        return self.snapshots.root_mount(key)

    async def image_mount(self, image: Image) -> RootMount:
        """An image alone, read-only, without mount points: for `--mount type=image` and COPY --from."""
        record = SnapshotRecord(diff_ids=image.diff_ids, over_host=bool(self.host_base_of(image)))
        trees = await run_blocking(self.snapshots.trees, record)
        if len(trees) < 2:
            trees = (*trees, self.layers.stubs.empty_layer())
        return RootMount(lowers=tuple(map(str, trees)))

    def trees_of(self, key: str) -> tuple[Path, ...]:
        """A snapshot's upper directory and the trees below it, without mount points. May mount: blocking."""
        return (self.snapshots.upper(key), *self.snapshots.trees(self.snapshots.get(key)))

    async def snapshot_usage(self, key: str) -> int:
        """The bytes that a snapshot's own files hold."""
        upper = str(self.snapshots.upper(key))
        result = await run_image_worker("wherry.image.layer.diff:usage", {"upper": upper})
        return result if isinstance(result, int) else 0

    async def changes(self, key: str) -> list[Change]:
        """What a snapshot changed, sorted by path, as `docker diff` shows it."""
        lowers = await run_blocking(self.snapshots.lowers, key)
        result = await run_image_worker(
            "wherry.image.layer.diff:changes",
            {"upper": str(self.snapshots.upper(key)), "trees": [str(tree) for tree in lowers]},
        )
        return parse_changes(result)

    def export(self, key: str) -> AsyncIterator[bytes]:
        """The whole root of a snapshot as a tar."""
        return exporting.export(self, key)

    async def remove_snapshot(self, key: str) -> None:
        """Removes a snapshot; its files are freed in their own time. Idempotent."""
        image_id = self.snapshots.image_of(key)
        for folder in self.snapshots.forget(key):
            self.collector.discard(folder)
        if image_id and self.catalog.find(ImageId(image_id)) is None:
            self.collect()  # the image was removed by force, its layers stayed for this snapshot
        self._uppers.remove(key)
