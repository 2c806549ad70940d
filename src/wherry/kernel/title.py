"""The command line that ps shows of this process: replaced in place, as setproctitle(3) does.

A forked process shares its parent's command line; this is how it says what it is.
"""

from __future__ import annotations

import ctypes


class TitleRoom:
    """Where the kernel finds this process's arguments and environment; the same in forked children."""

    __slots__ = ("_size", "_start")

    def __init__(self) -> None:
        """Raises OSError without /proc."""
        with open("/proc/self/stat", "rb") as file:
            # The command's name, in parentheses, may itself hold spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
        arg_start, arg_end, env_start, env_end = (int(field) for field in fields[45:49])
        self._start = arg_start
        self._size = (env_end if env_start == arg_end else arg_end) - arg_start

    def write(self, title: str) -> None:
        """Shows `title`, cut to the room there is. The initial environment is overwritten."""
        if self._size > 0:
            text = title.encode("utf-8", "replace")[: self._size - 1]
            ctypes.memmove(self._start, text.ljust(self._size, b"\0"), self._size)
