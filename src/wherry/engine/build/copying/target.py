"""Where a copy goes: one root, the destination in it, and what is forced on all that is written there."""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
from collections.abc import Hashable
from dataclasses import dataclass

from wherry.engine.build.attributes import (
    FOLDER_MODE,
    CopyError,
    ModeChange,
    find_owner,
    folder_mode,
    parse_mode,
)
from wherry.kernel import syscalls
from wherry.kernel.consts import RESOLVE
from wherry.lib.jsonvalue import JsonObject, get_bool, get_int, get_object, get_str, get_strings
from wherry.runtime.root import DirectoryRoot, OverlayRoot, open_root

RESOLVE_INSIDE = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MAX_LINKED = 256  # files with several names that are remembered at a time
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is forced on everything that is copied; None = as the source has it."""

    uid: int | None
    gid: int | None
    mode: ModeChange | None
    epoch: int | None


class Target:
    """Writes below one root; its `count` is of what was written.

    Making a file costs overlayfs twenty times what it costs the file system below. So what goes into a
    directory that was empty or not there is written into the upper directory itself (`_direct`), beneath which
    nothing can be then. The mount does not see that: the next job gets a new one.
    """

    def __init__(self, request: JsonObject) -> None:
        self._where = get_object(request, "root")
        self.root = open_tree(self._where)
        upper = get_str(self._where, "upper")
        self._upper = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if upper else -1
        self._direct: set[int] = set()
        self._is_stale = False
        self.destination = get_str(request, "destination")
        self.count = 0
        uid, gid = find_owner(self.root, get_str(request, "chown"))
        self._owner = (uid or 0, gid or 0)
        epoch = get_int(request, "epoch", -1)
        self._attributes = Attributes(
            uid, gid, parse_mode(get_str(request, "chmod")), epoch if epoch >= 0 else None
        )
        self._folder_mode = folder_mode(get_str(request, "chmod"))
        self._keeps_parents = get_bool(request, "parents")

    def close(self) -> None:
        """Lets the root go."""
        os.close(self.root)
        if self._upper >= 0:
            os.close(self._upper)

    def renew(self) -> None:
        """Before another job: has the root show what was written past it."""
        if not self._is_stale:
            return
        os.close(self.root)
        # A volatile mount marks the work directory, so that nobody takes it for a clean one; we know it.
        shutil.rmtree(posixpath.join(get_str(self._where, "work"), "work", "incompat"))
        self.root = open_tree(self._where)
        self._is_stale = False

    def is_directory(self, path: str) -> bool:
        """Whether the path, links followed, is a directory of the root."""
        try:
            fd = syscalls.openat2(
                self.root, encode_path(path), os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_INSIDE
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
                self.root, encode_path(path), DIRECTORY_FLAGS, resolve=RESOLVE_INSIDE
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
        os.fchown(fd, *(owner or self._owner))
        if self._attributes.epoch is not None:
            self.set_times(fd, self._attributes.epoch * 1_000_000_000)
        return fd

    def place(self, name: str, *, is_directory: bool, parent_path: str = "") -> tuple[int, str]:
        """Where a source goes: the directory to write in, and the name ("" = into the directory itself)."""
        destination = self.destination
        if self._keeps_parents:
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
            encode_path(path),
            DIRECTORY_FLAGS,
            resolve=RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS,
        )
        os.close(fd)
        self._direct.add(direct)
        self._is_stale = True
        return direct

    def release(self, fd: int) -> None:
        """Closes what `place` or `make_directory` gave."""
        self._direct.discard(fd)
        os.close(fd)

    def finish(
        self, fd: int, mode: int, uid: int, gid: int, mtime_ns: int, *, is_directory: bool = False
    ) -> None:
        """Owner, mode and time, those of the source or those that are forced."""
        attributes = self._attributes
        if attributes.mode is not None:
            mode = attributes.mode(mode, is_directory)
        self.finish_as_it_is(fd, mode, uid, gid, mtime_ns)

    def finish_as_it_is(self, fd: int, mode: int, uid: int, gid: int, mtime_ns: int) -> None:
        """Of an archive's member: --chmod is not for those."""
        attributes = self._attributes
        os.fchown(
            fd,
            uid if attributes.uid is None else attributes.uid,
            gid if attributes.gid is None else attributes.gid,
        )
        os.fchmod(fd, mode)
        self.set_times(fd, mtime_ns)

    def set_times(self, target: int | str, mtime_ns: int, folder: int | None = None) -> None:
        """Of a descriptor, or a name in a folder; not later than the epoch, if there is one."""
        epoch = self._attributes.epoch
        if epoch is not None:
            mtime_ns = min(mtime_ns, epoch * 1_000_000_000)
        if isinstance(target, int):
            os.utime(target, ns=(mtime_ns, mtime_ns))
        else:
            os.utime(target, ns=(mtime_ns, mtime_ns), dir_fd=folder, follow_symlinks=False)

    def create(self, folder: int, name: str) -> int:
        """A new file in place of what is there, unless that is a directory."""
        try:
            return os.open(name, CREATE_FLAGS, 0o600, dir_fd=folder)
        except FileExistsError:
            self.unlink(folder, name)
            return os.open(name, CREATE_FLAGS, 0o600, dir_fd=folder)

    def unlink(self, folder: int, name: str) -> None:
        """Takes away what is there. Raises CopyError for a directory."""
        try:
            os.unlink(name, dir_fd=folder)
        except IsADirectoryError as error:
            raise CopyError(f"cannot overwrite directory {name} with a file") from error
        except FileNotFoundError:
            pass

    def make_directory(self, folder: int, name: str) -> tuple[int, bool]:
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

    def symlink(self, folder: int, name: str, link: str, uid: int, gid: int, mtime_ns: int) -> None:
        """A link in place of what is there."""
        self.unlink(folder, name)
        os.symlink(link, name, dir_fd=folder)
        attributes = self._attributes
        os.chown(
            name,
            uid if attributes.uid is None else attributes.uid,
            gid if attributes.gid is None else attributes.gid,
            dir_fd=folder,
            follow_symlinks=False,
        )
        self.set_times(name, mtime_ns, folder)


class Links:
    """Files of one source that have several names: the first name is copied, the others become links to it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._known: dict[Hashable, tuple[int, str]] = {}

    def remember(self, key: Hashable, fd: int, first: str) -> None:
        """A file that was made: `key` is what its names have in common."""
        if len(self._known) < MAX_LINKED:
            self._known[key] = (os.dup(fd), first)

    def make(self, key: Hashable, folder: int, name: str) -> str | None:
        """Another name in place of what is there; answers the first one, None when the file is to be copied."""
        if key not in self._known:
            return None
        fd, first = self._known[key]
        self._target.unlink(folder, name)
        try:
            # By its descriptor: its name may be another file's by now, through a link between folders of the target.
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder)
        except OSError as error:
            # It has no name any more, is written below the mount and this one through it, or has too many names.
            if error.errno in {errno.ENOENT, errno.EXDEV, errno.EMLINK}:
                os.close(self._known.pop(key)[0])
                return None
            raise
        return first

    def forget(self) -> None:
        """At the end of a source."""
        for fd, _ in self._known.values():
            os.close(fd)
        self._known.clear()


def open_tree(root: JsonObject) -> int:
    """The mount of a tree, writable when it has an upper directory; the caller's to close."""
    path = get_str(root, "path")
    if path:
        return open_root(DirectoryRoot(path))
    lowers = get_strings(root, "lowers")
    upper, work = get_str(root, "upper"), get_str(root, "work")
    return open_root(OverlayRoot(lowers, upper, work, volatile=bool(upper)))


def encode_path(path: str) -> bytes:
    """A path as openat2 takes it, below a root's descriptor."""
    return os.fsencode(path.strip("/") or ".")


def write_all(fd: int, data: bytes) -> None:
    """All of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
