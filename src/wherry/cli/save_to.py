"""Writing a stream to a file that appears only when it is complete, or to standard output."""

from __future__ import annotations

import os
import stat

from wherry.cli.errors import CommandFailed
from wherry.cli.output import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def check_output_path(path: str, prefix: str = "") -> None:
    """Refuses a path whose folder is not there, or that is no regular file."""
    if not path:
        return
    folder = os.path.dirname(os.path.normpath(path))
    if folder and not os.path.isdir(folder):
        # Two wordings of Docker's: that of save and export, and that of cp.
        why = f"stat {folder}: no such file or directory"
        if not prefix:
            why = f'directory "{folder}" does not exist'
        raise CommandFailed(f"{prefix}invalid output path: {why}")
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode):
        if prefix:
            raise CommandFailed(f"{prefix}cannot write to a directory")
        return
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        raise CommandFailed(
            f'{prefix}invalid output path: "{path}" must be a directory or a regular file: got a device'
        )


def save_to(path: str, chunks: Iterable[bytes]) -> None:
    """Writes to `path`, or to standard output if it is empty."""
    if not path:
        for piece in chunks:
            write_all(1, piece)
        return
    if os.path.isdir(path):
        raise CommandFailed(f"open {path}: is a directory")
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".tmp-{name}{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for piece in chunks:
            write_all(fd, piece)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
