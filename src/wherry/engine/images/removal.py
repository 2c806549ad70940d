"""What `docker rmi` removes and refuses: Docker's rules (daemon/images/image_delete.go), order and sentences.

Pure bookkeeping on the catalog; blobs and layers are collected afterwards by whoever calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntFlag, auto

from wherry.engine.images.catalog import Catalog, lookup_name
from wherry.image.reference import Reference, parse_reference
from wherry.model.errors import Conflict
from wherry.model.image import Digest, ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUser:
    """A container that is made from an image or has it mounted."""

    container_id: str
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """One line of the answer: exactly one of the two is set."""

    untagged: str = ""
    deleted: str = ""


Users = Callable[[ImageId], Sequence[ImageUser]]
Layers = Callable[[ImageId], tuple[Digest, ...]]
Publish = Callable[[str, ImageId, str], None]


class _Check(IntFlag):
    DEPENDENT_CHILD = auto()
    RUNNING_CONTAINER = auto()
    ACTIVE_REFERENCE = auto()
    STOPPED_CONTAINER = auto()
    HARD = DEPENDENT_CHILD | RUNNING_CONTAINER
    SOFT = ACTIVE_REFERENCE | STOPPED_CONTAINER


class _DeleteConflict(Conflict):
    def __init__(self, image_id: ImageId, message: str, *, hard: bool, used: bool) -> None:
        advice = "cannot be forced" if hard else "must be forced"
        super().__init__(f"conflict: unable to delete {short_id(image_id)} ({advice}) - {message}")
        self.used = used


class Removal:
    """One removal; `records` is what it did."""

    def __init__(
        self, catalog: Catalog, users: Users, layers_of: Layers, publish: Publish, *, force: bool
    ) -> None:
        self._catalog = catalog
        self._users = users
        self._layers_of = layers_of
        self._publish = publish
        self._force = force
        self.records: list[Deleted] = []

    def remove(self, text: str, image_id: ImageId, *, prune: bool) -> None:
        """Removes what `text` names. Raises Conflict; nothing is changed then."""
        references = self._catalog.names_of(image_id)
        by_reference = not _is_id_prefix(image_id, text)
        if by_reference:
            if self._remove_reference(text, image_id, references):
                return
        elif _is_single(references):
            checks = _Check.HARD
            if not self._force:
                checks |= _Check.SOFT & ~_Check.ACTIVE_REFERENCE
            self._check(image_id, checks)
            self._untag(image_id, references)
        self._delete(image_id, prune=prune, quiet=by_reference, force=self._force)

    def _remove_reference(
        self, text: str, image_id: ImageId, references: Sequence[Reference]
    ) -> bool:
        """Takes the name away; True when the image has others left."""
        if not self._force and _is_single(references):
            user = next(iter(self._users(image_id)), None)
            if user is not None:
                raise Conflict(
                    f'conflict: unable to remove repository reference "{text}" (must force) - container'
                    f" {user.container_id[:12]} is using its referenced image {short_id(image_id)}"
                )
        named = parse_reference(lookup_name(parse_reference(text)))
        self._untag(image_id, [named])
        left = [reference for reference in references if reference != named]
        same = [reference for reference in left if reference.repository == named.repository]
        if not named.digest and all(reference.digest for reference in same):
            self._untag(image_id, same, quiet=True)
            left = [reference for reference in left if reference not in same]
        return bool(left)

    def _untag(
        self, image_id: ImageId, references: Iterable[Reference], *, quiet: bool = False
    ) -> None:
        for reference in references:
            self._catalog.unpoint(reference.canonical(), image_id)
            entry = Deleted(untagged=reference.familiar())
            if entry in self.records:  # the name of another platform's image, gone already
                continue
            self.records.append(entry)
            if not quiet:
                self._publish("untag", image_id, image_id)

    def _check(self, image_id: ImageId, checks: _Check) -> None:
        users = self._users(image_id)
        if checks & _Check.DEPENDENT_CHILD and self._catalog.children(image_id):
            raise _DeleteConflict(
                image_id, "image has dependent child images", hard=True, used=False
            )
        running = next((user for user in users if user.running), None)
        if checks & _Check.RUNNING_CONTAINER and running is not None:
            message = f"image is being used by running container {running.container_id[:12]}"
            raise _DeleteConflict(image_id, message, hard=True, used=True)
        if checks & _Check.ACTIVE_REFERENCE and self._catalog.names_of(image_id):
            message = "image is referenced in multiple repositories"
            raise _DeleteConflict(image_id, message, hard=False, used=False)
        stopped = next((user for user in users if not user.running), None)
        if checks & _Check.STOPPED_CONTAINER and stopped is not None:
            message = f"image is being used by stopped container {stopped.container_id[:12]}"
            raise _DeleteConflict(image_id, message, hard=False, used=True)

    def _delete(self, image_id: ImageId, *, prune: bool, quiet: bool, force: bool) -> None:
        try:
            self._check(image_id, _Check.HARD if force else _Check.HARD | _Check.SOFT)
        except _DeleteConflict as conflict:
            if quiet and (not self._is_dangling(image_id) or conflict.used):
                return
            raise
        parent = self._catalog.get(image_id).parent
        chains = chain_ids(self._layers_of(image_id))
        self._untag(image_id, self._catalog.names_of(image_id))
        self._catalog.delete_image(image_id)
        self._publish("delete", image_id, image_id)
        self.records.append(Deleted(deleted=image_id))
        others = {
            chain
            for record in self._catalog.images()
            for chain in chain_ids(self._layers_of(record.id))
        }
        for chain in reversed(chains):
            if chain in others:
                break
            self.records.append(Deleted(deleted=chain))
        if prune and parent and self._catalog.find(ImageId(parent)) is not None:
            self._delete(ImageId(parent), prune=True, quiet=True, force=False)

    def _is_dangling(self, image_id: ImageId) -> bool:
        return not self._catalog.names_of(image_id) and not self._catalog.children(image_id)


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """The chain id of each layer, bottom first (OCI image-spec, config.md#layer-chainid)."""
    chains: list[Digest] = []
    for diff_id in diff_ids:
        if chains:
            text = f"{chains[-1]} {diff_id}".encode()
            chains.append(Digest(f"sha256:{hashlib.sha256(text).hexdigest()}"))
        else:
            chains.append(diff_id)
    return tuple(chains)


def short_id(image_id: str) -> str:
    """The twelve digits that people see."""
    return image_id.partition(":")[2][:12] or image_id[:12]


def _is_id_prefix(image_id: ImageId, text: str) -> bool:
    return image_id.startswith(text) or image_id.partition(":")[2].startswith(text)


def _is_single(references: Sequence[Reference]) -> bool:
    """At most one tag, and everything in one repository."""
    if len(references) <= 1:
        return True
    tags = [reference for reference in references if not reference.digest]
    repositories = {reference.repository for reference in references}
    return len(tags) <= 1 and len(repositories) == 1
