"""The driver of unpacked layers: the tree is the directory `fs` in the layer's folder."""

from __future__ import annotations

from pathlib import Path

from wherry.image.layer.record import OVERLAY, TREE_NAME, LayerRecord


class OverlayDriver:
    """Nothing to do: the tree is always there."""

    name = OVERLAY

    def open(self, folder: Path, record: LayerRecord) -> Path:  # noqa: ARG002 - the interface's
        """See LayerDriver."""
        return folder / TREE_NAME

    def close(self, record: LayerRecord) -> None:
        """See LayerDriver."""
