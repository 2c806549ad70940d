"""`docker rmi`: which names and images go, in which order, and Docker's sentences when they may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from wherry.engine.images.catalog import Catalog
from wherry.engine.images.records import ImageRecord
from wherry.engine.images.removal import Deleted, ImageUser, Removal, chain_ids
from wherry.engine.store import Store
from wherry.image.digest import digest_of
from wherry.image.reference import parse_reference
from wherry.model.errors import Conflict, NoSuchImage
from wherry.model.image import Descriptor, Digest, ImageId

A, B = ImageId(digest_of(b"a")), ImageId(digest_of(b"b"))
L1, L2 = digest_of(b"1"), digest_of(b"2")
CONTAINER = "c" * 64


class Shelf:
    """A catalog with a vocabulary."""

    def __init__(self, store: Store) -> None:
        self.catalog = Catalog(store)
        self.layers: dict[ImageId, tuple[Digest, ...]] = {}
        self.users: dict[ImageId, list[ImageUser]] = {}
        self.events: list[tuple[str, str]] = []

    def add(
        self, image_id: ImageId, *names: str, layers: tuple[Digest, ...] = (L1,), parent: str = ""
    ) -> None:
        self.catalog.put_image(ImageRecord(id=image_id, parent=parent))
        self.layers[image_id] = layers
        for name in names:
            self.catalog.point(parse_reference(name).canonical(), image_id, None)

    def remove(self, text: str, *, force: bool = False, prune: bool = True) -> list[str]:
        removal = Removal(
            self.catalog,
            lambda image_id: self.users.get(image_id, []),
            lambda image_id: self.layers[image_id],
            lambda action, image_id, _: self.events.append((action, image_id)),
            force=force,
        )
        removal.remove(text, self.catalog.resolve(text).images[0], prune=prune)
        return [_show(entry) for entry in removal.records]

    def refuse(self, text: str, *, force: bool = False) -> str:
        before = (self.catalog.images(), dict(self.catalog.names()))
        with pytest.raises(Conflict) as caught:
            self.remove(text, force=force)
        assert (self.catalog.images(), dict(self.catalog.names())) == before
        return str(caught.value)


def _show(entry: Deleted) -> str:
    return f"Untagged: {entry.untagged}" if entry.untagged else f"Deleted: {entry.deleted}"


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with closing(Store(tmp_path / "state.db")) as store:
        yield Shelf(store)


def test_the_last_name_takes_the_image(shelf: Shelf) -> None:
    shelf.add(A, "node:lts", layers=(L1, L2))
    chain = chain_ids((L1, L2))
    assert shelf.remove("node:lts") == [
        "Untagged: node:lts",
        f"Deleted: {A}",
        f"Deleted: {chain[1]}",
        f"Deleted: {chain[0]}",
    ]
    assert shelf.events == [("untag", A), ("delete", A)]
    with pytest.raises(NoSuchImage, match="No such image: node:lts"):
        shelf.catalog.resolve("node:lts")


def test_one_of_two_names_only_untags(shelf: Shelf) -> None:
    shelf.add(A, "node:lts", "other:1")
    assert shelf.remove("node:lts") == ["Untagged: node:lts"]
    assert shelf.catalog.resolve("other:1").images == (A,)


def test_digests_of_a_repository_go_with_its_last_tag(shelf: Shelf) -> None:
    digest = digest_of(b"manifest")
    shelf.add(A, "node:lts", f"node@{digest}", "other:1", f"other@{digest}")
    assert shelf.remove("node:lts") == ["Untagged: node:lts", f"Untagged: node@{digest}"]
    assert shelf.remove("other:1")[:3] == [
        "Untagged: other:1",
        f"Untagged: other@{digest}",
        f"Deleted: {A}",
    ]
    assert [event for event in shelf.events if event[0] == "untag"] == [("untag", A)] * 2


def test_by_id_needs_force_when_repositories_differ(shelf: Shelf) -> None:
    shelf.add(A, "a:1", "b:1")
    assert shelf.refuse(A[7:19]) == (
        f"conflict: unable to delete {A[7:19]} (must be forced) - image is referenced in multiple repositories"
    )
    assert shelf.remove(A[7:19], force=True) == [
        "Untagged: a:1",
        "Untagged: b:1",
        f"Deleted: {A}",
        f"Deleted: {L1}",
    ]


def test_by_id_takes_all_names_of_one_repository(shelf: Shelf) -> None:
    digest = digest_of(b"manifest")
    shelf.add(A, "a:1", f"a@{digest}")
    assert shelf.remove(A) == [
        "Untagged: a:1",
        f"Untagged: a@{digest}",
        f"Deleted: {A}",
        f"Deleted: {L1}",
    ]


def test_a_stopped_container_needs_force(shelf: Shelf) -> None:
    shelf.add(A, "a:1")
    shelf.users[A] = [ImageUser(container_id=CONTAINER, running=False)]
    assert shelf.refuse("a:1") == (
        f'conflict: unable to remove repository reference "a:1" (must force) - container {CONTAINER[:12]}'
        f" is using its referenced image {A[7:19]}"
    )
    assert shelf.refuse(A[7:19]) == (
        f"conflict: unable to delete {A[7:19]} (must be forced) - image is being used by stopped container"
        f" {CONTAINER[:12]}"
    )
    assert f"Deleted: {A}" in shelf.remove("a:1", force=True)


def test_a_running_container_cannot_be_forced(shelf: Shelf) -> None:
    shelf.add(A, "a:1")
    shelf.users[A] = [ImageUser(container_id=CONTAINER, running=True)]
    sentence = (
        f"conflict: unable to delete {A[7:19]} (cannot be forced) - image is being used by running container"
        f" {CONTAINER[:12]}"
    )
    assert shelf.refuse(A[7:19]) == sentence
    assert shelf.refuse(A[7:19], force=True) == sentence
    assert shelf.remove("a:1", force=True) == ["Untagged: a:1"]


def test_the_parents_tag_first_only_untags_and_goes_with_the_child(shelf: Shelf) -> None:
    shelf.add(A, "parent:1", layers=(L1,))
    shelf.add(B, "child:1", layers=(L1, L2), parent=A)
    assert shelf.refuse(A[7:19]) == (
        f"conflict: unable to delete {A[7:19]} (cannot be forced) - image has dependent child images"
    )
    assert shelf.remove("parent:1") == ["Untagged: parent:1"]
    chain = chain_ids((L1, L2))
    assert shelf.remove("child:1") == [
        "Untagged: child:1",
        f"Deleted: {B}",
        f"Deleted: {chain[1]}",
        f"Deleted: {A}",
        f"Deleted: {chain[0]}",
    ]


def test_no_prune_keeps_the_untagged_parent(shelf: Shelf) -> None:
    shelf.add(A, layers=(L1,))
    shelf.add(B, "child:1", layers=(L1, L2), parent=A)
    assert f"Deleted: {A}" not in shelf.remove("child:1", prune=False)
    assert shelf.catalog.find(A) is not None


def test_shared_layers_go_with_their_last_user(shelf: Shelf) -> None:
    shelf.add(A, "a:1", layers=(L1,))
    shelf.add(B, "b:1", layers=(L1, L2))
    assert shelf.remove("a:1") == ["Untagged: a:1", f"Deleted: {A}"]
    assert shelf.remove("b:1")[-1] == f"Deleted: {L1}"


def test_prefixes_names_and_their_precedence(shelf: Shelf) -> None:
    short = A[7:15]
    shelf.add(A, "a:1")
    shelf.add(B, f"{short}:latest")
    assert shelf.catalog.resolve(short).images == (B,)
    assert shelf.catalog.resolve(f"sha256:{short}").images == (A,)
    assert shelf.catalog.resolve(A[7:]).images == (A,)
    with pytest.raises(NoSuchImage, match="No such image: zzz:latest"):
        shelf.catalog.resolve("zzz")


def test_names_survive_a_restart(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add(A, "a:1")
    with closing(Store(tmp_path / "state.db")) as store:
        again = Catalog(store)
    assert again.resolve("a:1").images == (A,)
    assert [name.familiar() for name in again.names_of(A)] == ["a:1"]


def test_a_change_that_fails_is_forgotten_in_memory_too(shelf: Shelf) -> None:
    def change() -> None:
        with shelf.catalog.transaction():
            shelf.catalog.unpoint("docker.io/library/a:1")
            shelf.catalog.put_image(ImageRecord(id=B))
            raise RuntimeError("the disk is full")

    shelf.add(A, "a:1")
    with pytest.raises(RuntimeError):
        change()
    assert shelf.catalog.resolve("a:1").images == (A,)
    assert shelf.catalog.find(B) is None


def test_platforms_of_one_index_share_a_name(shelf: Shelf) -> None:
    index = Descriptor(media_type="index", digest=digest_of(b"index"), size=1)
    shelf.add(A)
    shelf.add(B, layers=(L2,))
    name = "docker.io/library/multi:1"
    shelf.catalog.point(name, A, index)
    shelf.catalog.point(name, B, index)
    assert shelf.catalog.resolve("multi:1").images == (B, A)
    shelf.catalog.point(name, A, None)
    assert shelf.catalog.resolve("multi:1").images == (A,)
    assert shelf.catalog.names_of(B) == ()
