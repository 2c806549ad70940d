"""The tree that a layer's tar describes: every rule about what an entry may do is here, once.

Both drivers make their layer from this tree (an EROFS index, or directories), so that they agree by
construction, and no path of an archive ever reaches the file system: names are single components,
`..` cannot leave the root, symlinks met on the way are followed inside the tree only.

Whiteouts (OCI image-spec "layer.md#whiteouts"): `.wh.x` hides what lower layers have; an `x` of the
same layer stays, whatever the order, and is opaque when it is a directory. `.wh..wh..opq` makes its
directory opaque. A directory that entries use but that has no entry is `implicit`: the attributes
of the one below it apply, which only the composition of the image can know.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from wherry.lib.tar.reader import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Entry,
)

_WHITEOUT = b".wh."
_OPAQUE_MARK = b".wh..opq"  # after the prefix
_MAX_NAME = 255  # bytes of one component
_MAX_TARGET = 4095
_MAX_HOPS = 40
_MAX_ENTRIES = 2_000_000
_MAX_XATTR_VALUE = 65535
_OLDEST_NS = -(1 << 31) * 1_000_000_000  # what ext4 and xfs can hold
_NEWEST_NS = ((1 << 34) - (1 << 31) - 1) * 1_000_000_000
_OVERLAY_XATTRS = (b"trusted.overlay.", b"user.overlay.")
_XATTR_SPACES = (b"user.", b"trusted.", b"security.")
_ACL_XATTRS = frozenset((b"system.posix_acl_access", b"system.posix_acl_default"))
_FILE_TYPES = {
    REGULAR: stat.S_IFREG,
    SYMLINK: stat.S_IFLNK,
    CHARACTER_DEVICE: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
    FIFO: stat.S_IFIFO,
}

Xattrs = tuple[tuple[bytes, bytes], ...]


class LayerError(ValueError):
    """The layer's archive describes no tree that could exist."""


class Node:
    """A file of any type; a hard link is the same node under several names.

    `mode` has the file type. `offset` and `extents` say where a regular file's bytes are in the tar.
    """

    __slots__ = (
        "device",
        "extents",
        "gid",
        "links",
        "mode",
        "mtime_ns",
        "offset",
        "size",
        "target",
        "uid",
        "xattrs",
    )

    def __init__(self, mode: int, uid: int = 0, gid: int = 0, mtime_ns: int = 0) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.size = 0
        self.offset = 0
        self.extents: tuple[tuple[int, int], ...] | None = None
        self.target = b""
        self.device = (0, 0)
        self.xattrs: Xattrs = ()
        self.links = 1

    @property
    def is_whiteout(self) -> bool:
        """Overlay's mark for a name that the lower layers lose: a character device 0:0."""
        return stat.S_ISCHR(self.mode) and self.device == (0, 0)


class Directory(Node):
    """A directory and its children by name."""

    __slots__ = ("children", "has_whiteouts", "implicit", "opaque", "path")

    def __init__(self, path: bytes, *, implicit: bool) -> None:
        super().__init__(stat.S_IFDIR | 0o755)
        self.path = path
        self.implicit = implicit
        self.opaque = False
        self.has_whiteouts = False
        self.children: dict[bytes, Node] = {}

    def overlay_xattrs(self) -> Xattrs:
        """Its attributes with those that overlayfs reads.

        A directory that only one layer has is listed without a look for whiteouts unless it has an
        origin; an empty one means "copied up, from where is not known".
        """
        added = []
        if self.opaque:
            added.append((b"trusted.overlay.opaque", b"y"))
        if self.has_whiteouts:
            added.append((b"trusted.overlay.origin", b""))
        return tuple(sorted((*self.xattrs, *added))) if added else self.xattrs


class LayerTree:
    """Built entry by entry with `add`, completed by `finish`, then only read."""

    def __init__(self) -> None:
        self.root = Directory(b"", implicit=True)
        self.file_bytes = 0  # what the layer's files and symlinks hold, hard links counted once
        self._directories: dict[bytes, Directory] = {b"": self.root}
        self._whiteouts: list[tuple[Directory, bytes, int]] = []
        self._entries = 0

    def add(self, entry: Entry) -> None:
        """Takes one member of the tar in. Raises LayerError."""
        self._entries += 1
        if self._entries > _MAX_ENTRIES:
            raise LayerError(f"the layer has more than {_MAX_ENTRIES} entries")
        folder, name = self._locate(entry.path)
        if name.startswith(_WHITEOUT):
            self._add_whiteout(folder, name[len(_WHITEOUT) :], entry)
            return
        if len(name) > _MAX_NAME or b"\0" in name:
            raise LayerError(f"bad name {name[:80]!r}")
        if entry.type == DIRECTORY:
            self._add_directory(folder, name, entry)
            return
        if not name:
            raise LayerError("the root of the layer is not a directory")
        node = self._linked(entry) if entry.type == HARD_LINK else self._new_file(entry)
        old = folder.children.get(name)
        if old is node:
            return
        if isinstance(old, Directory):
            self._forget(old)
        if entry.type == HARD_LINK:
            node.links += 1
        if old is not None:
            old.links -= 1
        folder.children[name] = node

    def finish(self) -> None:
        """Applies the whiteouts; counts sizes."""
        for folder, name, mtime_ns in self._whiteouts:
            if self._directories.get(folder.path) is not folder:
                continue  # its directory was replaced later
            present = folder.children.get(name)
            if isinstance(present, Directory):
                present.opaque = True
            elif present is None and not folder.opaque:
                folder.children[name] = Node(stat.S_IFCHR, mtime_ns=_clamp_time(mtime_ns))
        self._whiteouts.clear()
        for folder in reversed(list(self.directories())):
            if folder.implicit:
                folder.mtime_ns = max(
                    (node.mtime_ns for node in folder.children.values()), default=0
                )
        seen: set[int] = set()
        for folder in self.directories():
            for node in folder.children.values():
                if node.is_whiteout:
                    folder.has_whiteouts = True
                elif not isinstance(node, Directory) and id(node) not in seen:
                    if node.links > 1:
                        seen.add(id(node))
                    self.file_bytes += node.size

    def directories(self) -> Iterator[Directory]:
        """All directories, each before those in it, in the order of names."""
        stack = [self.root]
        while stack:
            folder = stack.pop()
            yield folder
            stack.extend(
                child
                for _, child in sorted(folder.children.items(), reverse=True)
                if isinstance(child, Directory)
            )

    def implicit_paths(self) -> tuple[bytes, ...]:
        """The directories without an entry of their own, outermost first; the root is never among them."""
        return tuple(
            folder.path for folder in self.directories() if folder.implicit and folder.path
        )

    def _locate(self, path: bytes) -> tuple[Directory, bytes]:
        """(directory, last component); the last component of the root itself is empty."""
        if path[:2] == b"./":
            path = path[2:]
        path = path.rstrip(b"/")
        if not path or path[0] in b"./" or b"/." in path or b"//" in path:
            path = _clean(path)
        parent, _, name = path.rpartition(b"/")
        folder = self._directories.get(parent)
        return (self._walk(parent) if folder is None else folder), name

    def _walk(self, path: bytes) -> Directory:
        """The directory at `path`: missing ones are made, this layer's symlinks followed inside the root."""
        folder = self.root
        trail: list[bytes] = []
        todo = path.split(b"/")
        todo.reverse()
        hops = 0
        while todo:
            name = todo.pop()
            if not name or name == b".":
                continue
            if name == b"..":
                if trail:
                    trail.pop()
                folder = self._directories[b"/".join(trail)]
                continue
            if len(name) > _MAX_NAME:
                raise LayerError(f"bad name {name[:80]!r}")
            node = folder.children.get(name)
            if node is not None and stat.S_ISLNK(node.mode):
                hops += 1
                if hops > _MAX_HOPS:
                    raise LayerError(f"too many symlinks in {path[:80]!r}")
                if node.target.startswith(b"/"):
                    folder, trail = self.root, []
                todo.extend(reversed(node.target.split(b"/")))
                continue
            trail.append(name)
            if not isinstance(node, Directory):
                if node is not None:
                    node.links -= 1
                node = self._make_directory(folder, name, implicit=True)
            folder = node
        return folder

    def _make_directory(self, parent: Directory, name: bytes, *, implicit: bool) -> Directory:
        path = parent.path + b"/" + name if parent.path else name
        directory = Directory(path, implicit=implicit)
        parent.children[name] = directory
        self._directories[path] = directory
        self._entries += 1
        if self._entries > _MAX_ENTRIES:
            raise LayerError(f"the layer has more than {_MAX_ENTRIES} entries")
        return directory

    def _forget(self, directory: Directory) -> None:
        stack = [directory]
        while stack:
            gone = stack.pop()
            del self._directories[gone.path]
            for child in gone.children.values():
                if isinstance(child, Directory):
                    stack.append(child)
                else:
                    child.links -= 1

    def _add_whiteout(self, folder: Directory, name: bytes, entry: Entry) -> None:
        if name == _OPAQUE_MARK:
            folder.opaque = True
        elif name in {b".", b".."}:
            raise LayerError(f"bad whiteout {entry.path[:80]!r}")
        elif (
            name and not name.startswith(_WHITEOUT) and len(name) <= _MAX_NAME and b"\0" not in name
        ):
            self._whiteouts.append((folder, name, entry.mtime_ns))

    def _add_directory(self, parent: Directory, name: bytes, entry: Entry) -> None:
        if not name:
            directory = self.root
        else:
            old = parent.children.get(name)
            if isinstance(old, Directory):
                directory = old
            else:
                if old is not None:
                    old.links -= 1
                directory = self._make_directory(parent, name, implicit=False)
        directory.implicit = False
        directory.mode = stat.S_IFDIR | entry.mode
        directory.uid, directory.gid = entry.uid, entry.gid
        directory.mtime_ns = _clamp_time(entry.mtime_ns)
        directory.xattrs = _own_xattrs(entry)

    def _new_file(self, entry: Entry) -> Node:
        kind = _FILE_TYPES[entry.type]
        node = Node(kind | entry.mode, entry.uid, entry.gid, _clamp_time(entry.mtime_ns))
        node.xattrs = _own_xattrs(entry)
        if kind == stat.S_IFREG:
            node.size, node.offset, node.extents = entry.size, entry.offset, entry.extents
        elif kind == stat.S_IFLNK:
            if not entry.link or len(entry.link) > _MAX_TARGET or b"\0" in entry.link:
                raise LayerError(f"bad symlink target of {entry.path[:80]!r}")
            node.mode = kind | 0o777
            node.target = entry.link
            node.size = len(entry.link)
        elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
            major, minor = entry.device
            if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
                raise LayerError(f"device number of {entry.path[:80]!r} is out of range")
            node.device = entry.device
        return node

    def _linked(self, entry: Entry) -> Node:
        parent, name = self._locate(entry.link)
        node = parent.children.get(name)
        if node is None or isinstance(node, Directory):
            raise LayerError(
                f"hard link {entry.path[:80]!r} to {entry.link[:80]!r}, which is not a file of this layer"
            )
        return node


def _clamp_time(mtime_ns: int) -> int:
    return min(max(mtime_ns, _OLDEST_NS), _NEWEST_NS)


def _clean(path: bytes) -> bytes:
    """The path without empty, `.` and `..` components; `..` cannot leave the root."""
    kept: list[bytes] = []
    for component in path.split(b"/"):
        if component == b"..":
            if kept:
                kept.pop()
        elif component and component != b".":
            kept.append(component)
    return b"/".join(kept)


def _own_xattrs(entry: Entry) -> Xattrs:
    """The attributes that a file system can hold; overlay's own never come from an archive."""
    if not entry.xattrs:
        return ()
    kept = []
    for name, value in entry.xattrs.items():
        if name.startswith(_OVERLAY_XATTRS) or b"\0" in name:
            continue
        space = next((prefix for prefix in _XATTR_SPACES if name.startswith(prefix)), None)
        if name not in _ACL_XATTRS and (space is None or len(name) == len(space)):
            continue
        if len(name) > _MAX_NAME or len(value) > _MAX_XATTR_VALUE:
            raise LayerError(f"extended attribute of {entry.path[:80]!r} is too large")
        kept.append((name, value))
    return tuple(sorted(kept))
