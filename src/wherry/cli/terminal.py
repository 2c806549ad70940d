"""The terminal of the person: raw mode, its size, and the keys that detach."""

from __future__ import annotations

import fcntl
import sys
import termios

DEFAULT_DETACH_KEYS = b"\x10\x11"


class RawTerminal:
    """Puts a terminal in raw mode and back; restoring twice is harmless."""

    __slots__ = ("_fd", "_saved")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[object] | None = None

    def enter(self) -> None:
        """Every key goes through, nothing is echoed."""
        attributes = termios.tcgetattr(self._fd)
        self._saved = list(attributes)
        attributes[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        attributes[1] &= ~termios.OPOST
        attributes[2] = (attributes[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        attributes[3] &= ~(
            termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN
        )
        attributes[6] = list(attributes[6])
        attributes[6][termios.VMIN] = 1
        attributes[6][termios.VTIME] = 0
        termios.tcsetattr(self._fd, termios.TCSANOW, attributes)

    def restore(self) -> None:
        """As it was before `enter`."""
        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        try:
            # tcgetattr's own list; its element types are not worth naming.
            termios.tcsetattr(self._fd, termios.TCSANOW, saved)  # type: ignore[arg-type]
        except termios.error:
            pass


def terminal_size(fd: int) -> tuple[int, int]:
    """Rows and columns; zeros if it is no terminal."""
    try:
        size = fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)
    except OSError:
        return 0, 0
    return (
        int.from_bytes(size[0:2], sys.byteorder),
        int.from_bytes(size[2:4], sys.byteorder),
    )


def parse_detach_keys(text: str) -> bytes:
    """The bytes of `ctrl-p,ctrl-q` or `a,b`; raises ValueError."""
    keys = bytearray()
    for name in text.split(","):
        if len(name) == 1:
            keys += name.encode()
        elif name.startswith("ctrl-") and len(name) == 6:
            key = name[5]
            if "a" <= key <= "z":
                keys.append(ord(key) - ord("a") + 1)
            elif key in "@[\\]^_":
                keys.append("@".index(key) if key == "@" else 27 + "[\\]^_".index(key))
            else:
                raise ValueError(f"Unknown character: '{key}'")
        else:
            raise ValueError(f"Unknown character: '{name}'")
    return bytes(keys)


class DetachFilter:
    """Finds the detach keys in what is typed; holds back what may become them."""

    __slots__ = ("_keys", "_matched")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes to the container, and True when the keys are complete."""
        keys = self._keys
        if not keys or (not self._matched and keys[0] not in data):
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == keys[self._matched]:
                self._matched += 1
                if self._matched == len(keys):
                    return bytes(passed), True
                continue
            if self._matched:
                passed += keys[: self._matched]
                self._matched = 1 if byte == keys[0] else 0
                if self._matched:
                    continue
            passed.append(byte)
        return bytes(passed), False
