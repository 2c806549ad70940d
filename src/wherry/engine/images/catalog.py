"""Which images there are and what they are called: records in memory, written through to the store.

Pure bookkeeping: no blob or layer is touched here. Names are canonical references; looking one up
follows Docker's order (daemon/images/image.go `GetImage`): a whole id, a name, then a prefix of an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

from wherry.engine.images.records import ImageRecord, NameRecord
from wherry.engine.store import Store, Table
from wherry.image.reference import Reference, is_image_id, parse_reference
from wherry.model.errors import NoSuchImage, NotFound
from wherry.model.image import Descriptor, Digest, ImageId, Platform
from wherry.model.platforms import format_platform


class WrongPlatform(NotFound):
    """The image is here, but not for the platform that was asked for."""

    def __init__(self, ref: str, found: Platform, wanted: Platform) -> None:
        super().__init__(
            f"image with reference {ref} was found but its platform ({format_platform(found)}) does not"
            f" match the specified platform ({format_platform(wanted)})"
        )


class Catalog:
    """Images and names of one ROOT. Callers group changes in `transaction`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._image_table = Table(store, "images", ImageRecord)
        self._name_table = Table(store, "image_names", NameRecord)
        self._images: dict[ImageId, ImageRecord] = {}
        self._names: dict[str, NameRecord] = {}
        self._names_of: dict[ImageId, set[str]] = {}
        self._reload()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes inside are kept together or not at all, here as in the store."""
        try:
            with self.store.transaction():
                yield
        except BaseException:
            self._reload()
            raise

    def _reload(self) -> None:
        self._images = {ImageId(key): record for key, record in self._image_table.items()}
        self._names = dict(self._name_table.items())
        self._names_of = {}
        for name, record in self._names.items():
            for image_id in record.images:
                self._names_of.setdefault(image_id, set()).add(name)

    def get(self, image_id: ImageId) -> ImageRecord:
        """Raises NoSuchImage."""
        record = self._images.get(image_id)
        if record is None:
            raise NoSuchImage(image_id)
        return record

    def find(self, image_id: ImageId) -> ImageRecord | None:
        """The record, or None."""
        return self._images.get(image_id)

    def images(self) -> tuple[ImageRecord, ...]:
        """All images."""
        return tuple(self._images.values())

    def name(self, canonical: str) -> NameRecord | None:
        """What a canonical name points to."""
        return self._names.get(canonical)

    def names(self) -> Iterator[tuple[str, NameRecord]]:
        """All names with what they point to."""
        yield from self._names.items()

    def names_of(self, image_id: ImageId) -> tuple[Reference, ...]:
        """The names of an image, tags before digests, sorted."""
        references = [_parse_known(name) for name in self._names_of.get(image_id, ())]
        return tuple(sorted(references, key=lambda ref: (bool(ref.digest), ref.canonical())))

    def children(self, image_id: ImageId) -> tuple[ImageId, ...]:
        """The images that were made from this one here."""
        return tuple(record.id for record in self._images.values() if record.parent == image_id)

    def resolve(self, text: str) -> NameRecord:
        """What a person's text means. Raises NoSuchImage, InvalidReference."""
        if is_image_id(text):
            image_id = ImageId("sha256:" + text.removeprefix("sha256:"))
            if image_id in self._images:
                return NameRecord(images=(image_id,))
            raise NoSuchImage(image_id)
        reference = parse_reference(text)
        canonical = lookup_name(reference)
        record = self._names.get(canonical) or self._by_prefix(text)
        if record is None:
            raise NoSuchImage(reference.with_default_tag().familiar())
        return record

    def put_image(self, record: ImageRecord) -> None:
        """Makes an image known, or replaces its record."""
        self._image_table.put(record.id, record)
        self._images[record.id] = record

    def delete_image(self, image_id: ImageId) -> None:
        """Forgets an image that has no names."""
        self._image_table.delete(image_id)
        self._images.pop(image_id, None)
        self._names_of.pop(image_id, None)

    def point(self, canonical: str, image_id: ImageId, target: Descriptor | None) -> None:
        """Makes a name mean an image. The other platforms of the same target stay."""
        old = self._names.get(canonical)
        others: tuple[ImageId, ...] = ()
        if old is not None and target is not None and old.target == target:
            others = tuple(known for known in old.images if known != image_id)
        self._put_name(canonical, NameRecord(images=(image_id, *others), target=target))

    def unpoint(self, canonical: str, image_id: ImageId | None = None) -> None:
        """Takes a name away, or only one platform's image from it."""
        old = self._names.get(canonical)
        if old is None:
            return
        rest = () if image_id is None else tuple(known for known in old.images if known != image_id)
        if rest:
            self._put_name(canonical, replace(old, images=rest))
            return
        self._name_table.delete(canonical)
        del self._names[canonical]
        for known in old.images:
            self._names_of.get(known, set()).discard(canonical)

    def in_use(self) -> tuple[set[Digest], set[ImageId]]:
        """All blobs that some image or name needs, and all images."""
        blobs = {digest for record in self._images.values() for digest in record.blobs}
        for record in self._names.values():
            if record.target is not None:
                blobs.add(record.target.digest)
        return blobs, set(self._images)

    def _put_name(self, canonical: str, record: NameRecord) -> None:
        old = self._names.get(canonical)
        for known in old.images if old is not None else ():
            self._names_of.get(known, set()).discard(canonical)
        self._name_table.put(canonical, record)
        self._names[canonical] = record
        for known in record.images:
            self._names_of.setdefault(known, set()).add(canonical)

    def _by_prefix(self, text: str) -> NameRecord | None:
        prefix = text.removeprefix("sha256:")
        if not prefix or not set(prefix) <= set("0123456789abcdef"):
            return None
        found = [image_id for image_id in self._images if image_id.startswith("sha256:" + prefix)]
        return NameRecord(images=(found[0],)) if len(found) == 1 else None  # ambiguous is not found


@lru_cache(maxsize=8192)
def _parse_known(name: str) -> Reference:
    return parse_reference(name)


def lookup_name(reference: Reference) -> str:
    """The canonical name under which a reference is stored: a digest wins over a tag."""
    if reference.digest:
        return replace(reference, tag="").canonical()
    return reference.with_default_tag().canonical()


def restore_names(catalog: Catalog, known: Iterable[ImageId]) -> None:
    """At start-up: drops names of images that are not there."""
    present = set(known)
    for name, record in list(catalog.names()):
        for image_id in record.images:
            if image_id not in present:
                catalog.unpoint(name, image_id)
