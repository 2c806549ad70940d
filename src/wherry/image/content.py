"""The content store: blobs by digest under ROOT/blobs/<algorithm>/<hex>, the files themselves the truth.

A blob is there completely or not at all: it is written beside, verified, synced, and renamed (umoci's
`oci/cas` and containerd's `core/content` make the same promise). The store knows neither manifests nor
images; what may be deleted is decided above. All calls block: the engine makes those that touch much
data in a worker or a thread.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from wherry.image.digest import matches, new_hash, parse_digest, split_digest
from wherry.model.digest import Digest
from wherry.model.errors import InvalidArgument, NotFound

logger = logging.getLogger(__name__)

PARTIAL_MAX_AGE_S = 24 * 3600
_MAX_SMALL_BLOB = 16 << 20


class BadContent(InvalidArgument):
    """Bytes are not what their digest, size or format promise."""


class NoSuchBlob(NotFound):
    """The content store has no such blob."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"content digest {digest}: not found")


class ContentStore:
    """Blobs of one ROOT. Several processes may use it at once: every change is one rename."""

    def __init__(self, root: Path) -> None:
        """`root` is ROOT; makes `blobs` and `tmp` below it."""
        self._blobs = root / "blobs"
        self.tmp = root / "tmp"
        for folder in (self._blobs / "sha256", self._blobs / "sha512", self.tmp):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        algorithm, value = split_digest(parse_digest(digest))
        return self._blobs / algorithm / value

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        return self.path(digest).exists()

    def size(self, digest: Digest) -> int:
        """The blob's size. Raises NoSuchBlob."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as error:
            raise NoSuchBlob(digest) from error

    def read(self, digest: Digest) -> bytes:
        """A small blob (manifest, config), verified. Raises NoSuchBlob, BadContent."""
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_SMALL_BLOB + 1)
        except FileNotFoundError as error:
            raise NoSuchBlob(digest) from error
        if len(data) > _MAX_SMALL_BLOB:
            raise BadContent(f"blob {digest} is too large for a manifest or config")
        if not matches(digest, data):
            raise BadContent(f"blob {digest} is damaged: its digest does not match")
        return data

    def put(self, digest: Digest, data: bytes) -> None:
        """Stores a small blob; atomic, durable, idempotent. Raises BadContent when it does not match."""
        if not matches(digest, data):
            raise BadContent(f"unexpected digest: the content is not {digest}")
        if self.has(digest):
            return
        temporary = self.tmp / f"{split_digest(digest)[1][:32]}.{os.getpid()}.{time.monotonic_ns()}"
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.adopt(digest, temporary)

    def adopt(self, digest: Digest, verified: Path) -> None:
        """Renames a file on the same file system, verified and synced by the caller, into the store."""
        target = self.path(digest)
        verified.rename(target)
        sync_folder(target.parent)

    def link(self, digest: Digest, verified: Path) -> None:
        """As `adopt`, but the file keeps its own name too (one copy on disk); idempotent."""
        target = self.path(digest)
        try:
            os.link(verified, target)
        except FileExistsError:
            return
        sync_folder(target.parent)

    def delete(self, digest: Digest) -> int:
        """Removes a blob when it is there; returns the bytes that this name held."""
        path = self.path(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def digests(self) -> Iterator[Digest]:
        """Every blob that is there."""
        for algorithm in ("sha256", "sha512"):
            for name in sorted(os.listdir(self._blobs / algorithm)):
                yield Digest(f"{algorithm}:{name}")

    def partial_path(self, digest: Digest) -> Path:
        """Where a download of the blob is kept while it is not complete."""
        algorithm, value = split_digest(parse_digest(digest))
        return self.tmp / f"{algorithm}-{value}.partial"

    def clean_tmp(self) -> int:
        """At start-up: removes what a crash left in `tmp`, partial downloads only when they are old."""
        removed = 0
        oldest = time.time() - PARTIAL_MAX_AGE_S
        for path in self.tmp.iterdir():
            if path.suffix == ".partial" and path.stat().st_mtime >= oldest:
                continue
            try:
                remove_tree(path)
            except OSError as error:
                logger.warning("remove %s: %s", path, error)
            removed += 1
        return removed

    def verify(self, digest: Digest) -> bool:
        """Re-hashes a blob of any size. Raises NoSuchBlob."""
        running = new_hash(digest)
        try:
            with self.path(digest).open("rb", buffering=0) as file:
                while piece := file.read(1 << 20):
                    running.update(piece)
        except FileNotFoundError as error:
            raise NoSuchBlob(digest) from error
        return running.hexdigest() == split_digest(digest)[1]


def sync_folder(path: Path) -> None:
    """Makes renames and new names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_tree(path: Path) -> None:
    """Removes a file or a whole tree, following no symlink; what is already gone is fine."""
    try:
        path.unlink()
    except IsADirectoryError:
        _remove_folder(path)
    except FileNotFoundError:
        pass


def _remove_folder(path: Path) -> None:
    """Removes a tree of any depth with three descriptors: each folder is emptied into the topmost one.

    A container can nest directories deeper than any stack, limit of descriptors or path is long, which is
    where shutil.rmtree gives up.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(path, flags)
    try:
        number = 0
        waiting = _unlink_files(top)
        while waiting:
            name = waiting.pop()
            folder = os.open(name, flags, dir_fd=top)
            try:
                for child in _unlink_files(folder):
                    number += 1
                    lifted = f".removing-{number}-{os.getpid()}"
                    os.rename(child, lifted, src_dir_fd=folder, dst_dir_fd=top)
                    waiting.append(lifted)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    path.rmdir()


def _unlink_files(folder: int) -> list[str]:
    """Empties a folder of all but folders; returns those."""
    left = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                left.append(entry.name)
            else:
                try:
                    os.unlink(entry.name, dir_fd=folder)
                except FileNotFoundError:
                    pass  # a worker of an engine that was killed is just ending
    return left
