"""The worker that turns upper directories of steps into layers, several at once: a start per step costs more.

What a layer looks like is decided in `image.layer.diff`. Here times are cut to SOURCE_DATE_EPOCH first when
one is given, in the upper directory itself, so that the same files give the same digest.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from wherry.image.layer.diff import commit
from wherry.lib.jsonvalue import JsonValue, get_int, get_objects, get_str
from wherry.lib.worker import Report

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def pack(arguments: JsonValue, report: Report) -> JsonValue:
    """Makes a layer of each of `uppers`; answers their records in order, null where nothing changed."""
    if not isinstance(arguments, dict):
        raise TypeError("the arguments are not an object")
    records: list[JsonValue] = []
    for number, upper in enumerate(get_objects(arguments, "uppers")):
        path, epoch = get_str(upper, "path"), get_int(upper, "epoch", -1)
        if epoch >= 0:
            clamp_times(Path(path), epoch)
        request: dict[str, JsonValue] = {
            "layers": get_str(arguments, "layers"),
            "blobs": get_str(arguments, "blobs"),
            "driver": get_str(arguments, "driver"),
            "tar": f"{get_str(arguments, 'tar')}-{number}",
            "upper": path,
        }
        records.append(commit(request, report))
    return records


def clamp_times(folder: Path, epoch: int) -> None:
    """No time below `folder` is later than `epoch`, in seconds; nothing is followed."""
    fd = os.open(folder, DIRECTORY_FLAGS)
    try:
        _clamp(fd, epoch * 1_000_000_000)
    finally:
        os.close(fd)


def _clamp(fd: int, limit_ns: int) -> None:
    for name in os.listdir(fd):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            child = os.open(name, DIRECTORY_FLAGS, dir_fd=fd)
            try:
                _clamp(child, limit_ns)
            finally:
                os.close(child)
        if status.st_mtime_ns > limit_ns:
            os.utime(name, ns=(limit_ns, limit_ns), dir_fd=fd, follow_symlinks=False)
