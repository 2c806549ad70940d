"""The only place that writes to standard output and error.

Writes go straight to the descriptors: no text layer whose encoding depends on the locale, nothing
left in a buffer when the process ends. Bytes that were not UTF-8 on the command line come back as
they were.
"""

from __future__ import annotations

import os


def write_out(text: str) -> None:
    """Writes to standard output."""
    write_all(1, text.encode("utf-8", "surrogateescape"))


def write_error(text: str) -> None:
    """Writes to standard error; a closed one is not worth an error."""
    try:
        write_all(2, text.encode("utf-8", "surrogateescape"))
    except OSError:
        pass


def line_out(text: str = "") -> None:
    """Writes a line to standard output."""
    write_all(1, text.encode("utf-8", "surrogateescape") + b"\n")


def line_error(text: str) -> None:
    """Writes a line to standard error."""
    write_error(text + "\n")


def write_all(fd: int, data: bytes) -> None:
    """Writes everything, also to a descriptor that somebody made non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            import select

            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()


def is_terminal(fd: int) -> bool:
    """True if the descriptor is a terminal."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def ask(question: str, *, default: bool = False) -> bool:
    """Asks for y or n on standard input, as Docker's prune verbs do."""
    write_out(f"{question} [{'Y/n' if default else 'y/N'}] ")
    answer = b""
    while not answer.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            break
        answer += piece
    word = str(answer, "utf-8", "replace").strip().lower()
    if not word:
        return default
    return word in {"y", "yes"}
