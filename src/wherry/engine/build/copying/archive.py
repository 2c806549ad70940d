"""ADD of an archive: its members, below the destination."""

from __future__ import annotations

import bz2
import errno
import lzma
import os
import posixpath
import stat

from wherry.engine.build.copying.target import Target, write_all
from wherry.image.layer.streams import Decompressor
from wherry.lib.archives import HEAD_BYTES, is_archive, is_tar
from wherry.lib.tar.reader import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Entry,
    TarError,
    TarReader,
)

# The decompressor imports these when it meets such an archive, which is too late once imports are forbidden.
DECOMPRESSORS = (bz2, lzma)


def unpack_if_archive(target: Target, fd: int, offset: int, size: int) -> bool:
    """Whether it is one; then what is in it goes below the destination."""
    head = os.pread(fd, HEAD_BYTES, offset)
    if not is_archive(head):
        return False
    position = offset
    end = offset + size

    def read(count: int) -> bytes:
        nonlocal position
        data = os.pread(fd, min(count, end - position), position)
        position += len(data)
        return data

    try:
        decompressor = Decompressor(read)
        reader = TarReader(decompressor.read)
        first = True
        folders: list[tuple[str, int]] = []
        for member in reader:
            if first and not member.path:
                return False
            first = False
            _unpack_member(target, reader, member, folders)
        for place, mtime_ns in reversed(folders):
            folder = target.open_directory(place)
            target.set_times(folder, mtime_ns)
            os.close(folder)
        if first and not is_tar(head):
            return False  # compressed, but nothing like a tar in it
    except (TarError, ValueError):
        if target.count:
            raise
        return False
    return True


def _unpack_member(
    target: Target, reader: TarReader, member: Entry, folders: list[tuple[str, int]]
) -> None:
    path = posixpath.normpath("/" + os.fsdecode(member.path))
    kind = member.type
    mode = member.mode & 0o7777
    uid, gid = member.uid, member.gid
    mtime_ns = member.mtime_ns
    place = posixpath.join(target.destination, path.lstrip("/"))
    target.count += 1
    if kind == DIRECTORY:
        fd = target.open_directory(place)
        try:
            if path != "/":
                target.finish_as_it_is(fd, mode, uid, gid, mtime_ns)
                folders.append((place, mtime_ns))  # set when all is in it
        finally:
            os.close(fd)
        return
    folder = target.open_directory(posixpath.dirname(place))
    name = posixpath.basename(place)
    try:
        if kind == REGULAR:
            out = target.create(folder, name)
            try:
                for piece in reader.data():
                    write_all(out, piece)
                target.finish_as_it_is(out, mode, uid, gid, mtime_ns)
                _set_xattrs(out, member.xattrs)
            finally:
                os.close(out)
        elif kind == SYMLINK:
            link = os.fsdecode(member.link)
            target.symlink(folder, name, link, uid, gid, mtime_ns)
        elif kind == HARD_LINK:
            _hard_link(target, folder, name, os.fsdecode(member.link))
        elif kind in {CHARACTER_DEVICE, BLOCK_DEVICE, FIFO}:
            target.unlink(folder, name)
            types = {
                CHARACTER_DEVICE: stat.S_IFCHR,
                BLOCK_DEVICE: stat.S_IFBLK,
                FIFO: stat.S_IFIFO,
            }
            device = os.makedev(*member.device)
            os.mknod(name, types[kind] | mode, device, dir_fd=folder)
            os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
            target.set_times(name, mtime_ns, folder)
    finally:
        os.close(folder)


def _hard_link(target: Target, folder: int, name: str, link: str) -> None:
    source = posixpath.join(target.destination, posixpath.normpath("/" + link).lstrip("/"))
    parent = target.open_directory(posixpath.dirname(source))
    try:
        target.unlink(folder, name)
        os.link(
            posixpath.basename(source),
            name,
            src_dir_fd=parent,
            dst_dir_fd=folder,
            follow_symlinks=False,
        )
    finally:
        os.close(parent)


def _set_xattrs(fd: int, xattrs: dict[bytes, bytes]) -> None:
    for key, value in xattrs.items():
        if key.startswith((b"trusted.overlay.", b"user.overlay.")):
            continue
        try:
            os.setxattr(fd, key, value)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EPERM}:
                raise
