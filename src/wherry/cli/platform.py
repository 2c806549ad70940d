"""`linux/arm64/v8` as the Engine API takes it."""

from __future__ import annotations

from wherry.cli.errors import CommandFailed
from wherry.client.document import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.document import Document


def encode_platform(text: str, head: str = "invalid platform: ") -> str:
    """A platform as an encoded JSON object; empty for none."""
    if not text:
        return ""
    from wherry.model.errors import InvalidArgument
    from wherry.model.platforms import parse_platform

    try:
        platform = parse_platform(text)
    except InvalidArgument as exc:
        raise CommandFailed(f"{head}{exc}") from exc
    document: Document = {"os": platform.os, "architecture": platform.architecture}
    if platform.variant:
        document["variant"] = platform.variant
    return encode(document)
