"""Snapshots: the writable directories of containers and build steps over the trees of an image.

`upper` and `work` are in ROOT/containers/<key>/ (see `image.snapshot.uppers`). The shared init layer lies over the image's trees, the
upper's root has the attributes of the image's. Mounting is the runtime's: this module only says what.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from wherry.engine.images.records import SnapshotRecord
from wherry.engine.store import Store, Table
from wherry.image.host import HostTree
from wherry.image.layer.store import LayerStore
from wherry.image.snapshot.stubs import Attributes, set_attributes
from wherry.image.snapshot.uppers import UpperSpace
from wherry.lib.blocking import run_blocking
from wherry.model.errors import NotFound
from wherry.model.image import Digest, RootMount

logger = logging.getLogger(__name__)

_StackKey = tuple[tuple[Digest, ...], tuple[Path, ...]]


class NoSuchSnapshot(NotFound):
    """No snapshot has this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"snapshot {key} does not exist")


class Stack:
    """The opened trees of an image, topmost first, and what its root looks like."""

    __slots__ = ("init", "root", "trees")

    def __init__(self, trees: tuple[Path, ...], root: Attributes, init: Path) -> None:
        self.trees = trees
        self.root = root
        self.init = init


class Snapshots:
    """Those of one ROOT."""

    def __init__(
        self, store: Store, uppers: UpperSpace, layers: LayerStore, host: HostTree
    ) -> None:
        self._uppers = uppers
        self._layers = layers
        self._host = host
        self._table = Table(store, "snapshots", SnapshotRecord)
        self._records = dict(self._table.items())
        self._stacks: dict[_StackKey, Stack] = {}

    def get(self, key: str) -> SnapshotRecord:
        """Raises NoSuchSnapshot."""
        record = self._records.get(key)
        if record is None:
            raise NoSuchSnapshot(key)
        return record

    def keys(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._records)

    def image_of(self, key: str) -> str:
        """The image below a snapshot; empty when there is none, or no such snapshot."""
        record = self._records.get(key)
        return record.image_id if record is not None and not record.over_host else ""

    def used_layers(self) -> set[Digest]:
        """Every layer below some snapshot."""
        return {diff_id for record in self._records.values() for diff_id in record.diff_ids}

    async def create(self, key: str, record: SnapshotRecord) -> RootMount:
        """Makes the directories; raises FileExistsError when they are there."""
        stack = self._find(record)
        if stack is None:
            stack = await run_blocking(self._open, record)
        self._make(key, stack.root)
        self._table.put(key, record)
        self._records[key] = record
        return self._mount(key, record, stack)

    def root_mount(self, key: str) -> RootMount:
        """What to mount. Raises NoSuchSnapshot, OSError, BadContent."""
        record = self.get(key)
        stack = self._find(record) or self._open(record)
        if self._uppers.is_in_memory and not self.upper(key).exists():
            logger.warning("what container %s had written is gone with the memory it was in", key)
            self._make(key, stack.root)
        return self._mount(key, record, stack)

    def trees(self, record: SnapshotRecord) -> tuple[Path, ...]:
        """The trees below a snapshot's upper directory, topmost first, without the mount points."""
        return (self._find(record) or self._open(record)).trees

    def lowers(self, key: str) -> tuple[Path, ...]:
        """The trees below a snapshot's upper directory, the mount points on top."""
        record = self.get(key)
        stack = self._find(record) or self._open(record)
        return (stack.init, *stack.trees)

    def forget(self, key: str) -> tuple[Path, ...]:
        """Forgets a snapshot; returns the directories that are to be removed. Idempotent."""
        self._table.delete(key)
        self._records.pop(key, None)
        folder = self._uppers.place(key)
        return (folder / "upper", folder / "work")

    def upper(self, key: str) -> Path:
        """The writable directory. Raises NoSuchSnapshot."""
        self.get(key)
        return self._uppers.place(key) / "upper"

    def orphans(self) -> tuple[str, ...]:
        """Keys of directories that a crash left between making them and recording them."""
        return tuple(
            folder.name
            for folder in self._uppers.folder.iterdir()
            if folder.name not in self._records and (folder / "upper").is_dir()
        )

    def forget_stacks(self) -> None:
        """After layers have gone: what was opened may not be there any more."""
        self._stacks.clear()

    def _make(self, key: str, root: Attributes) -> None:
        folder = self._uppers.make(key)
        upper = folder / "upper"
        (folder / "work").mkdir(mode=0o700)
        upper.mkdir(mode=0o755)
        set_attributes(upper, root)

    def _find(self, record: SnapshotRecord) -> Stack | None:
        base = self._host.current() if record.over_host else ()
        return self._stacks.get((record.diff_ids, base))

    def _open(self, record: SnapshotRecord) -> Stack:
        base = self._host.current() if record.over_host else ()
        trees = self._layers.open_stack(record.diff_ids, base)
        root = self._layers.stack_root(record.diff_ids, base)
        stubs = self._host.stubs if record.over_host else None
        init = (stubs or self._layers.stubs).init_layer(trees, root)
        stack = Stack(trees, root, init)
        self._stacks[record.diff_ids, base] = stack
        return stack

    def _mount(self, key: str, record: SnapshotRecord, stack: Stack) -> RootMount:
        folder = os.fspath(self._uppers.place(key))
        return RootMount(
            lowers=(str(stack.init), *map(str, stack.trees)),
            upper=f"{folder}/upper",
            work=f"{folder}/work",
            volatile=record.volatile,
        )
