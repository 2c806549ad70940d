"""An interpreter that the processes made from it cannot be used to overwrite.

A container's process begins as a copy of the interpreter: through /proc/self/exe the container could
rewrite the program of its host. So it is run from a detached read-only clone of its file, or from a sealed
memfd where such mounts cannot be made.
"""

from __future__ import annotations

import fcntl
import os
import sys

from wherry.kernel import syscalls
from wherry.kernel.consts import AT, AT_FDCWD, MOUNT_ATTR, OPEN_TREE

_F_GET_SEALS = 1034
_F_ADD_SEALS = 1033
_ALL_SEALS = 0xF  # seal, shrink, grow, write
_SELF = "/proc/self/exe"


def open_readonly_clone(path: str) -> int:
    """A descriptor of the file's contents that cannot be written through. Raises OSError."""
    try:
        fd = syscalls.open_tree(AT_FDCWD, os.fsencode(path), OPEN_TREE.CLONE)
    except OSError:
        return _open_sealed_copy(path)
    try:
        syscalls.mount_setattr(fd, b"", AT.EMPTY_PATH, attr_set=MOUNT_ATTR.RDONLY)
    except OSError:
        os.close(fd)
        return _open_sealed_copy(path)
    return fd


def is_protected() -> bool:
    """Whether this very process already runs from such a file."""
    if os.statvfs(_SELF).f_flag & os.ST_RDONLY:
        return True
    fd = os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(fd, _F_GET_SEALS) & _ALL_SEALS == _ALL_SEALS
    except OSError:
        return False
    finally:
        os.close(fd)


def ensure_protected(program: str, arguments: list[str]) -> None:
    """Exec this program again from a protected interpreter, unless it is in one. Raises OSError."""
    if is_protected():
        return
    executable = os.path.realpath(sys.executable)
    fd = open_readonly_clone(executable)
    command = [executable, "-I", "-S", program, *arguments]
    os.execve(f"/proc/self/fd/{fd}", command, os.environ)  # noqa: S606 - there is no shell


def _open_sealed_copy(path: str) -> int:
    fd = os.memfd_create("wherry-interpreter", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            while size > 0:
                copied = os.sendfile(fd, source.fileno(), None, size)
                if copied == 0:
                    break
                size -= copied
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
