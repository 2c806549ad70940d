"""Tar streams for cp and build: packing a tree of this machine, unpacking into one.

Unpacking trusts nothing of the archive: every name is walked from the target's descriptor without
following links, so that no entry, link or `..` leads out of it.
"""

from __future__ import annotations

import os
import stat
import tarfile

from wherry.cli.errors import CommandFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BLOCK = 512
CHUNK = 1 << 18


def pack(
    source: str,
    name: str,
    *,
    keep: Callable[[str, bool], tuple[bool, bool]] | None = None,
    owner: tuple[int, int] | None = None,
    inodes: dict[tuple[int, int], str] | None = None,
    with_end: bool = True,
) -> Iterator[bytes]:
    """A tar stream of a file or tree, its top called `name`.

    `keep` says for a path below the top (empty for the top itself; and whether it is a folder) if
    it goes in, and if what is below it may. Archives made of several calls share `inodes` and have
    their end from the caller.
    """
    yield from _pack_tree(source, name, "", {} if inodes is None else inodes, keep, owner)
    if with_end:
        yield bytes(2 * BLOCK)


def _pack_tree(
    source: str,
    name: str,
    inside: str,
    inodes: dict[tuple[int, int], str],
    keep: Callable[[str, bool], tuple[bool, bool]] | None,
    owner: tuple[int, int] | None,
) -> Iterator[bytes]:
    try:
        status = os.lstat(source)
    except FileNotFoundError:
        if not inside:
            raise
        return
    is_folder = stat.S_ISDIR(status.st_mode)
    wanted, below = keep(inside, is_folder) if keep is not None else (True, True)
    if wanted:
        yield from pack_entry(source, name, status, inodes, owner)
    if not is_folder or not below:
        return
    for entry in sorted(os.listdir(source)):
        yield from _pack_tree(
            os.path.join(source, entry),
            f"{name}/{entry}" if name else entry,
            f"{inside}/{entry}" if inside else entry,
            inodes,
            keep,
            owner,
        )


def pack_entry(
    source: str,
    name: str,
    status: os.stat_result,
    inodes: dict[tuple[int, int], str],
    owner: tuple[int, int] | None,
) -> Iterator[bytes]:
    """One entry; a file that `inodes` knows becomes a hard link."""
    info = tarfile.TarInfo(name or ".")
    info.mode = stat.S_IMODE(status.st_mode)
    info.uid, info.gid = owner or (status.st_uid, status.st_gid)
    info.mtime = int(status.st_mtime)
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(mode):
        info.type = tarfile.SYMTYPE
        info.linkname = os.readlink(source)
    elif stat.S_ISREG(mode):
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in inodes:
            info.type = tarfile.LNKTYPE
            info.linkname = inodes[key]
        else:
            inodes[key] = name
            info.size = status.st_size
    elif stat.S_ISFIFO(mode):
        info.type = tarfile.FIFOTYPE
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        info.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    else:
        # A socket has no place in an archive.
        return
    attributes = _capability_of(source) if info.isreg() else {}
    info.pax_headers = attributes
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    if info.isreg() and info.size:
        yield from _read_exactly(source, info.size)


def _capability_of(source: str) -> dict[str, str]:
    try:
        value = os.getxattr(source, "security.capability", follow_symlinks=False)
    except OSError:
        return {}
    return {"SCHILY.xattr.security.capability": str(value, "latin-1")}


def _read_exactly(source: str, size: int) -> Iterator[bytes]:
    """`size` bytes of a file, padded to a block, also if the file changes meanwhile."""
    left = size
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        while left:
            piece = os.read(fd, min(left, CHUNK))
            if not piece:
                yield bytes(left)
                break
            left -= len(piece)
            yield piece
    finally:
        os.close(fd)
    if size % BLOCK:
        yield bytes(BLOCK - size % BLOCK)


class ChunkReader:
    """A stream of chunks as the file that tarfile wants to read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = b""
        self.total = 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end."""
        parts = [self._buffer]
        have = len(self._buffer)
        while have < size:
            piece = next(self._chunks, b"")
            if not piece:
                break
            self.total += len(piece)
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        self._buffer = data[size:]
        return data[:size]


def rename_top(name: str, old: str, new: str) -> str:
    """The name of an entry when the archive's top is called `new` instead of `old`."""
    if old == "/":
        old = ""
    return name.replace(old, new, 1)


def unpack(chunks: Iterable[bytes], folder: str, *, rename: tuple[str, str] | None = None) -> int:
    """Extracts a tar stream into a folder as the current user; gives the bytes that were read."""
    reader = ChunkReader(chunks)
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    folders: list[tuple[str, int, float]] = []
    try:
        # The reader has the one method that a stream needs.
        with tarfile.open(fileobj=reader, mode="r|") as archive:  # type: ignore[call-overload]
            for info in archive:
                name = rename_top(info.name, *rename) if rename else info.name
                _extract(archive, info, name, top, folders, rename)
        for name, mode, mtime in reversed(folders):
            _finish_folder(top, name, mode, mtime)
    finally:
        os.close(top)
    # What follows the end of the archive belongs to it.
    while reader.read(CHUNK):
        pass
    return reader.total


def _split(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise CommandFailed(f"refused entry of the archive that leads out of it: {name}")
    return parts


def _open_parent(top: int, parts: list[str]) -> int:
    """The folder that holds the entry, made if it is missing; never through a link."""
    current = os.dup(top)
    for part in parts[:-1]:
        try:
            following = os.open(
                part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current
            )
        except FileNotFoundError:
            os.mkdir(part, 0o777, dir_fd=current)
            following = os.open(
                part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current
            )
        finally:
            os.close(current)
        current = following
    return current


def _extract(
    archive: tarfile.TarFile,
    info: tarfile.TarInfo,
    name: str,
    top: int,
    folders: list[tuple[str, int, float]],
    rename: tuple[str, str] | None,
) -> None:
    parts = _split(name)
    if not parts:
        return
    parent = _open_parent(top, parts)
    last = parts[-1]
    try:
        mode = info.mode & 0o7777
        if info.isdir():
            if not _is_folder(parent, last):
                _remove(parent, last, name)
                os.mkdir(last, 0o700, dir_fd=parent)
            folders.append((name, mode, info.mtime))
            return
        if _is_folder(parent, last):
            raise CommandFailed(f'cannot overwrite directory "{name}" with non-directory')
        _remove(parent, last, name)
        if info.issym():
            os.symlink(info.linkname, last, dir_fd=parent)
        elif info.islnk():
            target = rename_top(info.linkname, *rename) if rename else info.linkname
            _link(top, target, parent, last)
        elif info.isreg():
            _write_file(archive, info, parent, last, mode)
        elif info.isfifo():
            os.mkfifo(last, mode, dir_fd=parent)
        elif info.ischr() or info.isblk():
            kind = stat.S_IFCHR if info.ischr() else stat.S_IFBLK
            os.mknod(last, kind | mode, os.makedev(info.devmajor, info.devminor), dir_fd=parent)
        os.utime(last, (info.mtime, info.mtime), dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def _is_folder(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _remove(parent: int, last: str, name: str) -> None:
    try:
        os.unlink(last, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError as exc:
        raise CommandFailed(f'cannot overwrite directory "{name}" with non-directory') from exc


def _link(top: int, target: str, parent: int, last: str) -> None:
    parts = _split(target)
    source = _open_parent(top, parts)
    try:
        os.link(parts[-1], last, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(source)


def _write_file(
    archive: tarfile.TarFile, info: tarfile.TarInfo, parent: int, last: str, mode: int
) -> None:
    content = archive.extractfile(info)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(last, flags, 0o600, dir_fd=parent)
    try:
        while content is not None and (piece := content.read(CHUNK)):
            os.write(fd, piece)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _finish_folder(top: int, name: str, mode: int, mtime: float) -> None:
    parts = _split(name)
    parent = _open_parent(top, parts)
    try:
        fd = os.open(
            parts[-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
        )
        try:
            os.fchmod(fd, mode)
            os.utime(fd, (mtime, mtime))
        finally:
            os.close(fd)
    finally:
        os.close(parent)
