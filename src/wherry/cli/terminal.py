"""The terminal of the person: raw mode, and its size."""

from __future__ import annotations

import fcntl
import sys
import termios


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
