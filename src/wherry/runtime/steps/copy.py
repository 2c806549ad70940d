"""A tree copied into a fresh mount by descriptor: the `tmpcopyup` of tmpfs mounts.

Directories, regular files and links, with owner and mode; what else there is has no place in a tmpfs of a
container. The source belongs to an image: nothing is followed, and the target's size is the limit.
"""

from __future__ import annotations

import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK_BYTES = 1 << 20


def copy_tree(source: int, target: int) -> None:
    """Copy what is in the directory `source` into the empty directory `target`; raises OSError."""
    pairs = [(os.open(".", _DIRECTORY, dir_fd=source), os.open(".", _DIRECTORY, dir_fd=target))]
    try:
        while pairs:
            here, there = pairs.pop()
            try:
                for name in os.listdir(here):
                    pairs += _copy_entry(name, here, there)
            finally:
                os.close(here)
                os.close(there)
    finally:
        for pair in pairs:
            os.close(pair[0])
            os.close(pair[1])


def _copy_entry(name: str, here: int, there: int) -> list[tuple[int, int]]:
    found = os.stat(name, dir_fd=here, follow_symlinks=False)
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=there, follow_symlinks=False)
    elif stat.S_ISDIR(found.st_mode):
        os.mkdir(name, 0o700, dir_fd=there)
        made = os.open(name, _DIRECTORY, dir_fd=there)
        os.fchown(made, found.st_uid, found.st_gid)
        os.fchmod(made, mode)
        return [(os.open(name, _DIRECTORY, dir_fd=here), made)]
    elif stat.S_ISREG(found.st_mode):
        _copy_file(name, here, there, found, mode)
    return []


def _copy_file(name: str, here: int, there: int, found: os.stat_result, mode: int) -> None:
    source = os.open(name, _FILE, dir_fd=here)
    try:
        target = os.open(name, _NEW, 0o600, dir_fd=there)
        try:
            while os.sendfile(target, source, None, _CHUNK_BYTES):
                pass
            os.fchown(target, found.st_uid, found.st_gid)
            os.fchmod(target, mode)
        finally:
            os.close(target)
    finally:
        os.close(source)
