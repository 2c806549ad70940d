"""The layers of one ROOT: which are there, their trees, and the stack of trees that an image is.

The folders are the truth (`layer.record`); records are read once and kept. Drivers are a table: new layers
are made by the preferred one, and a layer is opened by the one that made it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from wherry.image.content import remove_tree
from wherry.image.digest import split_digest
from wherry.image.layer.mount import find_mounter
from wherry.image.layer.record import EROFS, OVERLAY, LayerRecord, read_record
from wherry.image.snapshot.erofs import ErofsDriver
from wherry.image.snapshot.interface import LayerDriver
from wherry.image.snapshot.overlay import OverlayDriver
from wherry.image.snapshot.stubs import PLAIN, Attributes, StubLayers, root_attributes
from wherry.model.errors import InvalidArgument, NotFound
from wherry.model.image import Digest

logger = logging.getLogger(__name__)

MAX_LAYERS = 125  # as Docker's


class TooManyLayers(InvalidArgument):
    """An image cannot have that many layers."""

    def __init__(self) -> None:
        super().__init__("max depth exceeded")


class NoSuchLayer(NotFound):
    """The layer is not on disk."""

    def __init__(self, diff_id: str) -> None:
        super().__init__(f"layer {diff_id} does not exist")


class LayerStore:
    """Blocking; every call but `open_stack` with layers that are not mounted takes microseconds."""

    def __init__(self, root: Path, run: Path, driver: str = "") -> None:
        """`driver` forces one for new layers; otherwise EROFS where this machine can mount it."""
        self.folder = root / "layers"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.stubs = StubLayers(root / "stubs")
        self._mounter = mounter = find_mounter(root / "tmp")
        self._drivers: dict[str, LayerDriver] = {
            EROFS: ErofsDriver(run / "layers", mounter),
            OVERLAY: OverlayDriver(),
        }
        self.driver = driver or (EROFS if mounter is not None else OVERLAY)
        if self.driver not in self._drivers:
            raise InvalidArgument(f"unknown storage driver {self.driver}")
        if self.driver == EROFS and mounter is None:
            logger.warning("EROFS layers cannot be mounted here; new layers are unpacked")
            self.driver = OVERLAY
        self._records: dict[Digest, LayerRecord] = {}
        self._scan()

    def unmountable(self) -> tuple[LayerRecord, ...]:
        """Layers that an engine on another kernel made, and that cannot be mounted here."""
        if self._mounter is not None:
            return ()
        return tuple(record for record in self._records.values() if record.driver == EROFS)

    def reload(self, diff_id: Digest) -> None:
        """Reads a layer's record again."""
        self._records.pop(diff_id, None)
        self.find(diff_id)

    def has(self, diff_id: Digest) -> bool:
        """Whether the layer is there, whole."""
        return self.find(diff_id) is not None

    def find(self, diff_id: Digest) -> LayerRecord | None:
        """The record, also of a layer that a worker has published since."""
        record = self._records.get(diff_id)
        if record is None:
            folder = self.folder / split_digest(diff_id)[1]
            if not folder.is_dir():
                return None
            record = read_record(folder)
            self._records[diff_id] = record
        return record

    def get(self, diff_id: Digest) -> LayerRecord:
        """The record. Raises NoSuchLayer."""
        record = self.find(diff_id)
        if record is None:
            raise NoSuchLayer(diff_id)
        return record

    def all(self) -> tuple[LayerRecord, ...]:
        """Every layer that is there."""
        return tuple(self._records.values())

    def tree(self, diff_id: Digest) -> Path:
        """Where the layer can be read; mounts it when needed. Raises NoSuchLayer, OSError, BadContent."""
        record = self.get(diff_id)
        return self._drivers[record.driver].open(self.folder / record.key, record)

    def open_stack(self, diff_ids: Sequence[Digest], base: Sequence[Path] = ()) -> tuple[Path, ...]:
        """The trees of an image whose layers are `diff_ids`, bottom first; the result is topmost first.

        `base` are trees below them all, topmost first.

        Cut where a layer's root is opaque (overlayfs ignores that mark on a root), completed by
        attribute layers. Raises TooManyLayers, NoSuchLayer, OSError, BadContent.
        """
        if len(diff_ids) > MAX_LAYERS:
            raise TooManyLayers
        trees = list(reversed(base))  # bottom first
        for diff_id in diff_ids:
            record = self.get(diff_id)
            if record.opaque_root:
                trees.clear()
            below = tuple(reversed(trees))
            # Overlay refuses a directory twice (ELOOP): what is on top says all that it said below.
            tree = self.tree(diff_id)
            trees = [*(known for known in trees if known != tree), tree]
            if record.implicit and below:
                extra = self.stubs.attribute_layer(record.implicit, below)
                if extra is not None:
                    trees = [*(known for known in trees if known != extra), extra]
        return tuple(reversed(trees))

    def stack_root(self, diff_ids: Sequence[Digest], base: Sequence[Path] = ()) -> Attributes:
        """The attributes of an image's root: those of the topmost layer that describes it."""
        for diff_id in reversed(diff_ids):
            record = self.get(diff_id)
            if not record.implicit_root:
                return root_attributes([self.tree(diff_id)])
            if record.opaque_root:
                return PLAIN
        return root_attributes(base)

    def remove(self, diff_id: Digest, trash: Path) -> None:
        """Forgets a layer and moves its folder away, for the caller to delete in its own time."""
        record = self._records.pop(diff_id, None)
        folder = self.folder / split_digest(diff_id)[1]
        if record is not None:
            self._drivers[record.driver].close(record)
        try:
            folder.rename(trash)
        except FileNotFoundError:
            pass

    def close_unused(self, used: Iterable[Digest]) -> None:
        """Unmounts every layer that is not among `used`."""
        keep = frozenset(used)
        for diff_id, record in self._records.items():
            if diff_id not in keep:
                self._drivers[record.driver].close(record)

    def _scan(self) -> None:
        for folder in sorted(self.folder.iterdir()):
            if folder.name.startswith("."):
                logger.info("removing half-made layer %s", folder.name)
                try:
                    remove_tree(folder)
                except OSError as error:
                    logger.warning("remove half-made layer %s: %s", folder.name, error)
                continue
            try:
                record = read_record(folder)
            except (OSError, ValueError) as error:
                logger.warning("layer %s is damaged, removing it: %s", folder.name, error)
                remove_tree(folder)
                continue
            self._records[record.diff_id] = record
