"""`linux/arm64/v8` as the Engine API takes it."""

from __future__ import annotations

from wherry.cli.errors import CommandFailed
from wherry.client.document import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.document import Document


def encode_platform(text: str) -> str:
    """A platform as an encoded JSON object; empty for none."""
    if not text:
        return ""
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(parts):
        raise CommandFailed(
            f'invalid platform: "{text}": cannot parse platform specifier: invalid argument'
        )
    names = ("os", "architecture", "variant") if len(parts) > 1 else ("os",)
    document: Document = dict(zip(names, parts, strict=False))
    return encode(document)
