"""The worker of COPY, ADD and WORKDIR: puts files into a step's root, and nowhere else.

The root is a detached overlay mount that only this process has; every path is resolved inside it by
`openat2(RESOLVE_IN_ROOT)`, and what is created is created below a directory's descriptor. Sources are
entries of a context's tar, trees of stages and images (mounted the same way, read-only), archives, files
that were downloaded, and inline texts. Rules are those of BuildKit's copier (tonistiigi/fsutil/copy).

Everything is imported before the first foreign file is read.
"""

from __future__ import annotations

import bz2
import errno
import hashlib
import lzma
import os
import posixpath
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from wherry.build.ignore import compile_pattern, compile_patterns
from wherry.engine.build.attributes import (
    FOLDER_MODE,
    CopyError,
    ModeChange,
    find_owner,
    folder_mode,
    parse_mode,
)
from wherry.image.layer.streams import Decompressor
from wherry.kernel import syscalls
from wherry.kernel.consts import RESOLVE
from wherry.lib.jsonvalue import (
    JsonObject,
    JsonValue,
    get_bool,
    get_int,
    get_list,
    get_object,
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
    TarError,
    TarReader,
)
from wherry.lib.worker import forbid_imports
from wherry.runtime.root import DirectoryRoot, OverlayRoot, open_root

RESOLVE_INSIDE = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_LINKS = 40
MAX_LINKED = 256  # files with several names that are remembered at a time
ARCHIVE_MAGICS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
PIECE = 1 << 20
# The decompressor imports these when it meets such an archive, which is too late once imports are forbidden.
DECOMPRESSORS = (bz2, lzma)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is forced on everything that is copied; None = as the source has it."""

    uid: int | None
    gid: int | None
    mode: ModeChange | None
    epoch: int | None


def copy(arguments: JsonValue, report: object) -> JsonValue:
    """Runs the jobs of one step; answers the digest of what came from trees and the mount targets made."""
    del report
    if not isinstance(arguments, dict):
        raise TypeError("the arguments are not an object")
    os.umask(0)
    forbid_imports()
    worker = _Copier(arguments)
    try:
        for job in get_objects(arguments, "jobs"):
            worker.run(job)
    finally:
        worker.close()
    return {"digest": worker.content.hexdigest(), "count": worker.count}


def _open(root: JsonObject) -> int:
    path = get_str(root, "path")
    if path:
        return open_root(DirectoryRoot(path))
    lowers = get_strings(root, "lowers")
    upper, work = get_str(root, "upper"), get_str(root, "work")
    return open_root(OverlayRoot(lowers, upper, work, volatile=bool(upper)))


class _Copier:
    """Writes below one root.

    Making a file costs overlayfs twenty times what it costs the file system below. So what goes into a
    directory that was empty or not there is written into the upper directory itself (`_direct`), beneath which
    nothing can be then. The mount does not see that: the next job gets a new one.
    """

    def __init__(self, request: JsonObject) -> None:
        self._where = get_object(request, "root")
        self.root = _open(self._where)
        upper = get_str(self._where, "upper")
        self._upper = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if upper else -1
        self._direct: set[int] = set()
        self._is_stale = False
        self._folder_times: list[tuple[str, int]] = []
        self._linked: dict[tuple[int, int], tuple[int, str, str]] = {}
        self.destination = get_str(request, "destination")
        self.content = hashlib.sha256()
        self.count = 0
        uid, gid = find_owner(self.root, get_str(request, "chown"))
        self.owner = (uid or 0, gid or 0)
        epoch = get_int(request, "epoch", -1)
        self.attributes = Attributes(
            uid, gid, parse_mode(get_str(request, "chmod")), epoch if epoch >= 0 else None
        )
        self._folder_mode = folder_mode(get_str(request, "chmod"))
        self.excludes = compile_patterns(get_strings(request, "excludes"))
        self.parents = get_bool(request, "parents")

    def close(self) -> None:
        """Lets the root go."""
        os.close(self.root)
        if self._upper >= 0:
            os.close(self._upper)

    def run(self, job: JsonObject) -> None:
        """One source."""
        if self._is_stale:
            os.close(self.root)
            # A volatile mount marks the work directory, so that nobody takes it for a clean one; we know it.
            shutil.rmtree(posixpath.join(get_str(self._where, "work"), "work", "incompat"))
            self.root = _open(self._where)
            self._is_stale = False
        match get_str(job, "kind"):
            case "tar":
                self._copy_from_tar(job)
            case "tree":
                self._copy_tree(job)
            case "inline":
                self._write_inline(job)
            case "file":
                self._copy_file(job)
            case "mkdir":
                self._make_workdir(job)
            case kind:
                raise ValueError(f"unknown job {kind}")

    # ---- places

    def is_directory(self, path: str) -> bool:
        """Whether the path, links followed, is a directory of the root."""
        try:
            fd = syscalls.openat2(
                self.root, _relative(path), os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_INSIDE
            )
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                return False
            raise
        os.close(fd)
        return True

    def open_directory(
        self, path: str, owner: tuple[int, int] | None = None, mode: int = FOLDER_MODE
    ) -> int:
        """A directory of the root, made with its parents when it is not there."""
        try:
            return syscalls.openat2(
                self.root, _relative(path), DIRECTORY_FLAGS, resolve=RESOLVE_INSIDE
            )
        except FileNotFoundError:
            pass
        except NotADirectoryError as error:
            raise CopyError(f"cannot copy to non-directory: {path}") from error
        clean = path.rstrip("/")
        parent = self.open_directory(posixpath.dirname(clean) or "/", owner, mode)
        try:
            name = posixpath.basename(clean)
            try:
                os.mkdir(name, mode, dir_fd=parent)
            except FileExistsError as error:
                # A symlink to nowhere: what it names is made, as mkdir -p of the target would.
                target = os.readlink(name, dir_fd=parent)
                joined = posixpath.join(posixpath.dirname(clean), target)
                if target == joined == clean:
                    raise CopyError(f"cannot copy to non-directory: {path}") from error
                return self.open_directory(posixpath.normpath("/" + joined), owner, mode)
            fd = os.open(name, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=parent)
        finally:
            os.close(parent)
        os.fchown(fd, *(owner or self.owner))
        if self.attributes.epoch is not None:
            self._set_times(fd, self.attributes.epoch * 1_000_000_000)
        return fd

    def _target(self, name: str, *, is_directory: bool, parent_path: str = "") -> tuple[int, str]:
        """Where a source goes: the directory to write in, and the name ("" = into the directory itself)."""
        destination = self.destination
        if self.parents:
            base = posixpath.join(destination, parent_path)
            if is_directory:
                return self._open_for_folder(posixpath.join(base, name)), ""
            return self._open_target(base), name
        if is_directory:
            return self._open_for_folder(destination), ""
        if destination.endswith("/") or self.is_directory(destination):
            return self._open_target(destination), name
        folder = self._open_target(posixpath.dirname(destination) or "/")
        return folder, posixpath.basename(destination)

    def _open_for_folder(self, path: str) -> int:
        """Where the entries of a source directory go."""
        return self._go_direct(self._open_target(path))

    def _open_target(self, path: str) -> int:
        """A directory on the way of a copy: --chmod is for those that it makes, too."""
        return self.open_directory(path, mode=self._folder_mode)

    def _go_direct(self, fd: int) -> int:
        """The same directory in the upper one, when it is empty; takes the descriptor over."""
        if self._upper < 0 or fd in self._direct or os.listdir(fd):
            return fd
        os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode))  # overlay copies it up
        path = os.readlink(f"/proc/self/fd/{fd}")
        direct = syscalls.openat2(
            self._upper,
            _relative(path),
            DIRECTORY_FLAGS,
            resolve=RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS,
        )
        os.close(fd)
        self._direct.add(direct)
        self._is_stale = True
        return direct

    def _close(self, fd: int) -> None:
        self._direct.discard(fd)
        os.close(fd)

    # ---- writing

    def _finish(
        self, fd: int, mode: int, uid: int, gid: int, mtime_ns: int, *, is_directory: bool = False
    ) -> None:
        attributes = self.attributes
        if attributes.mode is not None:
            mode = attributes.mode(mode, is_directory)
        self._finish_as_it_is(fd, mode, uid, gid, mtime_ns)

    def _finish_as_it_is(self, fd: int, mode: int, uid: int, gid: int, mtime_ns: int) -> None:
        """Of an archive's member: --chmod is not for those."""
        attributes = self.attributes
        os.fchown(
            fd,
            uid if attributes.uid is None else attributes.uid,
            gid if attributes.gid is None else attributes.gid,
        )
        os.fchmod(fd, mode)
        self._set_times(fd, mtime_ns)

    def _set_times(self, target: int | str, mtime_ns: int, folder: int | None = None) -> None:
        epoch = self.attributes.epoch
        if epoch is not None:
            mtime_ns = min(mtime_ns, epoch * 1_000_000_000)
        if isinstance(target, int):
            os.utime(target, ns=(mtime_ns, mtime_ns))
        else:
            os.utime(target, ns=(mtime_ns, mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _create(self, folder: int, name: str) -> int:
        """A new file in place of what is there, unless that is a directory."""
        try:
            return os.open(name, CREATE_FLAGS, 0o600, dir_fd=folder)
        except FileExistsError:
            self._unlink(folder, name)
            return os.open(name, CREATE_FLAGS, 0o600, dir_fd=folder)

    def _unlink(self, folder: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=folder)
        except IsADirectoryError as error:
            raise CopyError(f"cannot overwrite directory {name} with a file") from error
        except FileNotFoundError:
            pass

    def _make_directory(self, folder: int, name: str) -> tuple[int, bool]:
        """A directory below another, and whether it is new; a link to a directory is followed inside the root."""
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode) and folder not in self._direct:
                place = posixpath.join(os.readlink(f"/proc/self/fd/{folder}"), name)
                if self.is_directory(place):
                    return self.open_directory(place), False
            if not stat.S_ISDIR(status.st_mode):
                raise CopyError(f"cannot copy to non-directory: {name}") from None
            return self._open_child(folder, name), False
        return self._go_direct(self._open_child(folder, name)), True

    def _open_child(self, folder: int, name: str) -> int:
        fd = os.open(name, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
        if folder in self._direct:
            self._direct.add(fd)
        return fd

    def _symlink(
        self, folder: int, name: str, link: str, uid: int, gid: int, mtime_ns: int
    ) -> None:
        self._unlink(folder, name)
        os.symlink(link, name, dir_fd=folder)
        attributes = self.attributes
        os.chown(
            name,
            uid if attributes.uid is None else attributes.uid,
            gid if attributes.gid is None else attributes.gid,
            dir_fd=folder,
            follow_symlinks=False,
        )
        self._set_times(name, mtime_ns, folder)

    # ---- jobs

    def _make_workdir(self, job: JsonObject) -> None:
        path = get_str(job, "path")
        owner = find_owner(self.root, get_str(job, "user"))
        if not self.is_directory(path):
            os.close(self.open_directory(path, (owner[0] or 0, owner[1] or 0)))
            self.count += 1

    def _write_inline(self, job: JsonObject) -> None:
        folder, name = self._target(get_str(job, "name"), is_directory=False)
        try:
            fd = self._create(folder, name)
            try:
                _write_all(fd, os.fsencode(get_str(job, "content")))
                self._finish(fd, get_int(job, "mode", 0o644), 0, 0, get_int(job, "mtime"))
            finally:
                os.close(fd)
        finally:
            os.close(folder)
        self.count += 1

    def _copy_file(self, job: JsonObject) -> None:
        """A file of this machine (a download), or the archive that it is."""
        fd = os.open(get_str(job, "path"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if get_bool(job, "unpack") and self._unpack_if_archive(fd, 0, os.fstat(fd).st_size):
                return
            folder, name = self._target(get_str(job, "name"), is_directory=False)
            try:
                out = self._create(folder, name)
                try:
                    _transfer(fd, out, 0, os.fstat(fd).st_size)
                    self._finish(out, get_int(job, "mode"), 0, 0, get_int(job, "mtime"))
                finally:
                    os.close(out)
            finally:
                os.close(folder)
        finally:
            os.close(fd)
        self.count += 1

    def _copy_from_tar(self, job: JsonObject) -> None:
        rows = get_list(job, "entries")
        tar = os.open(get_str(job, "tar"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            first = _Row(rows[0])
            is_file = get_bool(job, "unpack") and first.kind == "f"
            if is_file and self._unpack_if_archive(tar, first.offset, first.size):
                return
            folder, name = self._target(
                get_str(job, "name"),
                is_directory=first.kind == "d",
                parent_path=get_str(job, "parent"),
            )
            try:
                if first.kind != "d":
                    self._put_row(tar, folder, name, first)
                else:
                    self._put_rows(tar, folder, [_Row(row) for row in rows])
                    if first.mtime_ns > 0:
                        self._set_times(folder, first.mtime_ns)
            finally:
                self._close(folder)
        finally:
            os.close(tar)

    def _put_rows(self, tar: int, folder: int, rows: list[_Row]) -> None:
        """Entries below a directory, parents first; directories get their times when all is in them."""
        open_folders: dict[str, int] = {"": folder}
        finished: list[tuple[str, _Row]] = []
        try:
            for row in rows[1:]:
                parent, name = posixpath.split(row.path)
                target = self._folder_of(open_folders, parent)
                if row.kind == "d":
                    fd, created = self._make_directory(target, name)
                    open_folders[row.path] = fd
                    if created:
                        finished.append((row.path, row))
                else:
                    self._put_row(tar, target, name, row)
                if len(open_folders) > 500:
                    self._close_folders(open_folders, finished, keep=row.path)
            self._close_folders(open_folders, finished, keep=None)
        finally:
            for path, fd in open_folders.items():
                if path:
                    self._close(fd)

    def _folder_of(self, open_folders: dict[str, int], path: str) -> int:
        fd = open_folders.get(path)
        if fd is None:
            parent, name = posixpath.split(path)
            fd, _ = self._make_directory(self._folder_of(open_folders, parent), name)
            open_folders[path] = fd
        return fd

    def _close_folders(
        self, open_folders: dict[str, int], finished: list[tuple[str, _Row]], keep: str | None
    ) -> None:
        for path, row in reversed(finished):
            if keep is not None and (keep == path or keep.startswith(path + "/")):
                continue
            fd = open_folders.get(path)
            if fd is not None:
                self._finish(fd, row.mode, 0, 0, row.mtime_ns, is_directory=True)
        done = {
            path
            for path in open_folders
            if path and (keep is None or not (keep == path or keep.startswith(path + "/")))
        }
        finished[:] = [pair for pair in finished if pair[0] not in done]
        for path in done:
            self._close(open_folders.pop(path))

    def _put_row(self, tar: int, folder: int, name: str, row: _Row) -> None:
        self.count += 1
        if row.kind == "l":
            self._symlink(folder, name, row.link, 0, 0, row.mtime_ns)
            return
        if row.kind == "p":
            self._unlink(folder, name)
            os.mkfifo(name, 0o600, dir_fd=folder)
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)
            try:
                self._finish(fd, row.mode, 0, 0, row.mtime_ns)
            finally:
                os.close(fd)
            return
        fd = self._create(folder, name)
        try:
            _transfer(tar, fd, row.offset, row.size)
            self._finish(fd, row.mode, 0, 0, row.mtime_ns)
        finally:
            os.close(fd)

    # ---- archives

    def _unpack_if_archive(self, fd: int, offset: int, size: int) -> bool:
        head = os.pread(fd, 512, offset)
        if not head.startswith(ARCHIVE_MAGICS) and head[257:262] != b"ustar":
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
            for member in reader:
                if first and not _looks_like_tar(member.path):
                    return False
                first = False
                self._unpack_member(reader, member)
            for target, mtime_ns in reversed(self._folder_times):
                fd_of_folder = self.open_directory(target)
                self._set_times(fd_of_folder, mtime_ns)
                os.close(fd_of_folder)
            self._folder_times.clear()
            if first and head[257:262] != b"ustar":
                return False  # compressed, but nothing like a tar in it
        except (TarError, ValueError):
            if self.count:
                raise
            return False
        return True

    def _unpack_member(self, reader: TarReader, member: object) -> None:
        path = posixpath.normpath("/" + os.fsdecode(getattr(member, "path", b"")))
        kind = int(getattr(member, "type", 0))
        mode = int(getattr(member, "mode", 0)) & 0o7777
        uid, gid = int(getattr(member, "uid", 0)), int(getattr(member, "gid", 0))
        mtime_ns = int(getattr(member, "mtime_ns", 0))
        target = posixpath.join(self.destination, path.lstrip("/"))
        self.count += 1
        if kind == DIRECTORY:
            fd = self.open_directory(target)
            try:
                if path != "/":
                    self._finish_as_it_is(fd, mode, uid, gid, mtime_ns)
                    self._folder_times.append((target, mtime_ns))  # set when all is in it
            finally:
                os.close(fd)
            return
        folder = self.open_directory(posixpath.dirname(target))
        name = posixpath.basename(target)
        try:
            if kind == REGULAR:
                out = self._create(folder, name)
                try:
                    for piece in reader.data():
                        _write_all(out, piece)
                    self._finish_as_it_is(out, mode, uid, gid, mtime_ns)
                    self._set_xattrs(out, getattr(member, "xattrs", {}))
                finally:
                    os.close(out)
            elif kind == SYMLINK:
                link = os.fsdecode(getattr(member, "link", b""))
                self._symlink(folder, name, link, uid, gid, mtime_ns)
            elif kind == HARD_LINK:
                self._hard_link(folder, name, os.fsdecode(getattr(member, "link", b"")))
            elif kind in {CHARACTER_DEVICE, BLOCK_DEVICE, FIFO}:
                self._unlink(folder, name)
                types = {
                    CHARACTER_DEVICE: stat.S_IFCHR,
                    BLOCK_DEVICE: stat.S_IFBLK,
                    FIFO: stat.S_IFIFO,
                }
                device = os.makedev(*getattr(member, "device", (0, 0)))
                os.mknod(name, types[kind] | mode, device, dir_fd=folder)
                os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
                self._set_times(name, mtime_ns, folder)
        finally:
            os.close(folder)

    def _hard_link(self, folder: int, name: str, link: str) -> None:
        source = posixpath.join(self.destination, posixpath.normpath("/" + link).lstrip("/"))
        parent = self.open_directory(posixpath.dirname(source))
        try:
            self._unlink(folder, name)
            os.link(
                posixpath.basename(source),
                name,
                src_dir_fd=parent,
                dst_dir_fd=folder,
                follow_symlinks=False,
            )
        finally:
            os.close(parent)

    def _set_xattrs(self, fd: int, xattrs: dict[bytes, bytes]) -> None:
        for key, value in xattrs.items():
            if key.startswith((b"trusted.overlay.", b"user.overlay.")):
                continue
            try:
                os.setxattr(fd, key, value)
            except OSError as error:
                if error.errno not in {errno.EOPNOTSUPP, errno.EPERM}:
                    raise

    # ---- trees

    def _copy_tree(self, job: JsonObject) -> None:
        source_root = _open(get_object(job, "tree"))
        try:
            for path in get_strings(job, "paths"):
                self._copy_path(source_root, path, get_str(job, "label"))
        finally:
            os.close(source_root)

    def _copy_path(self, source_root: int, path: str, label: str) -> None:
        pivot, _, rest = path.partition("/./")
        shown = path if not rest else f"{pivot}/{rest}"
        clean = posixpath.normpath("/" + shown).lstrip("/")
        if any(char in clean for char in "*?["):
            matched = sorted(_glob(source_root, clean))
        else:
            matched = [clean]
        for found in matched:
            parent = posixpath.dirname(found)
            if rest:
                parent = posixpath.relpath(
                    "/" + parent, posixpath.normpath("/" + pivot)
                ).removeprefix("./")
                parent = "" if parent.startswith("..") or parent == "." else parent
            self._copy_one(source_root, found, label, parent)

    def _copy_one(self, source_root: int, path: str, label: str, parent: str) -> None:
        try:
            source = syscalls.openat2(
                source_root, _relative(path), os.O_PATH, resolve=RESOLVE_INSIDE
            )
        except FileNotFoundError as error:
            raise CopyError(
                f'failed to calculate checksum of {label}: "/{path}": not found'
            ) from error
        try:
            status = os.fstat(source)
            is_directory = stat.S_ISDIR(status.st_mode)
            name = posixpath.basename(path)
            self.content.update(os.fsencode(f"\1{'' if is_directory else name}\0"))
            folder, target = self._target(name, is_directory=is_directory, parent_path=parent)
            try:
                if is_directory:
                    directory = os.open(f"/proc/self/fd/{source}", DIRECTORY_FLAGS)
                    try:
                        self._copy_folder(directory, folder, "")
                        self._set_times(folder, status.st_mtime_ns)
                    finally:
                        os.close(directory)
                else:
                    self._copy_entry(source, status, folder, target, "")
            finally:
                self._close(folder)
        finally:
            os.close(source)
            for fd, _, _ in self._linked.values():
                os.close(fd)
            self._linked.clear()

    def _link(self, inode: tuple[int, int], folder: int, name: str, relative: str) -> bool:
        """Whether the file was made as another name of a file that this source had before."""
        if inode not in self._linked:
            return False
        source, known, first = self._linked[inode]
        self._unlink(folder, name)
        try:
            os.link(known, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            # One is written below the mount and the other through it, or there are too many.
            if error.errno in {errno.EXDEV, errno.EMLINK}:
                return False
            raise
        self.content.update(os.fsencode(f"{relative}\0h{first}\n"))
        return True

    def _copy_folder(self, source: int, target: int, prefix: str) -> None:
        for name in sorted(os.listdir(source)):
            relative = f"{prefix}{name}"
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            excluded = bool(self.excludes.patterns) and self.excludes.matches(relative)
            if stat.S_ISDIR(status.st_mode):
                if excluded and not self.excludes.has_exclusions:
                    continue
                child = os.open(name, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=source)
                try:
                    out, created = self._make_directory(target, name)
                    try:
                        owner = f"{status.st_uid}:{status.st_gid}"
                        self.content.update(
                            os.fsencode(f"{relative}\0d{status.st_mode:o} {owner}\n")
                        )
                        self._copy_folder(child, out, relative + "/")
                        if created:
                            _copy_xattrs(child, out)
                            self._finish(
                                out,
                                stat.S_IMODE(status.st_mode),
                                status.st_uid,
                                status.st_gid,
                                status.st_mtime_ns,
                                is_directory=True,
                            )
                    finally:
                        self._close(out)
                finally:
                    os.close(child)
            elif not excluded:
                fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
                try:
                    self._copy_entry(fd, status, target, name, relative)
                finally:
                    os.close(fd)

    def _copy_entry(
        self, source: int, status: os.stat_result, folder: int, name: str, relative: str
    ) -> None:
        """A file, link or device by its O_PATH descriptor; owners stay unless --chown, as in BuildKit."""
        mode = status.st_mode
        owner = (status.st_uid, status.st_gid)
        self.count += 1
        if stat.S_ISLNK(mode):
            link = os.readlink("", dir_fd=source)
            self.content.update(os.fsencode(f"{relative}\0l{link}{owner}\n"))
            self._symlink(folder, name, link, *owner, status.st_mtime_ns)
        elif stat.S_ISREG(mode):
            inode = (status.st_dev, status.st_ino)
            if self._link(inode, folder, name, relative):
                return
            if status.st_nlink > 1 and len(self._linked) < MAX_LINKED:
                self._linked.setdefault(inode, (os.dup(folder), name, relative))
            fd = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC)
            out = self._create(folder, name)
            try:
                digest = _transfer_hashed(fd, out)
                self.content.update(os.fsencode(f"{relative}\0f{mode:o}{digest}{owner}\n"))
                _copy_xattrs(fd, out)
                self._finish(out, stat.S_IMODE(mode), *owner, status.st_mtime_ns)
            finally:
                os.close(out)
                os.close(fd)
        elif not stat.S_ISSOCK(mode):
            self.content.update(os.fsencode(f"{relative}\0x{mode:o}{status.st_rdev}\n"))
            self._unlink(folder, name)
            os.mknod(name, mode, status.st_rdev, dir_fd=folder)
            os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
            self._set_times(name, status.st_mtime_ns, folder)


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


def _relative(path: str) -> bytes:
    return os.fsencode(path.strip("/") or ".")


def _looks_like_tar(path: bytes) -> bool:
    return bool(path)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _transfer(source: int, target: int, offset: int, size: int) -> None:
    while size:
        done = os.sendfile(target, source, offset, size)
        if not done:
            raise CopyError("the build context changed while it was read")
        offset += done
        size -= done


def _transfer_hashed(source: int, target: int) -> str:
    digest = hashlib.sha256()
    while data := os.read(source, PIECE):
        digest.update(data)
        _write_all(target, data)
    return digest.hexdigest()


def _copy_xattrs(source: int, target: int) -> None:
    for name in os.listxattr(source):
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EPERM, errno.ENODATA}:
                raise


def _glob(root: int, pattern: str) -> Iterator[str]:
    """Paths of a tree that match, component by component; links are followed on the way."""
    found = [""]
    for part in pattern.split("/"):
        compiled = compile_pattern(part)
        following: list[str] = []
        for path in found:
            if not any(char in part for char in "*?[\\"):
                following.append(posixpath.join(path, part))
                continue
            try:
                fd = syscalls.openat2(
                    root, _relative(path), DIRECTORY_FLAGS, resolve=RESOLVE_INSIDE
                )
            except OSError:
                continue
            try:
                names = sorted(os.listdir(fd))
            finally:
                os.close(fd)
            following += [posixpath.join(path, name) for name in names if compiled.matches(name)]
        found = following
    for path in found:
        try:
            fd = syscalls.openat2(root, _relative(path), os.O_PATH, resolve=RESOLVE_INSIDE)
        except OSError:
            continue
        os.close(fd)
        yield path
