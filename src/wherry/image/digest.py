"""Content digests, `algorithm:hex`, as OCI's image-spec "descriptor.md#digests" defines them."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from wherry.model.digest import Digest
from wherry.model.errors import InvalidArgument

if TYPE_CHECKING:
    from hashlib import _Hash

_SHAPE = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]+", re.ASCII)
_HEX_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


class InvalidDigest(InvalidArgument):
    """The text is no digest, or of an algorithm that nobody here can compute."""


def parse_digest(text: str) -> Digest:
    """The digest that `text` spells. Its parts are then safe as names of files."""
    algorithm, _, value = text.partition(":")
    if _SHAPE.fullmatch(text) is None:
        raise InvalidDigest("invalid checksum digest format")
    length = _HEX_LENGTHS.get(algorithm)
    if length is None:
        raise InvalidDigest("unsupported digest algorithm")
    if len(value) != length:
        raise InvalidDigest("invalid checksum digest length")
    if value != value.lower():
        raise InvalidDigest("invalid checksum digest format")
    return Digest(text)


def split_digest(digest: Digest) -> tuple[str, str]:
    """(algorithm, hex)."""
    algorithm, _, value = digest.partition(":")
    return algorithm, value


def new_hash(digest: Digest) -> _Hash:
    """A running hash of the digest's algorithm."""
    return hashlib.new(split_digest(digest)[0], usedforsecurity=True)


def digest_of(data: bytes) -> Digest:
    """The sha256 digest of some bytes."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def matches(digest: Digest, data: bytes) -> bool:
    """Whether the bytes are what the digest names."""
    running = new_hash(digest)
    running.update(data)
    return running.hexdigest() == split_digest(digest)[1]
