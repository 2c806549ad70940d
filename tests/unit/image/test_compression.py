"""What the attributes of --output and --cache-to say of compression, and what they cannot say."""

from __future__ import annotations

import pytest

from wherry.image.compression import Compression, parse_compression
from wherry.model.errors import InvalidArgument


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"compression": "zstd"}, Compression(kind="zstd")),
        ({"compression-level": "9"}, Compression(level=9)),
        ({"compression-level": "-1"}, Compression(level=-1)),
        (
            {"compression": "zstd", "compression-level": "22", "force-compression": "true"},
            Compression(kind="zstd", level=22, force=True),
        ),
    ],
)
def test_what_is_asked_for(attributes: dict[str, str], expected: Compression | None) -> None:
    assert parse_compression(attributes) == expected


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"compression": "estargz"}, "unsupported compression type estargz"),
        ({"compression-level": "10"}, "gzip: invalid compression level: 10"),
        ({"force-compression": "maybe"}, "non-bool value maybe specified for force-compression"),
        *(
            ({"compression-level": text}, f"non-integer value {text} specified")
            for text in ("high", "1_0", " 1", "\uff11", "1" * 5000)
        ),
    ],
)
def test_what_cannot_be(attributes: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        parse_compression(attributes)
