"""How layers travel: the options that BuildKit calls compression, compression-level and force-compression."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from wherry.image.config import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from wherry.lib.booleans import BOOLEANS
from wherry.model.errors import InvalidArgument

_MEDIA_TYPES = {"uncompressed": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}
_INTEGER = re.compile("[+-]?[0-9]{1,9}")
_GZIP_LEVELS = range(-1, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """`force` is for layers that are here in another form already."""

    kind: str = "gzip"
    level: int | None = None
    force: bool = False

    @property
    def media_type(self) -> str:
        """Of a layer of this kind."""
        return _MEDIA_TYPES[self.kind]

    def is_kind_of(self, media_type: str) -> bool:
        """Whether a layer of this type, OCI's or Docker's, is of this kind."""
        kind = next((kind for kind in ("gzip", "zstd") if media_type.endswith(kind)), "")
        return (kind or "uncompressed") == self.kind


GZIP = Compression()


def parse_compression(attributes: Mapping[str, str]) -> Compression | None:
    """What the attributes of an option ask for; None when that is nothing. Raises InvalidArgument."""
    kind = attributes.get("compression", "")
    level = attributes.get("compression-level", "")
    force = parse_flag(attributes, "force-compression")
    if kind not in {"", *_MEDIA_TYPES}:
        raise InvalidArgument(f"unsupported compression type {kind}")
    if level and not _INTEGER.fullmatch(level):
        raise InvalidArgument(f"non-integer value {level} specified for compression-level")
    number = int(level) if level else None
    if not kind and number is None and not force:
        return None
    if kind in {"", "gzip"} and number is not None and number not in _GZIP_LEVELS:
        raise InvalidArgument(f"gzip: invalid compression level: {number}")
    return Compression(kind=kind or "gzip", level=number, force=force)


def parse_flag(attributes: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """A boolean attribute. Raises InvalidArgument."""
    text = attributes.get(name, "")
    value = BOOLEANS.get(text) if text else default
    if value is None:
        raise InvalidArgument(f"non-bool value {text} specified for {name}")
    return value
