"""Small read-only layers of the engine's own: mount points, and attributes of directories.

The *init layer* lies between an image and a container's upper directory and holds what the runtime will
mount over (pitfall 11), so that neither `diff` nor commit ever sees it. An *attribute layer* lies above a
layer whose archive uses directories without describing them, and repeats what is below. Both are named
by what they hold and shared by all who need the same.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wherry.image.content import remove_tree

_INIT_FOLDERS = ("dev", "dev/pts", "dev/shm", "etc", "proc", "sys")
_INIT_FILES = (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")
_INIT_LINKS = (("etc/mtab", "/proc/mounts"),)


@dataclass(frozen=True, slots=True)
class Attributes:
    """Of a directory."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int | None = None  # None: when it is made
    xattrs: tuple[tuple[str, bytes], ...] = field(default=())


PLAIN = Attributes()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stub:
    path: str
    attributes: Attributes = PLAIN
    kind: int = stat.S_IFDIR
    target: str = ""


class StubLayers:
    """ROOT/stubs/<hash>: made when first asked for, kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for half_made in folder.glob(".new-*"):
            remove_tree(half_made)

    def init_layer(self, lowers: Sequence[Path], root: Attributes) -> Path:
        """The mount points for an image whose trees are `lowers`, topmost first."""
        stubs = [_Stub(path="", attributes=root)]
        for path in _INIT_FOLDERS:
            attributes = find_directory(lowers, path)
            stubs.append(_Stub(path=path, attributes=attributes or PLAIN))
        stubs += [_Stub(path=path, kind=stat.S_IFREG) for path in _INIT_FILES]
        stubs += [_Stub(path=path, kind=stat.S_IFLNK, target=to) for path, to in _INIT_LINKS]
        return self._ensure(stubs)

    def empty_layer(self) -> Path:
        """An empty directory: overlayfs wants two lower layers where there is no upper."""
        return self._ensure([_Stub(path="")])

    def attribute_layer(self, paths: Iterable[str], lowers: Sequence[Path]) -> Path | None:
        """The directories of `paths` as `lowers` have them; None when the defaults are right."""
        stubs: list[_Stub] = []
        differs = False
        for path in paths:
            attributes = find_directory(lowers, path)
            if attributes is None:
                continue
            stubs.append(_Stub(path=path, attributes=attributes))
            plain = (attributes.mode, attributes.uid, attributes.gid) == (0o755, 0, 0)
            differs = differs or not plain or bool(attributes.xattrs)
        if not differs:
            return None
        root = root_attributes(lowers)
        return self._ensure([_Stub(path="", attributes=root), *stubs])

    def _ensure(self, stubs: list[_Stub]) -> Path:
        document = [
            (
                stub.path,
                stub.kind,
                stub.target,
                stub.attributes.mode,
                stub.attributes.uid,
                stub.attributes.gid,
                stub.attributes.mtime_ns,
                [(name, value.hex()) for name, value in stub.attributes.xattrs],
            )
            for stub in stubs
        ]
        name = hashlib.sha256(json.dumps(document).encode()).hexdigest()[:32]
        target = self._folder / name
        if target.is_dir():
            return target
        # A name of its own: the steps of a build ask for the same layer from several threads at once.
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        temporary.chmod(0o755)
        for stub in stubs:
            _make(temporary, stub)
        for stub in reversed(stubs):  # children before their directory, whose times they change
            if stub.kind == stat.S_IFDIR:
                set_attributes(temporary / stub.path, stub.attributes)
        # Not synced: there is no file data in it, and journals keep the order of names, so that after a
        # power cut the folder is whole or not there. A sync here would be felt in `create`.
        try:
            temporary.rename(target)
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise
            remove_tree(temporary)  # another thread was sooner
        return target


def find_directory(lowers: Sequence[Path], path: str) -> Attributes | None:
    """A directory as the merged trees show it; None when it is not there or is something else.

    Only single names of read-only trees are looked at, none of which is a symlink: nothing is followed.
    """
    parts = path.split("/")
    for lower in lowers:
        place = lower
        hidden = False
        for part in parts:
            place /= part
            try:
                status = place.lstat()
            except (FileNotFoundError, NotADirectoryError):
                break
            if not stat.S_ISDIR(status.st_mode):
                return None
            hidden = hidden or _is_opaque(place)
        else:
            return read_attributes(place)
        if hidden:
            return None
    return None


def root_attributes(lowers: Sequence[Path]) -> Attributes:
    """Of the topmost root."""
    return read_attributes(lowers[0]) if lowers else PLAIN


def read_attributes(path: Path) -> Attributes:
    """What a directory has, without overlay's own attributes."""
    status = path.lstat()
    names = [
        name
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith(("trusted.overlay.", "user.overlay."))
    ]
    return Attributes(
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        xattrs=tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names),
    )


def set_attributes(path: Path, attributes: Attributes) -> None:
    """Gives a directory of ours these attributes; those that this file system cannot hold are left out."""
    os.chown(path, attributes.uid, attributes.gid)
    path.chmod(attributes.mode)
    for name, value in attributes.xattrs:
        try:
            os.setxattr(path, name, value)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
    if attributes.mtime_ns is not None:
        os.utime(path, ns=(attributes.mtime_ns, attributes.mtime_ns))


def _make(root: Path, stub: _Stub) -> None:
    place = root / stub.path
    if stub.kind == stat.S_IFDIR:
        place.mkdir(exist_ok=True)
    elif stub.kind == stat.S_IFLNK:
        place.symlink_to(stub.target)
    else:
        place.touch(mode=0o755)
        place.chmod(0o755)


def _is_opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False
