"""Archives by their first bytes, as programs that take a tar of any compression know them."""

from __future__ import annotations

HEAD_BYTES = 512  # as many are looked at
_MAGICS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd


def is_compressed(head: bytes) -> bool:
    """Whether something that begins so is packed."""
    return head.startswith(_MAGICS)


def is_tar(head: bytes) -> bool:
    """Whether something that begins so is a tar that is not packed."""
    return head[257:262] == b"ustar"


def is_archive(head: bytes) -> bool:
    """Whether something that begins so may be a tar, packed or not."""
    return is_compressed(head) or is_tar(head)
