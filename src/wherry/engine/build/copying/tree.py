"""COPY from a tree: of a stage or an image, mounted read-only."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator

from wherry.build.ignore import IgnoreMatcher, compile_pattern
from wherry.engine.build.attributes import CopyError
from wherry.engine.build.copying.target import (
    DIRECTORY_FLAGS,
    RESOLVE_INSIDE,
    Links,
    Target,
    encode_path,
    open_tree,
    write_all,
)
from wherry.kernel import syscalls
from wherry.lib.jsonvalue import JsonObject, get_object, get_str, get_strings

PIECE = 1 << 20


class TreeCopier:
    """Copies from trees; its `content` is a digest of everything that was copied."""

    def __init__(self, target: Target, excludes: IgnoreMatcher) -> None:
        self._target = target
        self._excludes = excludes
        self._links = Links(target)
        self.content = hashlib.sha256()

    def copy(self, job: JsonObject) -> None:
        """What the job names."""
        source_root = open_tree(get_object(job, "tree"))
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
                source_root, encode_path(path), os.O_PATH, resolve=RESOLVE_INSIDE
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
            folder, target = self._target.place(name, is_directory=is_directory, parent_path=parent)
            try:
                if is_directory:
                    directory = os.open(f"/proc/self/fd/{source}", DIRECTORY_FLAGS)
                    try:
                        self._copy_folder(directory, folder, "")
                        self._target.set_times(folder, status.st_mtime_ns)
                    finally:
                        os.close(directory)
                else:
                    self._copy_entry(source, status, folder, target, "")
            finally:
                self._target.release(folder)
        finally:
            os.close(source)
            self._links.forget()

    def _copy_folder(self, source: int, target: int, prefix: str) -> None:
        for name in sorted(os.listdir(source)):
            relative = f"{prefix}{name}"
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            excluded = bool(self._excludes.patterns) and self._excludes.matches(relative)
            if stat.S_ISDIR(status.st_mode):
                if excluded and not self._excludes.has_exclusions:
                    continue
                child = os.open(name, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=source)
                try:
                    out, created = self._target.make_directory(target, name)
                    try:
                        owner = f"{status.st_uid}:{status.st_gid}"
                        self.content.update(
                            os.fsencode(f"{relative}\0d{status.st_mode:o} {owner}\n")
                        )
                        self._copy_folder(child, out, relative + "/")
                        if created:
                            _copy_xattrs(child, out)
                            self._target.finish(
                                out,
                                stat.S_IMODE(status.st_mode),
                                status.st_uid,
                                status.st_gid,
                                status.st_mtime_ns,
                                is_directory=True,
                            )
                    finally:
                        self._target.release(out)
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
        self._target.count += 1
        if stat.S_ISLNK(mode):
            link = os.readlink("", dir_fd=source)
            self.content.update(os.fsencode(f"{relative}\0l{link}{owner}\n"))
            self._target.symlink(folder, name, link, *owner, status.st_mtime_ns)
        elif stat.S_ISREG(mode):
            inode = (status.st_dev, status.st_ino)
            first = self._links.make(inode, folder, name)
            if first is not None:
                self.content.update(os.fsencode(f"{relative}\0h{first}\n"))
                return
            fd = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC)
            out = self._target.create(folder, name)
            try:
                if status.st_nlink > 1:
                    self._links.remember(inode, out, relative)
                digest = _transfer_hashed(fd, out)
                self.content.update(os.fsencode(f"{relative}\0f{mode:o}{digest}{owner}\n"))
                _copy_xattrs(fd, out)
                self._target.finish(out, stat.S_IMODE(mode), *owner, status.st_mtime_ns)
            finally:
                os.close(out)
                os.close(fd)
        elif not stat.S_ISSOCK(mode):
            self.content.update(os.fsencode(f"{relative}\0x{mode:o}{status.st_rdev}\n"))
            self._target.unlink(folder, name)
            os.mknod(name, mode, status.st_rdev, dir_fd=folder)
            os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
            self._target.set_times(name, status.st_mtime_ns, folder)


def _transfer_hashed(source: int, target: int) -> str:
    digest = hashlib.sha256()
    while data := os.read(source, PIECE):
        digest.update(data)
        write_all(target, data)
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
                    root, encode_path(path), DIRECTORY_FLAGS, resolve=RESOLVE_INSIDE
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
            fd = syscalls.openat2(root, encode_path(path), os.O_PATH, resolve=RESOLVE_INSIDE)
        except OSError:
            continue
        os.close(fd)
        yield path
