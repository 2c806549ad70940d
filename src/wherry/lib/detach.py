"""Detach keys: "ctrl-p,ctrl-q" as bytes, and the scanner that finds them in what a client types.

Pure. The grammar is Docker's (github.com/moby/term ascii.go). Unlike Docker's scanner, a key that breaks
a begun sequence may begin it anew: ctrl-p ctrl-p ctrl-q detaches.
"""

from __future__ import annotations

DEFAULT_DETACH_KEYS = b"\x10\x11"  # ctrl-p,ctrl-q

_NAMED_KEYS = {
    "DEL": 127,
    "ctrl-@": 0,
    **{f"ctrl-{chr(ord('a') + index)}": index + 1 for index in range(26)},
    "ctrl-[": 27,
    "ctrl-\\": 28,
    "ctrl-]": 29,
    "ctrl-^": 30,
    "ctrl-_": 31,
}


class InvalidDetachKeys(ValueError):
    """The text names a key that does not exist; the message is Docker's."""


def parse_detach_keys(text: str) -> bytes:
    """The bytes of "a,ctrl-x,…"; the default for empty text. Raises InvalidDetachKeys."""
    if not text:
        return DEFAULT_DETACH_KEYS
    keys = bytearray()
    for name in text.split(","):
        if name in _NAMED_KEYS:
            keys.append(_NAMED_KEYS[name])
        elif len(name.encode("utf-8", "surrogateescape")) == 1:
            keys += name.encode()
        else:
            raise InvalidDetachKeys(f"Unknown character: '{name}'")
    return bytes(keys)


class DetachScanner:
    """Finds the keys in a stream that comes in pieces; holds back a begun sequence until it is decided."""

    __slots__ = ("_keys", "_matched")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the keys were complete (the rest of `data` is then dropped)."""
        keys = self._keys
        if not keys:
            return data, False
        held = keys[: self._matched]
        buffer = held + data
        found = buffer.find(keys)
        if found >= 0:
            self._matched = 0
            return buffer[:found], True
        self._matched = next(
            size
            for size in range(min(len(keys) - 1, len(buffer)), -1, -1)
            if buffer.endswith(keys[:size])
        )
        return buffer[: len(buffer) - self._matched], False
