"""Writes an EROFS index over a layer's tar: file data stays in the tar, which is external device 1.

Theory of operation. The image has 512-byte blocks, so that a tar's member is a whole number of them and
a file's inode can point into the tar. All inodes are plain or inline ("flat"): the tar is mapped at block
`_MAPPED` of one address space, which beats chunk-based inodes in size and speed, and reads give EIO, not
wrong bytes, when the device is missing at mount. Inodes come first, breadth first from the root (whose
number must fit 16 bits), then the blocks of long directories and long symlinks. A directory's content
holds the numbers of its children, so its place is reserved when it is met and filled in at the end.

Format: Linux, fs/erofs/erofs_fs.h, whose names are used here. What it does not say, and fsck.erofs or the
kernel insist on: an inline tail lies in the block of its inode; `.` and `..` are sorted among the names;
xattr bodies of just the header are invalid; compact inodes take the superblock's time; the checksum
covers the rest of the block in which the superblock is.
"""

from __future__ import annotations

import hashlib
import stat
import struct
from collections import Counter

from wherry.image.layer.tree import Directory, LayerError, LayerTree, Node, Xattrs

_BLOCK_BITS = 9
_BLOCK = 1 << _BLOCK_BITS
_MAPPED = 1 << 24  # 8 GiB of addresses are kept for metadata
_MAX_BLOCKS = 1 << 32

_EROFS_SUPER_OFFSET = 1024
_DEVICE_SLOT_OFFSET = _EROFS_SUPER_OFFSET + 128
_META_OFFSET = _DEVICE_SLOT_OFFSET + 128
_EROFS_SUPER_MAGIC_V1 = 0xE0F5E1E2
_EROFS_FEATURE_COMPAT_SB_CHKSUM = 1
_EROFS_FEATURE_COMPAT_MTIME = 2
_EROFS_FEATURE_INCOMPAT_DEVICE_TABLE = 8
_EROFS_INODE_FLAT_PLAIN = 0
_EROFS_INODE_FLAT_INLINE = 2
_SLOT = 32  # inode numbers count these

_FT_DIR = 2
_FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: _FT_DIR,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
_XATTR_PREFIXES = ((b"user.", 1), (b"trusted.", 4), (b"security.", 6))
_XATTR_WHOLE = {b"system.posix_acl_access": 2, b"system.posix_acl_default": 3}
_MAX_SHARED_PER_INODE = 255
_MAX_XATTR_UNITS = 65535

_COMPACT_INODE = struct.Struct("<HHHHIIIIHHI")
_EXTENDED_INODE = struct.Struct("<HHHHQIIIIQII16x")
_DIRENT_SIZE = 12
_SUPER_BLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")
_DEVICE_SLOT = struct.Struct("<64sII56x")


class IndexUnsupported(Exception):
    """The tree is sound, but an index cannot hold it; the layer must be unpacked."""


class _Place:
    """A directory whose inode has its place and whose content is not written yet."""

    __slots__ = (
        "directory",
        "inline",
        "names",
        "nid",
        "number",
        "numbers",
        "parent",
        "part",
        "xattr",
    )

    def __init__(self, directory: Directory, parent: _Place | None) -> None:
        self.directory = directory
        self.parent = parent or self
        self.names = sorted((b".", b"..", *directory.children))
        self.numbers: list[tuple[int, int]] = []  # (nid, file type) of each name
        self.nid = 0
        self.number = 0
        self.part = 0
        self.inline = False
        self.xattr = b""


def build_index(tree: LayerTree, tar_size: int) -> bytes:
    """The whole index of a finished tree. Raises IndexUnsupported, LayerError."""
    if _MAPPED + (tar_size >> _BLOCK_BITS) >= _MAX_BLOCKS:
        raise IndexUnsupported("the layer is larger than 2 TiB")
    return _IndexWriter(tree, tar_size).build()


class _IndexWriter:
    def __init__(self, tree: LayerTree, tar_size: int) -> None:
        self._tree = tree
        self._tar_size = tar_size
        self._parts: list[bytes] = []
        self._position = _META_OFFSET
        self._inodes = 0
        self._shared: dict[tuple[bytes, bytes], int] = {}
        self._files: dict[int, int] = {}  # id of a node with several names -> nid
        self._long_links: list[tuple[int, Node, bytes, int]] = []
        self._epoch_ns = 0

    def build(self) -> bytes:
        self._survey()
        places = [self._place(self._tree.root, None)]
        for place in places:
            children = place.directory.children
            for name in place.names:
                node = children.get(name)
                if node is None:  # "." and "..", filled in when every number is known
                    place.numbers.append((0, _FT_DIR))
                elif isinstance(node, Directory):
                    below = self._place(node, place)
                    places.append(below)
                    place.numbers.append((below.nid, _FT_DIR))
                else:
                    kind = _FILE_TYPES[stat.S_IFMT(node.mode)]
                    place.numbers.append((self._file(node), kind))
        root_nid = places[0].nid
        if root_nid > 0xFFFF:
            raise IndexUnsupported("too many shared extended attributes")
        self._pad_to(_BLOCK)
        block = self._position >> _BLOCK_BITS
        for place in places:
            block += self._fill_directory(place, block)
        for part, node, xattr, number in self._long_links:
            head = self._inode(
                node, number, _EROFS_INODE_FLAT_PLAIN, node.size, block, len(xattr), node.links
            )
            self._parts[part] = _padded(head + xattr, _SLOT)
            self._parts.append(_padded(node.target, _BLOCK))
            block += _blocks(node.size)
        return self._assemble(root_nid)

    def _survey(self) -> None:
        """Finds the commonest time (inodes that have it are compact) and the attributes worth sharing."""
        times: Counter[int] = Counter()
        xattrs: Counter[tuple[bytes, bytes]] = Counter()
        for directory in self._tree.directories():
            times[directory.mtime_ns] += 1
            xattrs.update(directory.overlay_xattrs())
            for node in directory.children.values():
                if not isinstance(node, Directory):
                    times[node.mtime_ns] += 1
                    xattrs.update(node.xattrs)
        whole = [time for time in times if time % 1_000_000_000 == 0]
        self._epoch_ns = max(whole, key=lambda time: (times[time], time), default=0)
        for pair in sorted(pair for pair, count in xattrs.items() if count > 1):
            self._shared[pair] = self._position >> 2
            self._append(_xattr_entry(*pair))
        self._pad_to(_SLOT)

    def _append(self, data: bytes) -> None:
        self._parts.append(data)
        self._position += len(data)

    def _pad_to(self, unit: int) -> None:
        self._append(bytes(-self._position % unit))

    def _xattr_body(self, xattrs: Xattrs) -> bytes:
        if not xattrs:
            return b""
        shared: list[int] = []
        entries: list[bytes] = []
        for pair in xattrs:
            at = self._shared.get(pair)
            if at is not None and len(shared) < _MAX_SHARED_PER_INODE:
                shared.append(at)
            else:
                entries.append(_xattr_entry(*pair))
        body = struct.pack(f"<IB7x{len(shared)}I", 0, len(shared), *shared) + b"".join(entries)
        if (len(body) - 12 >> 2) + 1 > _MAX_XATTR_UNITS:
            raise LayerError("extended attributes of a file are too large")
        return body

    def _is_compact(self, node: Node, size: int, links: int) -> bool:
        return (
            node.mtime_ns == self._epoch_ns
            and node.uid < 1 << 16
            and node.gid < 1 << 16
            and size < 1 << 32
            and links < 1 << 16
        )

    def _inode(
        self,
        node: Node,
        number: int,
        layout: int,
        size: int,
        data: int,
        xattr_size: int,
        links: int,
    ) -> bytes:
        """`data` is i_u: the first block, or the device number."""
        units = (xattr_size - 12 >> 2) + 1 if xattr_size else 0
        if self._is_compact(node, size, links):
            return _COMPACT_INODE.pack(
                layout << 1, units, node.mode, links, size, 0, data, number, node.uid, node.gid, 0
            )
        seconds, nanoseconds = divmod(node.mtime_ns, 1_000_000_000)
        return _EXTENDED_INODE.pack(
            layout << 1 | 1,
            units,
            node.mode,
            0,
            size,
            data,
            number,
            node.uid,
            node.gid,
            seconds & 0xFFFF_FFFF_FFFF_FFFF,
            nanoseconds,
            links,
        )

    def _place(self, directory: Directory, parent: _Place | None) -> _Place:
        place = _Place(directory, parent)
        self._inodes += 1
        place.number = self._inodes
        place.xattr = self._xattr_body(directory.overlay_xattrs())
        tail = _tail_size(place.names)
        # The number of links is that of the names at most; an inode that may need the long form gets it.
        compact = self._is_compact(directory, 0, len(place.names))
        head = (32 if compact else 64) + len(place.xattr)
        place.inline = head + tail <= _BLOCK
        reserved = head + tail if place.inline else head
        self._avoid_crossing(reserved if place.inline else 0)
        place.nid = self._position // _SLOT
        place.part = len(self._parts)
        self._parts.append(b"")
        self._position += reserved + -reserved % _SLOT
        return place

    def _avoid_crossing(self, length: int) -> None:
        if self._position % _BLOCK + length > _BLOCK:
            self._pad_to(_BLOCK)

    def _file(self, node: Node) -> int:
        """Writes the inode of anything but a directory; returns its number."""
        if node.links > 1 and (known := self._files.get(id(node))) is not None:
            return known
        self._inodes += 1
        xattr = self._xattr_body(node.xattrs)
        layout, data, tail = _EROFS_INODE_FLAT_PLAIN, 0, b""
        kind = stat.S_IFMT(node.mode)
        if kind == stat.S_IFREG:
            if node.extents is not None:
                raise IndexUnsupported("the layer has a sparse file")
            if node.size:
                data = _MAPPED + (node.offset >> _BLOCK_BITS)
        elif kind == stat.S_IFLNK:
            head = (32 if self._is_compact(node, node.size, node.links) else 64) + len(xattr)
            if head + node.size > _BLOCK:
                return self._long_link(node, xattr, head)
            layout, tail = _EROFS_INODE_FLAT_INLINE, node.target
            self._avoid_crossing(head + node.size)
        elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
            major, minor = node.device
            data = (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12
        nid = self._position // _SLOT
        if node.links > 1:
            self._files[id(node)] = nid
        head_bytes = self._inode(
            node, self._inodes, layout, node.size, data, len(xattr), node.links
        )
        self._append(_padded(head_bytes + xattr + tail, _SLOT))
        return nid

    def _long_link(self, node: Node, xattr: bytes, head: int) -> int:
        nid = self._position // _SLOT
        if node.links > 1:
            self._files[id(node)] = nid
        self._long_links.append((len(self._parts), node, xattr, self._inodes))
        self._parts.append(b"")
        self._position += head + -head % _SLOT
        return nid

    def _fill_directory(self, place: _Place, block: int) -> int:
        """Writes a directory's inode and content; returns how many whole blocks follow from `block` on."""
        for index, name in enumerate(place.names):
            if name == b".":
                place.numbers[index] = (place.nid, _FT_DIR)
            elif name == b"..":
                place.numbers[index] = (place.parent.nid, _FT_DIR)
        pieces = _dirent_blocks(place.names, place.numbers)
        size = (len(pieces) - 1) * _BLOCK + len(pieces[-1])
        tail = pieces.pop() if place.inline else b""
        layout = _EROFS_INODE_FLAT_INLINE if place.inline else _EROFS_INODE_FLAT_PLAIN
        links = sum(kind == _FT_DIR for _, kind in place.numbers)
        head = self._directory_inode(place, layout, size, block if pieces else 0, links)
        self._parts[place.part] = _padded(head + place.xattr + tail, _SLOT)
        self._parts.extend(_padded(piece, _BLOCK) for piece in pieces)
        return len(pieces)

    def _directory_inode(
        self, place: _Place, layout: int, size: int, block: int, links: int
    ) -> bytes:
        head = self._inode(
            place.directory, place.number, layout, size, block, len(place.xattr), links
        )
        compact = self._is_compact(place.directory, 0, len(place.names))
        if len(head) != (32 if compact else 64):
            raise IndexUnsupported("a directory has too many names")
        return head

    def _assemble(self, root_nid: int) -> bytes:
        body = b"".join(self._parts)
        # Whole pages, so that a loop device or a page-sized reader finds no short block.
        padding = -(_META_OFFSET + len(body)) % 4096
        total = _META_OFFSET + len(body) + padding
        if total >> _BLOCK_BITS > _MAPPED:
            raise IndexUnsupported("the layer has too many files")
        uuid = bytearray(hashlib.blake2b(body, digest_size=16).digest())
        uuid[6] = uuid[6] & 0x0F | 0x80
        uuid[8] = uuid[8] & 0x3F | 0x80
        seconds, nanoseconds = divmod(self._epoch_ns, 1_000_000_000)
        super_block = _SUPER_BLOCK.pack(
            _EROFS_SUPER_MAGIC_V1,
            0,
            _EROFS_FEATURE_COMPAT_SB_CHKSUM | _EROFS_FEATURE_COMPAT_MTIME,
            _BLOCK_BITS,
            0,
            root_nid,
            self._inodes,
            seconds & 0xFFFF_FFFF_FFFF_FFFF,
            nanoseconds,
            total >> _BLOCK_BITS,
            0,
            0,
            bytes(uuid),
            b"",
            _EROFS_FEATURE_INCOMPAT_DEVICE_TABLE,
            0,
            1,
            _DEVICE_SLOT_OFFSET >> 7,
            0,
            0,
            0,
            0,
            0,
        )
        device = _DEVICE_SLOT.pack(b"", _blocks(self._tar_size), _MAPPED)
        head = bytearray(_EROFS_SUPER_OFFSET) + super_block + device
        first = (bytes(head[_EROFS_SUPER_OFFSET:]) + body)[:_BLOCK].ljust(_BLOCK, b"\0")
        head[_EROFS_SUPER_OFFSET + 4 : _EROFS_SUPER_OFFSET + 8] = _crc32c(first).to_bytes(
            4, "little"
        )
        return b"".join((head, body, bytes(padding)))


def _blocks(size: int) -> int:
    return size + _BLOCK - 1 >> _BLOCK_BITS


def _padded(data: bytes, unit: int) -> bytes:
    return data + bytes(-len(data) % unit)


def _xattr_entry(name: bytes, value: bytes) -> bytes:
    index = _XATTR_WHOLE.get(name)
    if index is not None:
        suffix = b""
    else:
        prefix, index = next(pair for pair in _XATTR_PREFIXES if name.startswith(pair[0]))
        suffix = name[len(prefix) :]
    return _padded(struct.pack("<BBH", len(suffix), index, len(value)) + suffix + value, 4)


def _split_names(names: list[bytes]) -> list[list[bytes]]:
    """The names of each directory block: an entry and its name lie in one block."""
    blocks: list[list[bytes]] = [[]]
    room = _BLOCK
    for name in names:
        need = _DIRENT_SIZE + len(name)
        if need > room:
            blocks.append([])
            room = _BLOCK
        blocks[-1].append(name)
        room -= need
    return blocks


def _tail_size(names: list[bytes]) -> int:
    last = _split_names(names)[-1]
    return _DIRENT_SIZE * len(last) + sum(map(len, last))


def _dirent_blocks(names: list[bytes], numbers: list[tuple[int, int]]) -> list[bytes]:
    """Directory blocks, full but for the last: entries (nid, offset of the name, type), then the names."""
    pieces = []
    at = 0
    for block in _split_names(names):
        fields: list[int] = []
        offset = _DIRENT_SIZE * len(block)
        for name in block:
            nid, kind = numbers[at]
            fields += (nid, offset, kind)
            offset += len(name)
            at += 1
        pieces.append(struct.pack("<" + "QHBx" * len(block), *fields) + b"".join(block))
    return [*(_padded(piece, _BLOCK) for piece in pieces[:-1]), pieces[-1]]


def _crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) without the final complement, as EROFS stores it; for half a kilobyte."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F6_3B78 if crc & 1 else 0)
    return crc
