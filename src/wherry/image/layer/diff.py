"""From directories to archives, in a worker: a snapshot's changes as a layer, a merged root as an export.

The layer's form is OCI's (image-spec "layer.md"), its entries and their order those of Docker's commit,
so that the same changes give the same digest: no entry for the root, names sorted, a whiteout in the
place of what it hides. What an archive cannot hold (sockets) is left out, as there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from wherry.image.layer.build import PendingLayer
from wherry.image.layer.confine import confined
from wherry.image.layer.merged import Entry, Folder, open_stack
from wherry.image.layer.streams import PIECE, Digester
from wherry.image.layer.writing import Buffered, write_all
from wherry.lib.jsonvalue import (
    JsonObject,
    JsonValue,
    get_int,
    get_objects,
    get_str,
    get_strings,
)
from wherry.lib.tar.reader import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
)
from wherry.lib.tar.writer import TarWriter, Write
from wherry.lib.worker import Report
from wherry.model.digest import Digest

_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER_DEVICE,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
Change = tuple[str, str, int]

_SECOND_NS = 1_000_000_000
_WHITEOUT_MODE = 0o600
_OPAQUE_MODE = 0o755


@confined
def commit(request: JsonObject, report: Report) -> JsonValue:
    """Makes a layer of the upper directory `upper`; returns its record, or null when nothing changed."""
    del report
    pending = PendingLayer(Path(get_str(request, "layers")), get_str(request, "driver"))
    tar = Path(get_str(request, "tar"))
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        out = os.open(tar, flags, 0o600)
        try:
            with Digester(lambda _: b"", out=out) as digester:
                writer = _Archiver(digester.write)
                with open_stack([get_str(request, "upper")]) as root:
                    writer.add_changes(root)
                writer.close()
            diff_id = Digest(f"sha256:{digester.hexdigest()}")
        finally:
            os.close(out)
        if not writer.members:
            return None
        record = pending.adopt(tar, diff_id)
        pending.keep_tar(Path(get_str(request, "blobs")) / record.key)
        pending.publish()
    finally:
        pending.close()
        tar.unlink(missing_ok=True)
    return record.to_json()


def export(arguments: JsonValue, report: Report) -> JsonValue:
    """Writes the merged view of each of `roots` ({trees, and prefix of names}) as one tar to descriptor `output`."""
    del report
    request = _object(arguments)
    output = get_int(request, "output", -1)
    writer = _Archiver(lambda data: write_all(output, data))
    for root in get_objects(request, "roots"):
        with open_stack(get_strings(root, "trees")) as folder:
            writer.add_tree(folder, os.fsencode(get_str(root, "prefix")))
    writer.close()
    return None


def changes(arguments: JsonValue, report: Report) -> JsonValue:
    """What `upper` changes of the merged view of `trees`: a list of [kind, path, size], kind one of C, A, D."""
    del report
    request = _object(arguments)
    found: list[Change] = []
    with (
        open_stack([get_str(request, "upper")]) as upper,
        open_stack(get_strings(request, "trees")) as lower,
    ):
        _compare(upper, lower, b"", found)
    return [[kind, path, size] for kind, path, size in found]


def usage(arguments: JsonValue, report: Report) -> JsonValue:
    """The bytes that the files and symlinks of directory `upper` hold, hard links counted once."""
    del report
    total = 0
    seen: set[tuple[int, int]] = set()
    with open_stack([get_str(_object(arguments), "upper")]) as root:
        for entry in _walk(root):
            status = entry.status
            if stat.S_ISDIR(status.st_mode):
                continue
            if status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_size
    return total


def _walk(folder: Folder) -> Iterator[Entry]:
    for entry in folder.entries():
        yield entry
        if entry.is_folder and (below := entry.open_folder()) is not None:
            with below:
                yield from _walk(below)


class _Archiver:
    """A tar of directories; remembers inodes for hard links."""

    def __init__(self, write: Write) -> None:
        self._buffer = Buffered(write)
        self._writer = TarWriter(self._buffer.write)
        self._first_names: dict[tuple[int, int, int], bytes] = {}
        self.members = 0

    def close(self) -> None:
        self._writer.close()
        self._buffer.flush()

    def add_tree(self, folder: Folder, path: bytes = b"") -> None:
        """Everything in a merged directory."""
        for entry in folder.entries():
            self._add(entry, path + entry.name)
            if entry.is_folder and (below := entry.open_folder()) is not None:
                with below:
                    self.add_tree(below, path + entry.name + b"/")

    def add_changes(self, folder: Folder, path: bytes = b"") -> None:
        """Everything in an upper directory, whiteouts in OCI's form."""
        if folder.is_opaque():
            self._mark(path + b".wh..wh..opq", _OPAQUE_MODE, 0)
        for entry in folder.entries(raw=True):
            if entry.is_whiteout:
                self._mark(path + b".wh." + entry.name, _WHITEOUT_MODE, _whole_seconds(entry))
                continue
            self._add(entry, path + entry.name)
            if entry.is_folder and (below := entry.open_folder()) is not None:
                with below:
                    self.add_changes(below, path + entry.name + b"/")

    def _mark(self, path: bytes, mode: int, mtime_ns: int) -> None:
        self._writer.member(path, mode=mode, mtime_ns=mtime_ns)
        self.members += 1

    def _add(self, entry: Entry, path: bytes) -> None:
        status = entry.status
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return  # a socket
        link, size, fd = b"", 0, None
        device = (0, 0)
        if status.st_nlink > 1 and kind != DIRECTORY:
            key = (entry.tree, status.st_dev, status.st_ino)
            first = self._first_names.setdefault(key, path)
            if first is not path:
                kind, link = HARD_LINK, first
        if kind == REGULAR:
            fd = entry.open_file()
            if fd is None:
                return
            status = os.fstat(fd)
            size = status.st_size
        elif kind == SYMLINK:
            link = entry.read_link()
            if not link:
                return
        elif kind in {CHARACTER_DEVICE, BLOCK_DEVICE}:
            device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        try:
            self._writer.member(
                path,
                kind=kind,
                mode=stat.S_IMODE(status.st_mode),
                uid=status.st_uid,
                gid=status.st_gid,
                mtime_ns=status.st_mtime_ns // _SECOND_NS * _SECOND_NS,
                size=size,
                link=link,
                device=device,
                xattrs=entry.xattrs() if kind != HARD_LINK else None,
            )
            self.members += 1
            if fd is not None:
                self._writer.data(_pieces(fd, size))
        finally:
            if fd is not None:
                os.close(fd)


def _pieces(fd: int, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file that may grow or shrink meanwhile."""
    while size:
        piece = os.read(fd, min(size, PIECE))
        if not piece:
            return
        size -= len(piece)
        yield piece


def _whole_seconds(entry: Entry) -> int:
    return entry.status.st_mtime_ns // _SECOND_NS * _SECOND_NS


def _compare(upper: Folder, lower: Folder | None, path: bytes, found: list[Change]) -> None:
    """Docker's `diff`: an upper directory against the merged one below it."""
    names: set[bytes] = set()
    for entry in upper.entries(raw=True):
        names.add(entry.name)
        name = path + b"/" + entry.name
        below = lower.find(entry.name) if lower is not None else None
        if entry.is_whiteout:
            if below is not None:
                found.append(("D", os.fsdecode(name), below.size))
            continue
        at = len(found)
        if entry.is_folder and (folder := entry.open_folder()) is not None:
            with folder:
                under = below.open_folder() if below is not None and below.is_folder else None
                try:
                    _compare(folder, under, name, found)
                finally:
                    if under is not None:
                        under.close()
        if below is None:
            found.insert(at, ("A", os.fsdecode(name), entry.size))
        elif len(found) > at or _differs(entry, below):
            found.insert(at, ("C", os.fsdecode(name), entry.size))
    if lower is not None and upper.is_opaque():
        found.extend(
            ("D", os.fsdecode(path + b"/" + entry.name), entry.size)
            for entry in lower.entries()
            if entry.name not in names
        )


def _differs(one: Entry, other: Entry) -> bool:
    a, b = one.status, other.status
    if (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) != (b.st_mode, b.st_uid, b.st_gid, b.st_rdev):
        return True
    if stat.S_ISDIR(a.st_mode):
        return _capability(one) != _capability(other)
    return (
        a.st_size != b.st_size
        or not _same_time(a.st_mtime_ns, b.st_mtime_ns)
        or _capability(one) != _capability(other)
    )


def _same_time(a: int, b: int) -> bool:
    """Equal, or equal in seconds when one of them holds no more (archives often do not)."""
    return a == b or (
        a // _SECOND_NS == b // _SECOND_NS and not (a % _SECOND_NS and b % _SECOND_NS)
    )


def _capability(entry: Entry) -> bytes:
    return entry.xattrs().get(b"security.capability", b"")


def _object(arguments: JsonValue) -> JsonObject:
    if not isinstance(arguments, dict):
        raise TypeError("the arguments are not an object")
    return arguments
