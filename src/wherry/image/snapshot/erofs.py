"""The driver of EROFS layers: index and tar mounted once per machine at RUN/layers/<key>."""

from __future__ import annotations

import os
from pathlib import Path

from wherry.image.content import BadContent
from wherry.image.layer.mount import INDEX_NAME, TAR_NAME, Mounter, read_probe, unmount
from wherry.image.layer.record import EROFS, LayerRecord
from wherry.kernel.mountinfo import read_mountinfo


class ErofsDriver:
    """Mounts on demand and finds its mounts again: containers of all engines' lives share page cache."""

    name = EROFS

    def __init__(self, mounts: Path, mounter: Mounter | None) -> None:
        """`mounts` is RUN/layers; `mounter` is None on a machine that cannot mount layers any more."""
        self._mounts = mounts
        self._mounter = mounter
        mounts.mkdir(mode=0o700, parents=True, exist_ok=True)
        prefix = f"{os.path.realpath(mounts)}/"
        self._mounted = {
            info.mount_point.removeprefix(prefix)
            for info in read_mountinfo()
            if info.fstype == "erofs" and info.mount_point.startswith(prefix)
        }

    def open(self, folder: Path, record: LayerRecord) -> Path:
        """See LayerDriver."""
        target = self._mounts / record.key
        if record.key in self._mounted:
            return target
        if self._mounter is None:
            raise BadContent(f"layer {record.diff_id} is EROFS, which this machine cannot mount")
        target.mkdir(mode=0o700, exist_ok=True)
        self._mounter(folder / INDEX_NAME, folder / TAR_NAME, target)
        try:
            # A missing device is no error of mount(2): reads fail later, so one is tried now.
            if record.probe_path and read_probe(target, record.probe_path) != record.probe_sha256:
                raise BadContent(f"layer {record.diff_id}: index and tar do not belong together")
        except BaseException:
            unmount(target)
            raise
        self._mounted.add(record.key)
        return target

    def close(self, record: LayerRecord) -> None:
        """See LayerDriver."""
        target = self._mounts / record.key
        unmount(target)
        self._mounted.discard(record.key)
        try:
            target.rmdir()
        except FileNotFoundError:
            pass
