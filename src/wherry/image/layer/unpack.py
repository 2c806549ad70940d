"""Writes a layer's tree as directories, where EROFS cannot be mounted or an index cannot hold the layer.

Works on descriptors of directories that it has just made itself, with single names below them: whatever
the archive says, nothing outside can be reached. File data is copied from the tar by the kernel.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator

from wherry.image.layer.tree import Directory, LayerError, LayerTree, Node, Xattrs

_COPY_SIZE = 1 << 24
_SMALL_XATTR = 1024  # ext4 says ENOSPC to attributes that do not fit beside the inode


def write_tree(tree: LayerTree, tar_fd: int, root_fd: int) -> None:
    """Fills the empty directory `root_fd` with a finished tree. Raises OSError, LayerError."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # one descriptor per level of depth
    _TreeWriter(tar_fd, root_fd).write(tree.root)


class _TreeWriter:
    def __init__(self, tar_fd: int, root_fd: int) -> None:
        self._tar_fd = tar_fd
        self._root_fd = root_fd
        self._first_names: dict[int, bytes] = {}

    def write(self, root: Directory) -> None:
        stack: list[tuple[Directory, int, Iterator[tuple[bytes, Node]]]] = []
        self._open(stack, root, self._root_fd)
        try:
            while stack:
                folder, fd, children = stack[-1]
                child = next(children, None)
                if child is None:
                    stack.pop()
                    _set_attributes(fd, folder, folder.overlay_xattrs())
                    if fd != self._root_fd:
                        os.close(fd)
                    continue
                name, node = child
                if isinstance(node, Directory):
                    os.mkdir(name, 0o700, dir_fd=fd)
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                    self._open(stack, node, os.open(name, flags, dir_fd=fd))
                else:
                    self._write_file(folder, fd, name, node)
        finally:
            for _, fd, _ in stack:
                if fd != self._root_fd:
                    os.close(fd)

    @staticmethod
    def _open(
        stack: list[tuple[Directory, int, Iterator[tuple[bytes, Node]]]], folder: Directory, fd: int
    ) -> None:
        stack.append((folder, fd, iter(sorted(folder.children.items()))))

    def _write_file(self, folder: Directory, fd: int, name: bytes, node: Node) -> None:
        if node.links > 1:
            first = self._first_names.get(id(node))
            if first is not None:
                os.link(first, name, src_dir_fd=self._root_fd, dst_dir_fd=fd, follow_symlinks=False)
                return
            self._first_names[id(node)] = folder.path + b"/" + name if folder.path else name
        kind = stat.S_IFMT(node.mode)
        if kind == stat.S_IFREG:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(name, flags, 0o600, dir_fd=fd)
            try:
                self._copy(node, file)
                _set_attributes(file, node, node.xattrs)
            finally:
                os.close(file)
            return
        if kind == stat.S_IFLNK:
            os.symlink(node.target, name, dir_fd=fd)
        else:
            os.mknod(name, kind | 0o600, os.makedev(*node.device), dir_fd=fd)
        path = b"/proc/self/fd/%d/%s" % (fd, name)
        os.chown(name, node.uid, node.gid, dir_fd=fd, follow_symlinks=False)
        for key, value in node.xattrs:
            _set_xattr(path, key, value)
        if kind != stat.S_IFLNK:
            os.chmod(path, node.mode & 0o7777)  # nobody else can replace the name
        times = (node.mtime_ns, node.mtime_ns)
        os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)

    def _copy(self, node: Node, file: int) -> None:
        source = node.offset
        for position, length in node.extents if node.extents is not None else ((0, node.size),):
            os.lseek(file, position, os.SEEK_SET)
            left = length
            while left:
                copied = os.sendfile(file, self._tar_fd, source, min(left, _COPY_SIZE))
                if not copied:
                    raise LayerError("the archive ends inside a member")
                source += copied
                left -= copied
        if node.extents is not None:
            os.ftruncate(file, node.size)


def _set_attributes(fd: int, node: Node, xattrs: Xattrs) -> None:
    os.fchown(fd, node.uid, node.gid)
    for name, value in xattrs:  # after the owner: chown drops capabilities
        _set_xattr(fd, name, value)
    os.fchmod(fd, node.mode & 0o7777)
    os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))


def _set_xattr(target: int | bytes, name: bytes, value: bytes) -> None:
    try:
        os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return  # this file system has none of that kind
        if error.errno in {errno.EINVAL, errno.E2BIG, errno.ERANGE} or (
            error.errno == errno.ENOSPC and len(value) > _SMALL_XATTR
        ):
            raise LayerError(
                f"extended attribute {os.fsdecode(name)} cannot be set: {error.strerror}"
            ) from error
        raise
