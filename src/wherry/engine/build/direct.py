"""The worker of plain copies: a COPY from the context becomes a layer without a file being made on the way.

The root is only looked at: where the destination really is, which directories are there already. The layer's tar
is then written from the context's, and indexed. Directories that are there get no entry, so that they keep the
attributes they have. Whatever is not plain (a link where a directory goes, a file where a directory is) is left
to `copying`, which knows the rules and the sentences: the answer is then null.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from wherry.engine.build.attributes import CopyError, find_owner, folder_mode, parse_mode
from wherry.engine.build.copying.target import DIRECTORY_FLAGS, RESOLVE_INSIDE
from wherry.image.layer.build import PendingLayer
from wherry.image.layer.confine import confined
from wherry.kernel import syscalls
from wherry.kernel.consts import RESOLVE
from wherry.lib.jsonvalue import (
    JsonObject,
    JsonValue,
    get_bool,
    get_int,
    get_list,
    get_objects,
    get_str,
    get_strings,
)
from wherry.lib.tar.reader import DIRECTORY, FIFO, HARD_LINK, REGULAR, SYMLINK
from wherry.lib.tar.writer import TarWriter
from wherry.lib.worker import Report
from wherry.runtime.root import OverlayRoot, open_root

PIECE = 1 << 20
SECOND_NS = 1_000_000_000
_KINDS = {"f": REGULAR, "l": SYMLINK, "p": FIFO}


class _NotPlain(Exception):
    """The copy needs the rules of `copying`."""


class _Item:
    """One entry of the layer; its data is in `source` at `offset`, or is `data`."""

    __slots__ = (
        "data",
        "gid",
        "job",
        "kind",
        "link",
        "mode",
        "mtime_ns",
        "offset",
        "size",
        "source",
        "uid",
    )

    def __init__(self, kind: int, mode: int, owner: tuple[int, int], mtime_ns: int) -> None:
        self.kind = kind
        self.mode = mode
        self.uid, self.gid = owner
        self.mtime_ns = mtime_ns
        self.size = 0
        self.link = b""
        self.job = self.source = -1
        self.offset = 0
        self.data = b""

    def inode(self) -> tuple[int, ...]:
        """The same for two names of one file of the context, as one COPY has them."""
        attributes = (self.mode, self.uid, self.gid, self.mtime_ns)
        return (
            (self.job, self.source, self.offset, *attributes) if self.source >= 0 else (id(self),)
        )


@confined
def copy_as_layer(request: JsonObject, report: Report) -> JsonValue:
    """The record of the layer, false when nothing is in it, null when the copy is not plain."""
    del report
    plan = _Plan(request)
    try:
        for job in get_objects(request, "jobs"):
            plan.add(job)
        if not plan.items:
            return False
        return plan.build()
    except (_NotPlain, CopyError):
        return None
    finally:
        plan.close()


class _Plan:
    """What the layer will hold, by path."""

    def __init__(self, request: JsonObject) -> None:
        self.items: dict[str, _Item] = {}
        self._request = request
        self._root = open_root(OverlayRoot(get_strings(request, "lowers")))
        self._sources: dict[str, int] = {}
        self._new: set[str] = set()
        self._job = 0
        self._destination = get_str(request, "destination")
        self._parents = get_bool(request, "parents")
        epoch = get_int(request, "epoch", -1)
        self._epoch = epoch if epoch >= 0 else None
        self._now = int(time.time()) if epoch < 0 else epoch
        uid, gid = find_owner(self._root, get_str(request, "chown"))
        self._owner = (uid or 0, gid or 0)
        self._change_mode = parse_mode(get_str(request, "chmod"))
        self._folder_mode = folder_mode(get_str(request, "chmod"))

    def close(self) -> None:
        """Closes all descriptors."""
        os.close(self._root)
        for fd in self._sources.values():
            os.close(fd)

    # ---- looking

    def _kind(self, path: str) -> str:
        """What a path without links on its way is: "d", "l", "f", or empty when it is not there."""
        if path in self._new:
            return "d"
        if path in self.items:
            return "l" if self.items[path].kind == SYMLINK else "f"
        if posixpath.dirname(path) in self._new:
            return ""
        try:
            fd = syscalls.openat2(
                self._root,
                os.fsencode(path or "."),
                os.O_PATH | os.O_NOFOLLOW,
                resolve=RESOLVE.NO_SYMLINKS | RESOLVE.BENEATH,
            )
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                return ""
            raise _NotPlain from error
        mode = os.fstat(fd).st_mode
        os.close(fd)
        return "d" if stat.S_ISDIR(mode) else "l" if stat.S_ISLNK(mode) else "f"

    def _find_folder(self, path: str) -> str:
        """Where a directory really is, made with its parents when it is not there."""
        clean = posixpath.normpath("/" + path).lstrip("/")
        if clean in self._new:
            return clean
        try:
            fd = syscalls.openat2(
                self._root, os.fsencode(clean or "."), DIRECTORY_FLAGS, resolve=RESOLVE_INSIDE
            )
        except FileNotFoundError:
            parent = self._find_folder(posixpath.dirname(clean))
            real = posixpath.join(parent, posixpath.basename(clean))
            if self._kind(real):
                raise _NotPlain from None
            self._make(real, self._folder_mode, self._now * SECOND_NS)
            return real
        except OSError as error:
            raise _NotPlain from error
        try:
            return os.readlink(f"/proc/self/fd/{fd}").lstrip("/")
        finally:
            os.close(fd)

    def _is_folder(self, path: str) -> bool:
        try:
            fd = syscalls.openat2(
                self._root,
                os.fsencode(path.strip("/") or "."),
                os.O_PATH | os.O_DIRECTORY,
                resolve=RESOLVE_INSIDE,
            )
        except OSError:
            return posixpath.normpath("/" + path).lstrip("/") in self._new
        os.close(fd)
        return True

    # ---- adding

    def _make(self, path: str, mode: int, mtime_ns: int) -> None:
        self._new.add(path)
        self.items[path] = _Item(DIRECTORY, mode, self._owner, self._time(mtime_ns))

    def _time(self, mtime_ns: int) -> int:
        seconds = mtime_ns // SECOND_NS
        return (seconds if self._epoch is None else min(seconds, self._epoch)) * SECOND_NS

    def _mode(self, mode: int, *, is_directory: bool) -> int:
        return mode if self._change_mode is None else self._change_mode(mode, is_directory)

    def add(self, job: JsonObject) -> None:
        """One source."""
        self._job += 1
        name = get_str(job, "name")
        if get_str(job, "kind") == "inline":
            data = os.fsencode(get_str(job, "content"))
            item = _Item(
                REGULAR,
                self._mode(0o644, is_directory=False),
                self._owner,
                self._time(get_int(job, "mtime")),
            )
            item.data, item.size = data, len(data)
            self._put(self._target(name, ""), item)
            return
        source = self._open(get_str(job, "tar"))
        rows = get_list(job, "entries")
        first = _row(rows[0])
        if first[1] != "d":
            self._put_row(self._target(name, get_str(job, "parent")), source, first)
            return
        base = self._destination
        if self._parents:
            base = posixpath.join(base, get_str(job, "parent"), name)
        folder = self._find_folder(base)
        for raw in rows[1:]:
            row = _row(raw)
            self._put_row(posixpath.join(folder, row[0]), source, row)
        if folder in self._new and first[6] > 0:
            self.items[folder].mtime_ns = self._time(first[6])

    def _target(self, name: str, parent: str) -> str:
        """The path of a file."""
        destination = self._destination
        if self._parents:
            return posixpath.join(self._find_folder(posixpath.join(destination, parent)), name)
        if destination.endswith("/") or self._is_folder(destination):
            return posixpath.join(self._find_folder(destination), name)
        folder = self._find_folder(posixpath.dirname(destination) or "/")
        return posixpath.join(folder, posixpath.basename(destination))

    def _open(self, path: str) -> int:
        if path not in self._sources:
            self._sources[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._sources[path]

    def _put_row(
        self, path: str, source: int, row: tuple[str, str, int, int, str, int, int]
    ) -> None:
        _, kind, mode, size, link, offset, mtime_ns = row
        if kind == "d":
            there = self._kind(path)
            if there == "":
                self._make(path, self._mode(mode, is_directory=True), mtime_ns)
            elif there != "d":
                raise _NotPlain
            return
        item = _Item(_KINDS[kind], 0o777, self._owner, self._time(mtime_ns))
        if kind == "l":
            item.link = os.fsencode(link)
        else:
            item.mode = self._mode(mode, is_directory=False)
        if kind == "f":
            item.source, item.offset, item.size = source, offset, size
            item.job = self._job
        self._put(path, item)

    def _put(self, path: str, item: _Item) -> None:
        if self._kind(path) == "d":
            raise _NotPlain
        self.items[path] = item

    # ---- writing

    def build(self) -> JsonObject:
        """Writes and publishes the layer; answers its record."""
        pending = PendingLayer(
            Path(get_str(self._request, "layers")),
            get_str(self._request, "driver"),
            get_str(self._request, "token"),
        )
        reader, writer = os.pipe2(os.O_CLOEXEC)
        failures: list[BaseException] = []
        thread = threading.Thread(target=self._write, args=(writer, failures))
        thread.start()
        try:
            record = pending.build(lambda count: os.read(reader, count))
            thread.join()
            if failures:
                raise failures[0]
            pending.keep_tar(Path(get_str(self._request, "blobs")) / record.key)
            pending.publish()
        finally:
            os.close(reader)
            thread.join()
            pending.close()
        return record.to_json()

    def _write(self, fd: int, failures: list[BaseException]) -> None:
        try:
            with os.fdopen(fd, "wb", buffering=PIECE) as out:
                writer = TarWriter(out.write)
                names: dict[tuple[int, ...], str] = {}
                for path in sorted(self.items, key=lambda path: path.split("/")):
                    item = self.items[path]
                    first = names.setdefault(item.inode(), path) if item.size else path
                    if first == path:
                        _write_item(writer, os.fsencode(path), item)
                    else:
                        writer.member(os.fsencode(path), kind=HARD_LINK, link=os.fsencode(first))
                writer.close()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            failures.append(error)


def _write_item(writer: TarWriter, path: bytes, item: _Item) -> None:
    writer.member(
        path,
        kind=item.kind,
        mode=item.mode,
        uid=item.uid,
        gid=item.gid,
        mtime_ns=item.mtime_ns,
        size=item.size,
        link=item.link,
    )
    if item.source >= 0:
        writer.data(_pieces(item))
    elif item.data:
        writer.data((item.data,))


def _pieces(item: _Item) -> Iterator[bytes]:
    position, left = item.offset, item.size
    while left:
        data = os.pread(item.source, min(left, PIECE), position)
        if not data:
            raise CopyError("the build context changed while it was read")
        position += len(data)
        left -= len(data)
        yield data


def _row(value: JsonValue) -> tuple[str, str, int, int, str, int, int]:
    if not isinstance(value, list):
        raise TypeError("an entry is not a row")
    path, kind, mode, size, link, offset, mtime_ns = value
    numbers = [number for number in (mode, size, offset, mtime_ns) if isinstance(number, int)]
    if len(numbers) != 4:
        raise TypeError("an entry has no numbers")
    return str(path), str(kind), numbers[0], numbers[1], str(link), numbers[2], numbers[3]
