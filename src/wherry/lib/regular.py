"""Opening files in folders that a container may change at the same moment."""

from __future__ import annotations

import errno
import os
import stat


def open_regular(folder: int, name: str | bytes) -> int:
    """For reading. Opening a FIFO or device that was swapped in could do harm: it is looked at before it is opened.

    Raises FileNotFoundError when it is no regular file any more.
    """
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FileNotFoundError(errno.ENOENT, "the file has been replaced", name)
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(handle)
