"""COPY from a context: entries of the tar that a client sent, as the engine has indexed them."""

from __future__ import annotations

import os
import posixpath
from collections import Counter

from wherry.engine.build.attributes import CopyError
from wherry.engine.build.copying.archive import unpack_if_archive
from wherry.engine.build.copying.target import Links, Target
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_bool, get_list, get_str


def copy_from_tar(target: Target, job: JsonObject) -> None:
    """One file or folder of the context, with all below it."""
    rows = get_list(job, "entries")
    tar = os.open(get_str(job, "tar"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        first = _Row(rows[0])
        is_file = get_bool(job, "unpack") and first.kind == "f"
        if is_file and unpack_if_archive(target, tar, first.offset, first.size):
            return
        folder, name = target.place(
            get_str(job, "name"),
            is_directory=first.kind == "d",
            parent_path=get_str(job, "parent"),
        )
        try:
            if first.kind != "d":
                _put_row(target, tar, folder, name, first)
            else:
                links = Links(target)
                try:
                    _put_rows(target, tar, folder, [_Row(row) for row in rows], links)
                finally:
                    links.forget()
                if first.mtime_ns > 0:
                    target.set_times(folder, first.mtime_ns)
        finally:
            target.release(folder)
    finally:
        os.close(tar)


def _put_rows(target: Target, tar: int, folder: int, rows: list[_Row], links: Links) -> None:
    """Entries below a directory, parents first; directories get their times when all is in them."""
    open_folders: dict[str, int] = {"": folder}
    finished: list[tuple[str, _Row]] = []
    names = Counter(row.offset for row in rows if row.kind == "f" and row.size)
    try:
        for row in rows[1:]:
            parent, name = posixpath.split(row.path)
            below = _folder_of(target, open_folders, parent)
            if row.kind == "d":
                fd, created = target.make_directory(below, name)
                open_folders[row.path] = fd
                if created:
                    finished.append((row.path, row))
            else:
                _put_row(target, tar, below, name, row, links if names[row.offset] > 1 else None)
            if len(open_folders) > 500:
                _close_folders(target, open_folders, finished, keep=row.path)
        _close_folders(target, open_folders, finished, keep=None)
    finally:
        for path, fd in open_folders.items():
            if path:
                target.release(fd)


def _folder_of(target: Target, open_folders: dict[str, int], path: str) -> int:
    fd = open_folders.get(path)
    if fd is None:
        parent, name = posixpath.split(path)
        fd, _ = target.make_directory(_folder_of(target, open_folders, parent), name)
        open_folders[path] = fd
    return fd


def _close_folders(
    target: Target, open_folders: dict[str, int], finished: list[tuple[str, _Row]], keep: str | None
) -> None:
    for path, row in reversed(finished):
        if keep is not None and (keep == path or keep.startswith(path + "/")):
            continue
        fd = open_folders.get(path)
        if fd is not None:
            target.finish(fd, row.mode, 0, 0, row.mtime_ns, is_directory=True)
    done = {
        path
        for path in open_folders
        if path and (keep is None or not (keep == path or keep.startswith(path + "/")))
    }
    finished[:] = [pair for pair in finished if pair[0] not in done]
    for path in done:
        target.release(open_folders.pop(path))


def _put_row(
    target: Target, tar: int, folder: int, name: str, row: _Row, links: Links | None = None
) -> None:
    """Anything but a folder; a file with other names in the tar has `links`."""
    target.count += 1
    if row.kind == "l":
        target.symlink(folder, name, row.link, 0, 0, row.mtime_ns)
        return
    if row.kind == "p":
        target.unlink(folder, name)
        os.mkfifo(name, 0o600, dir_fd=folder)
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)
        try:
            target.finish(fd, row.mode, 0, 0, row.mtime_ns)
        finally:
            os.close(fd)
        return
    if links is not None and links.make(row.offset, folder, name) is not None:
        return
    fd = target.create(folder, name)
    try:
        if links is not None:
            links.remember(row.offset, fd, row.path)
        transfer(tar, fd, row.offset, row.size)
        target.finish(fd, row.mode, 0, 0, row.mtime_ns)
    finally:
        os.close(fd)


def transfer(source: int, target: int, offset: int, size: int) -> None:
    """Bytes from one file to another. Raises CopyError when there are fewer."""
    while size:
        done = os.sendfile(target, source, offset, size)
        if not done:
            raise CopyError("the build context changed while it was read")
        offset += done
        size -= done


class _Row:
    """One entry of a context's tar, as the engine sends it."""

    __slots__ = ("kind", "link", "mode", "mtime_ns", "offset", "path", "size")

    def __init__(self, row: JsonValue) -> None:
        if not isinstance(row, list):
            raise TypeError("an entry is not a row")
        self.path = str(row[0])
        self.kind = str(row[1])
        self.mode = _int(row[2])
        self.size = _int(row[3])
        self.link = str(row[4])
        self.offset = _int(row[5])
        self.mtime_ns = _int(row[6])


def _int(value: JsonValue) -> int:
    if not isinstance(value, int):
        raise TypeError("not an integer")
    return value
