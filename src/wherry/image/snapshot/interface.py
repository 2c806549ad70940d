"""What a layer driver does: makes one immutable layer readable as a directory of this machine.

Vocabulary. A *layer* is a folder ROOT/layers/<key> with its record; its *tree* is a directory where its
files can be read and that overlayfs takes as a lower layer. A *snapshot* is a writable upper directory
over the trees of an image. A driver keeps no state but what the machine has: after a restart of the
engine it finds what is mounted, after a reboot it mounts again.

To add a driver: a file beside this one, a row in `LayerStore`'s table, a call of tests/suites/snapshot.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from wherry.image.layer.record import LayerRecord


class LayerDriver(Protocol):
    """One way to make layers readable."""

    @property
    def name(self) -> str:
        """Docker's name of the driver, as `docker info` shows it and the layer's record has it."""

    def open(self, folder: Path, record: LayerRecord) -> Path:
        """The tree of a layer, made readable when it is not yet. Idempotent.

        Raises OSError, and BadContent when what can be read is not the layer.
        """

    def close(self, record: LayerRecord) -> None:
        """Nobody will open the tree any more until the next `open`; overlays on it go on. Idempotent."""
