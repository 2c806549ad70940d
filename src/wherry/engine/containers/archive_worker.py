"""Files inside a container's root, in a worker: look at a path, read a tree as tar, unpack a tar into a folder.

The root is a descriptor: of a running container's own root, or of a mount made here, in a mount
namespace of this worker's own, for one that is stopped. Every path is resolved by the kernel below that descriptor
(openat2 with RESOLVE_IN_ROOT, no magic links): nothing in an image or archive can point out of it. All
that is imported is imported here, before an untrusted root is opened (pitfall 1).
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wherry.image.layer.streams import Decompressor
from wherry.kernel import syscalls
from wherry.kernel.consts import AT, AT_FDCWD, CLONE, MOUNT_ATTR, MOVE_MOUNT, MS, OPEN_TREE, RESOLVE
from wherry.lib.jsonvalue import (
    JsonObject,
    JsonValue,
    get_bool,
    get_int,
    get_object,
    get_objects,
    get_str,
    get_strings,
)
from wherry.lib.regular import open_regular
from wherry.lib.tar.reader import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Entry,
    TarReader,
)
from wherry.lib.tar.writer import TarWriter
from wherry.lib.worker import forbid_imports
from wherry.runtime.root import OverlayRoot, open_root

_RESOLVE = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
_ONTO = MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH
_CHUNK = 1 << 18
_NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW

# Go's os.FileMode bits (src/io/fs/fs.go).
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: (1 << 26) | (1 << 21),
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_FLAGS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}
_TAR_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFCHR: CHARACTER_DEVICE,
    stat.S_IFIFO: FIFO,
}


# linux/magic.h: proc, sysfs, cgroup, cgroup2, devpts, mqueue, tmpfs. Docker's view of a container's files has
# its volumes, and none of what is mounted there only while it runs.
_NOT_ARCHIVED = frozenset(
    {0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x1CD1, 0x19800202, 0x01021994}
)


class NotFolder(Exception):
    """The place to unpack into is not a directory."""


class Overwrite(Exception):
    """A directory would replace something else, or the other way round, and that was forbidden."""


def stat_path(arguments: JsonObject, report: object = None) -> JsonValue:
    """The worker's function behind HEAD …/archive. Raises FileNotFoundError, NotADirectoryError."""
    del report
    with _open(get_object(arguments, "root")) as root:
        return describe(root, get_str(arguments, "path"))


def read_path(arguments: JsonObject, report: object = None) -> JsonValue:
    """Writes the tar to the descriptor `output`."""
    del report
    output = get_int(arguments, "output", -1)
    with _open(get_object(arguments, "root")) as root:
        write_tree(root, get_str(arguments, "path"), lambda data: _write_all(output, data))
    os.close(output)
    return None


def write_path(arguments: JsonObject, report: object = None) -> JsonValue:
    """Unpacks the tar from the descriptor `input`. Raises NotFolder, Overwrite, TarError and OSError."""
    del report
    stream = open(get_int(arguments, "input", -1), "rb")
    # What it is packed with is found before the root is opened: the decompressor may have to be imported.
    archive = Decompressor(stream.read)
    with stream, _open(get_object(arguments, "root")) as root:
        unpack = _Unpacking(
            root,
            get_str(arguments, "path"),
            keep_kinds=get_bool(arguments, "no_overwrite_dir_non_dir"),
            owner=get_int(arguments, "owner", -1),
        )
        unpack.run(archive.read)
    return None


@contextmanager
def _open(spec: JsonObject) -> Iterator[int]:
    fd = get_int(spec, "fd", -1)
    if fd < 0:
        fd = _mount(spec)
    forbid_imports()
    try:
        yield fd
    finally:
        os.close(fd)


def _mount(spec: JsonObject) -> int:
    """The stopped container's root with its binds and volumes, where nobody else sees it."""
    syscalls.unshare(CLONE.NEWNS)
    syscalls.mount(None, b"/", None, MS.REC | MS.PRIVATE)
    overlay = OverlayRoot(
        get_strings(spec, "lowers"), get_str(spec, "upper"), get_str(spec, "work")
    )
    root = open_root(overlay)
    scratch = os.fsencode(get_str(spec, "scratch"))
    os.makedirs(scratch, mode=0o700, exist_ok=True)
    syscalls.move_mount(root, b"", AT_FDCWD, scratch, MOVE_MOUNT.F_EMPTY_PATH)
    for mount in get_objects(spec, "mounts"):
        _bind(root, mount)
    _make_working_dir(root, get_str(spec, "working_dir"))
    return root


def _make_working_dir(root: int, path: str) -> None:
    """As the first start will; what is in the way there is that start's to say."""
    try:
        os.close(ensure_folder(root, path))
    except OSError:
        return


def _bind(root: int, mount: JsonObject) -> None:
    source = os.fsencode(get_str(mount, "source"))
    destination = get_str(mount, "destination")
    try:
        target = _open_place(root, destination, is_folder=os.path.isdir(source))
    except OSError:
        return  # what is in the way there keeps the container from starting, too
    try:
        fd = syscalls.open_tree(AT_FDCWD, source, OPEN_TREE.CLONE | AT.RECURSIVE)
        try:
            if not get_bool(mount, "writable"):
                syscalls.mount_setattr(
                    fd, b"", AT.EMPTY_PATH | AT.RECURSIVE, attr_set=MOUNT_ATTR.RDONLY
                )
            syscalls.move_mount(fd, b"", target, b"", _ONTO)
        finally:
            os.close(fd)
    except OSError as exc:
        if exc.errno not in {errno.ENOENT, errno.ENOTDIR}:
            raise
    finally:
        os.close(target)


def _open_place(root: int, path: str, *, is_folder: bool) -> int:
    """Where something is mounted; made when it is not there, as a start would."""
    try:
        return syscalls.openat2(root, _below(path), os.O_PATH, resolve=_RESOLVE)
    except FileNotFoundError:
        if is_folder:
            return ensure_folder(root, path)
    folder = ensure_folder(root, posixpath.dirname(path))
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW
        return os.open(posixpath.basename(path), flags, 0o755, dir_fd=folder)
    finally:
        os.close(folder)


def _below(path: str) -> bytes:
    return os.fsencode(path.lstrip("/") or ".")


def open_folder(root: int, path: str) -> int:
    """A folder inside the root. Raises OSError."""
    return syscalls.openat2(root, _below(path), os.O_RDONLY | os.O_DIRECTORY, resolve=_RESOLVE)


def ensure_folder(root: int, path: str) -> int:
    """As `open_folder`, made with those above it when it is not there."""
    try:
        return open_folder(root, path)
    except FileNotFoundError:
        above = ensure_folder(root, posixpath.dirname(path))
    try:
        os.mkdir(posixpath.basename(path), 0o755, dir_fd=above)
    finally:
        os.close(above)
    return open_folder(root, path)


def describe(root: int, path: str) -> JsonObject:
    """Docker's stat of a path: the last part's link is not followed, unless a slash or dot ends it."""
    folder, name = open_parent(root, path)
    try:
        status = os.stat(name or ".", dir_fd=folder, follow_symlinks=False)
        link = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else ""
    finally:
        os.close(folder)
    return {
        "name": base_name(path),
        "size": status.st_size,
        "mode": go_mode(status.st_mode),
        "mtime_ns": status.st_mtime_ns,
        "link_target": link,
    }


def go_mode(mode: int) -> int:
    """st_mode as Go's os.FileMode."""
    bits = mode & 0o777 | _GO_KINDS.get(stat.S_IFMT(mode), 0)
    for flag, go_flag in _GO_FLAGS.items():
        if mode & flag:
            bits |= go_flag
    return bits


def base_name(path: str) -> str:
    """The name that Docker shows and packs under: of `/` it is `/`, of `/etc/.` it is `.`."""
    if path.endswith("/."):
        return "."
    return posixpath.basename(path.rstrip("/")) or "/"


def open_parent(root: int, path: str) -> tuple[int, str]:
    """The folder that holds the last part, and the part; "" for the folder itself."""
    follows = path.endswith(("/", "/.", "/.."))
    cleaned = posixpath.normpath("/" + path.lstrip("/")).lstrip("/")
    folder, _, name = cleaned.rpartition("/")
    if follows or not name:
        folder, name = cleaned, ""
    fd = syscalls.openat2(
        root, os.fsencode(folder or "."), os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE
    )
    return fd, name


def write_tree(root: int, path: str, write: Callable[[bytes], object]) -> None:
    """A file or tree as a tar whose names start with the base name of the path."""
    writer = TarWriter(write)
    archive = _Archive(writer)
    parent, name = open_parent(root, path)
    try:
        archive.add(parent, name or ".", os.fsencode(base_name(path)))
    finally:
        os.close(parent)
    writer.close()


class _Archive:
    """Adds trees; remembers inodes for hard links."""

    def __init__(self, writer: TarWriter) -> None:
        self._writer = writer
        self._links: dict[tuple[int, int], bytes] = {}
        self._device = 0  # of where the walk began

    def add(self, folder: int, name: str, path: bytes) -> None:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        kind = _TAR_KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return  # sockets cannot be archived
        if kind == REGULAR and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                self._member(path, HARD_LINK, status, link=first)
                return
        if kind == DIRECTORY:
            self._add_folder(folder, name, path, status)
        elif kind == REGULAR:
            self._add_file(folder, name, path)
        elif kind == SYMLINK:
            link = os.fsencode(os.readlink(name, dir_fd=folder))
            self._member(path, SYMLINK, status, link=link)
        else:
            self._member(path, kind, status)

    def _add_folder(self, folder: int, name: str, path: bytes, status: os.stat_result) -> None:
        fd = os.open(name, _OPEN_FOLDER, dir_fd=folder)
        try:
            self._member(path, DIRECTORY, status, fd=fd)
            if self._device not in {0, status.st_dev} and (
                syscalls.fstatfs_type(fd) in _NOT_ARCHIVED
            ):
                return
            self._device = self._device or status.st_dev
            for child in sorted(os.listdir(fd)):
                try:
                    self.add(fd, child, path.rstrip(b"/") + b"/" + os.fsencode(child))
                except FileNotFoundError:
                    continue  # it was removed meanwhile
        finally:
            os.close(fd)

    def _add_file(self, folder: int, name: str, path: bytes) -> None:
        fd = open_regular(folder, name)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            self._member(path, REGULAR, status, size=status.st_size, fd=fd)
            left = status.st_size
            while left and (data := file.read(min(left, _CHUNK))):
                self._writer.data((data,))
                left -= len(data)

    def _member(
        self,
        path: bytes,
        kind: int,
        status: os.stat_result,
        *,
        link: bytes = b"",
        size: int = 0,
        fd: int = -1,
    ) -> None:
        self._writer.member(
            path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns // 1_000_000_000 * 1_000_000_000,
            size=size,
            link=link,
            device=(
                (os.major(status.st_rdev), os.minor(status.st_rdev))
                if kind in {BLOCK_DEVICE, CHARACTER_DEVICE}
                else (0, 0)
            ),
            xattrs=_read_xattrs(fd),
        )


def _read_xattrs(fd: int) -> dict[bytes, bytes]:
    if fd < 0:
        return {}
    try:
        value = os.getxattr(fd, "security.capability")
    except OSError:
        return {}
    return {b"security.capability": value}


class _Unpacking:
    """One archive into one folder of a root."""

    def __init__(self, root: int, path: str, *, keep_kinds: bool, owner: int) -> None:
        self._root = root
        self._base = posixpath.normpath("/" + path.lstrip("/"))
        self._keep_kinds = keep_kinds
        self._owner = owner
        self._folder_times: list[tuple[str, int]] = []

    def run(self, read: Callable[[int], bytes]) -> None:
        try:
            fd = open_folder(self._root, self._base)
        except NotADirectoryError as exc:
            raise NotFolder("extraction point is not a directory") from exc
        os.close(fd)
        reader = TarReader(read)
        for entry in reader:
            self._unpack(reader, entry)
        for path, moment in reversed(self._folder_times):
            try:
                fd = open_folder(self._root, path)
            except OSError:
                continue
            os.utime(fd, ns=(moment, moment))
            os.close(fd)

    def _unpack(self, reader: TarReader, entry: Entry) -> None:
        relative = posixpath.normpath("/" + os.fsdecode(entry.path)).lstrip("/")
        if not relative:
            return
        path = posixpath.join(self._base, relative)
        parent = ensure_folder(self._root, posixpath.dirname(path))
        try:
            self._make(reader, entry, parent, posixpath.basename(path), path)
        finally:
            os.close(parent)

    def _make(self, reader: TarReader, entry: Entry, parent: int, name: str, path: str) -> None:
        kind = entry.type
        if not self._clear(parent, name, is_folder=kind == DIRECTORY):
            os.mkdir(name, 0o700, dir_fd=parent)
        if kind == DIRECTORY:
            pass
        elif kind == REGULAR:
            self._make_file(reader, entry, parent, name)
        elif kind == SYMLINK:
            os.symlink(os.fsdecode(entry.link), name, dir_fd=parent)
        elif kind == HARD_LINK:
            self._make_hard_link(entry, parent, name)
            return
        else:
            types = {BLOCK_DEVICE: stat.S_IFBLK, CHARACTER_DEVICE: stat.S_IFCHR, FIFO: stat.S_IFIFO}
            os.mknod(name, types[kind] | 0o600, os.makedev(*entry.device), dir_fd=parent)
        self._set_attributes(entry, parent, name, path)

    def _clear(self, parent: int, name: str, *, is_folder: bool) -> bool:
        """Makes way; False when a new directory has to be made."""
        try:
            present = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return not is_folder
        was_folder = stat.S_ISDIR(present.st_mode)
        if was_folder and is_folder:
            return True
        if self._keep_kinds and was_folder != is_folder:
            first, second = (
                ("directory", "non-directory") if was_folder else ("non-directory", "directory")
            )
            raise Overwrite(f'cannot overwrite {first} "{name}" with {second} "{self._base}"')
        if was_folder:
            _remove_tree(parent, name)
        else:
            os.unlink(name, dir_fd=parent)
        return not is_folder

    def _make_file(self, reader: TarReader, entry: Entry, parent: int, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            if entry.extents is None:
                for piece in reader.data():
                    _write_all(fd, piece)
            else:
                data = b"".join(reader.data())
                offset = 0
                for position, length in entry.extents:
                    os.pwrite(fd, data[offset : offset + length], position)
                    offset += length
                os.ftruncate(fd, entry.size)
        finally:
            os.close(fd)

    def _make_hard_link(self, entry: Entry, parent: int, name: str) -> None:
        target = posixpath.normpath("/" + os.fsdecode(entry.link)).lstrip("/")
        path = posixpath.join(self._base, target)
        folder = open_folder(self._root, posixpath.dirname(path))
        try:
            os.link(
                posixpath.basename(path),
                name,
                src_dir_fd=folder,
                dst_dir_fd=parent,
                follow_symlinks=False,
            )
        finally:
            os.close(folder)

    def _set_attributes(self, entry: Entry, parent: int, name: str, path: str) -> None:
        uid, gid = (self._owner, self._owner) if self._owner >= 0 else (entry.uid, entry.gid)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        if entry.type != SYMLINK:
            syscalls.chmod_beneath(parent, name, entry.mode & 0o7777)
        for key, value in entry.xattrs.items():
            if entry.type == REGULAR and key == b"security.capability":
                fd = os.open(name, os.O_RDONLY | _NO_FOLLOW, dir_fd=parent)
                try:
                    os.setxattr(fd, key, value)
                finally:
                    os.close(fd)
        moment = entry.mtime_ns or time.time_ns()
        if entry.type == DIRECTORY:
            self._folder_times.append((path, moment))
        else:
            os.utime(name, ns=(moment, moment), dir_fd=parent, follow_symlinks=False)


def _remove_tree(parent: int, name: str) -> None:
    fd = os.open(name, _OPEN_FOLDER, dir_fd=parent)
    try:
        for child in os.listdir(fd):
            status = os.stat(child, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                _remove_tree(fd, child)
            else:
                os.unlink(child, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
