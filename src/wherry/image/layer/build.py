"""Makes layers in a worker: verify, decompress, hash, index (or unpack), sync, publish, in one pass.

The functions that `run_worker` calls take JSON and return JSON. What they leave behind when they fail is
below `tmp` or has a name that starts with a dot, both of which start-up removes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from wherry.image.content import BadContent, remove_tree, sync_folder
from wherry.image.digest import split_digest
from wherry.image.layer.confine import confined
from wherry.image.layer.erofs import IndexUnsupported, build_index
from wherry.image.layer.mount import INDEX_NAME, PROBE_SIZE, TAR_NAME
from wherry.image.layer.record import (
    EROFS,
    OVERLAY,
    TREE_NAME,
    LayerRecord,
    read_record,
    write_record,
)
from wherry.image.layer.streams import Decompressor, Digester, GrowingFile, Read, StreamError
from wherry.image.layer.tree import LayerTree
from wherry.image.layer.unpack import write_tree
from wherry.image.layer.writing import write_all
from wherry.kernel.syscalls import syncfs
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_int, get_str
from wherry.lib.tar.reader import TarError, TarReader
from wherry.lib.worker import Report
from wherry.model.digest import Digest

_PIECE = 1 << 18
_REPORT_EVERY = 1 << 20


@confined
def ingest(request: JsonObject, report: Report) -> JsonValue:
    """Takes a blob in while it arrives in `partial`: it becomes `blob`, and a layer unless `diffId` is "".

    `control` is the path of the pipe that says how much is there, `token` marks what is half done. Leaves the process as it was (WorkerPool).
    Returns the layer's record, or null. Raises BadContent when a digest does not match.
    """
    digest = Digest(get_str(request, "digest"))
    diff_id = get_str(request, "diffId")
    partial, blob = Path(get_str(request, "partial")), Path(get_str(request, "blob"))
    algorithm, expected = split_digest(digest)
    with (
        partial.open("rb", buffering=0) as file,
        open_pipe(get_str(request, "control")) as control,
        Digester(
            _reporting(GrowingFile(file.fileno(), get_int(request, "size"), control), report),
            algorithm,
        ) as source,
    ):
        record: LayerRecord | None = None
        pending: PendingLayer | None = None
        if diff_id:
            layers, token = Path(get_str(request, "layers")), get_str(request, "token")
            pending = PendingLayer(layers, get_str(request, "driver"), token)
        try:
            unreadable: ValueError | None = None
            if pending is not None:
                try:
                    record = pending.build(source.read)
                except (StreamError, TarError) as error:
                    unreadable = (
                        error  # most often because these are other bytes than were asked for
                    )
            while source.read(_PIECE):
                pass  # what follows the compressed stream, or all of a blob that is no layer
            if source.hexdigest() != expected:
                raise BadContent(
                    f"filesystem layer verification failed for digest {digest}"
                ) from unreadable
            if unreadable is not None:
                raise unreadable
            if pending is not None and record is not None:
                if record.diff_id != diff_id:
                    raise BadContent(f"layer {digest} does not match the image's diff ID {diff_id}")
                if record.diff_id == digest:
                    pending.keep_tar(blob)
                pending.publish()
        finally:
            if pending is not None:
                pending.close()
        os.fsync(file.fileno())
    if not blob.exists():
        partial.rename(blob)
        sync_folder(blob.parent)
    else:
        partial.unlink()
    return None if record is None else record.to_json()


@contextmanager
def open_pipe(path: str) -> Iterator[int | None]:
    """The reading end of a pipe of the engine (/proc/PID/fd/N); None without a path."""
    if not path:
        yield None
        return
    # An open that waits for a writer would wait for ever when the download has been given up.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.set_blocking(fd, True)
        yield fd
    finally:
        os.close(fd)


@confined
def build(request: JsonObject, report: Report) -> JsonValue:
    """Makes a layer of a tar stream (of any compression) on descriptor `input`; returns its record.

    The tar itself is kept as the blob of its diff-id, so that save and push can give it back.
    """
    del report
    source = get_int(request, "input", -1)
    pending = PendingLayer(Path(get_str(request, "layers")), get_str(request, "driver"))
    try:
        record = pending.build(lambda count: os.read(source, count))
        pending.keep_tar(Path(get_str(request, "blobs")) / record.key)
        pending.publish()
    finally:
        pending.close()
    return record.to_json()


@confined
def unpack(request: JsonObject, report: Report) -> JsonValue:
    """Turns an EROFS layer into an unpacked one, on a machine that cannot mount it; returns its record.

    The new record replaces the old one in one rename; until then the layer is what it was.
    """
    del report
    folder = Path(get_str(request, "layers")) / get_str(request, "key")
    record = replace(read_record(folder), driver=OVERLAY, probe_path="", probe_sha256="")
    remove_tree(folder / TREE_NAME)
    with (folder / TAR_NAME).open("rb", buffering=0) as tar:
        tree = read_tree(TarReader(lambda count: tar.read(count) or b""))
        _unpack(folder, tree, tar.fileno())
    write_record(folder, record)
    for name in (INDEX_NAME, TAR_NAME):
        (folder / name).unlink()
    return record.to_json()


class PendingLayer:
    """A layer on its way: `build` reads the stream, `publish` gives the folder its name."""

    def __init__(self, layers: Path, driver: str, token: str = "") -> None:
        """`token` is in the folder's name, so that who kills this process can remove the folder."""
        self._layers = layers
        self._driver = driver
        self._folder = Path(tempfile.mkdtemp(prefix=f".new-{token}", dir=layers))
        self._record: LayerRecord | None = None

    def build(self, read: Read) -> LayerRecord:
        """Reads the whole stream, decompressing it, and makes everything but the final name."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        tar_fd = os.open(self._folder / TAR_NAME, flags, 0o600)
        try:
            with Digester(Decompressor(read).read, out=tar_fd) as digester:
                tree = read_tree(TarReader(digester.read))
            diff_id = Digest(f"sha256:{digester.hexdigest()}")
            return self._make(tree, tar_fd, digester.size, diff_id)
        finally:
            os.close(tar_fd)

    def adopt(self, tar: Path, diff_id: Digest) -> LayerRecord:
        """As `build`, of an uncompressed tar on the same file system whose digest is known: it is renamed."""
        target = self._folder / TAR_NAME
        tar.rename(target)
        tar_fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            reader = TarReader(
                lambda count: os.read(tar_fd, count),
                skip=lambda count: _skip(tar_fd, count),
            )
            return self._make(read_tree(reader), tar_fd, os.fstat(tar_fd).st_size, diff_id)
        finally:
            os.close(tar_fd)

    def keep_tar(self, blob: Path) -> None:
        """Makes the uncompressed tar a blob too: the same file under a second name."""
        try:
            os.link(self._folder / TAR_NAME, blob)
        except FileExistsError:
            return
        sync_folder(blob.parent)

    def publish(self) -> None:
        """Gives the layer its name, durably; when the layer is already there this one is dropped."""
        if self._record is None:
            raise RuntimeError("the layer is not built")
        if self._record.driver == OVERLAY:
            (self._folder / TAR_NAME).unlink()
        write_record(self._folder, self._record)
        try:
            self._folder.rename(self._layers / self._record.key)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            return  # somebody made the same layer meanwhile
        sync_folder(self._layers)

    def close(self) -> None:
        """Removes what was not published. Idempotent."""
        remove_tree(self._folder)

    def _make(self, tree: LayerTree, tar_fd: int, tar_size: int, diff_id: Digest) -> LayerRecord:
        record = LayerRecord(
            diff_id=diff_id,
            driver=self._driver,
            size_bytes=tree.file_bytes,
            tar_size=tar_size,
            opaque_root=tree.root.opaque,
            implicit_root=tree.root.implicit,
            implicit=tuple(os.fsdecode(path) for path in tree.implicit_paths()),
        )
        if self._driver == EROFS:
            try:
                index = build_index(tree, tar_size)
            except IndexUnsupported:
                record = replace(record, driver=OVERLAY)
            else:
                record = _with_probe(record, tree, tar_fd)
                with (self._folder / INDEX_NAME).open("xb") as file:
                    write_all(file.fileno(), index)
                    os.fsync(file.fileno())
        os.fsync(tar_fd)
        if record.driver == OVERLAY:
            _unpack(self._folder, tree, tar_fd)
        self._record = record
        return record


def _unpack(folder: Path, tree: LayerTree, tar_fd: int) -> None:
    target = folder / TREE_NAME
    target.mkdir()
    root_fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_tree(tree, tar_fd, root_fd)
        syncfs(root_fd)
    finally:
        os.close(root_fd)


def published(layers: Path, diff_id: Digest) -> LayerRecord | None:
    """The record of a layer that is there."""
    folder = layers / split_digest(diff_id)[1]
    return read_record(folder) if folder.is_dir() else None


def read_tree(reader: TarReader) -> LayerTree:
    """The tree of a whole archive, and what follows it is read too. Raises TarError, LayerError."""
    tree = LayerTree()
    for entry in reader:
        tree.add(entry)
    reader.drain()
    tree.finish()
    return tree


def _skip(fd: int, count: int) -> None:
    os.lseek(fd, count, os.SEEK_CUR)


def _with_probe(record: LayerRecord, tree: LayerTree, tar_fd: int) -> LayerRecord:
    for folder in tree.directories():
        for name, node in folder.children.items():
            if stat.S_ISREG(node.mode) and node.size:
                path = folder.path + b"/" + name if folder.path else name
                head = os.pread(tar_fd, min(node.size, PROBE_SIZE), node.offset)
                digest = hashlib.sha256(head).hexdigest()
                return replace(record, probe_path=os.fsdecode(path), probe_sha256=digest)
    return record


def _reporting(growing: GrowingFile, report: Report) -> Read:
    reported = 0

    def read(count: int) -> bytes:
        nonlocal reported
        data = growing.read(count)
        if growing.position - reported >= _REPORT_EVERY:
            reported = growing.position
            report(reported)
        return data

    return read
