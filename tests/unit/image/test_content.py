"""The content store: atomic, verified, idempotent; and removal of trees of any depth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wherry.image.content import BadContent, ContentStore, NoSuchBlob, remove_tree
from wherry.image.digest import InvalidDigest, digest_of
from wherry.model.image import Digest


def test_put_and_read(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    digest = digest_of(b"data")
    assert not store.has(digest)
    store.put(digest, b"data")
    store.put(digest, b"data")
    assert store.read(digest) == b"data"
    assert store.size(digest) == 4
    assert list(store.digests()) == [digest]
    assert store.verify(digest)
    assert list(store.tmp.iterdir()) == []


def test_what_does_not_match_is_refused(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with pytest.raises(BadContent):
        store.put(digest_of(b"data"), b"other")
    assert list(store.digests()) == []


def test_a_damaged_blob_is_never_served(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    digest = digest_of(b"data")
    store.put(digest, b"data")
    store.path(digest).write_bytes(b"dat4")
    with pytest.raises(BadContent, match="damaged"):
        store.read(digest)
    assert not store.verify(digest)


def test_absent_blobs(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with pytest.raises(NoSuchBlob, match="not found"):
        store.read(digest_of(b"nothing"))
    assert store.delete(digest_of(b"nothing")) == 0


@pytest.mark.parametrize(
    "text", ["sha256:../../../etc/passwd", "sha256:" + "0" * 63, "md5:" + "0" * 32, "x"]
)
def test_digests_are_no_paths(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidDigest):
        ContentStore(tmp_path).path(Digest(text))


def test_sha512_blobs(tmp_path: Path) -> None:
    import hashlib

    store = ContentStore(tmp_path)
    digest = Digest("sha512:" + hashlib.sha512(b"x").hexdigest())
    store.put(digest, b"x")
    assert store.read(digest) == b"x"


def test_partial_downloads_survive_a_restart_for_a_day(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    young, old = store.partial_path(digest_of(b"1")), store.partial_path(digest_of(b"2"))
    for path in (young, old, store.tmp / "rubbish"):
        path.write_bytes(b"part")
    os.utime(old, (1, 1))
    assert ContentStore(tmp_path).clean_tmp() == 2
    assert young.exists()
    assert not old.exists()


def test_remove_a_tree_deeper_than_any_path(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        os.mkdir("top", dir_fd=fd)
        inner = os.open("top", os.O_RDONLY, dir_fd=fd)
        for _ in range(3000):
            os.mkdir("deep", dir_fd=inner)
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
            following = os.open("deep", os.O_RDONLY, dir_fd=inner)
            os.close(inner)
            inner = following
        os.close(inner)
    finally:
        os.close(fd)
    (tmp_path / "outside").mkdir()
    (tmp_path / "top/link").symlink_to(tmp_path / "outside")
    remove_tree(tmp_path / "top")
    assert sorted(os.listdir(tmp_path)) == ["outside"]
