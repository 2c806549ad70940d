"""Snapshots: the writable directories of containers and build steps over the trees of an image.

`upper` and `work` are in ROOT/containers/<key>/. The shared init layer lies over the image's trees, the
upper's root has the attributes of the image's. Mounting is the runtime's: this module only says what.
"""

from __future__ import annotations

import os
from pathlib import Path

from wherry.engine.images.records import SnapshotRecord
from wherry.engine.store import Store, Table
from wherry.image.host import HostTree
from wherry.image.layer.store import LayerStore
from wherry.image.snapshot.stubs import Attributes, set_attributes
from wherry.lib.blocking import run_blocking
from wherry.model.errors import NotFound
from wherry.model.image import Digest, RootMount

_StackKey = tuple[tuple[Digest, ...], Path | None]


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

    def __init__(self, store: Store, root: Path, layers: LayerStore, host: HostTree) -> None:
        self._containers = root / "containers"
        self._containers.mkdir(mode=0o710, exist_ok=True)
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
        folder = self._containers / key
        folder.mkdir(mode=0o710, parents=True, exist_ok=True)
        upper = folder / "upper"
        (folder / "work").mkdir(mode=0o700)
        upper.mkdir(mode=0o755)
        set_attributes(upper, stack.root)
        self._table.put(key, record)
        self._records[key] = record
        return self._mount(key, record, stack)

    def root_mount(self, key: str) -> RootMount:
        """What to mount. Raises NoSuchSnapshot, OSError, BadContent."""
        record = self.get(key)
        return self._mount(key, record, self._find(record) or self._open(record))

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
        folder = self._containers / key
        return (folder / "upper", folder / "work")

    def upper(self, key: str) -> Path:
        """The writable directory. Raises NoSuchSnapshot."""
        self.get(key)
        return self._containers / key / "upper"

    def orphans(self) -> tuple[str, ...]:
        """Keys of directories that a crash left between making them and recording them."""
        return tuple(
            folder.name
            for folder in self._containers.iterdir()
            if folder.name not in self._records and (folder / "upper").is_dir()
        )

    def forget_stacks(self) -> None:
        """After layers have gone: what was opened may not be there any more."""
        self._stacks.clear()

    def _find(self, record: SnapshotRecord) -> Stack | None:
        base = self._host.current() if record.over_host else None
        return self._stacks.get((record.diff_ids, base))

    def _open(self, record: SnapshotRecord) -> Stack:
        base = self._host.current() if record.over_host else None
        trees = self._layers.open_stack(record.diff_ids, base)
        root = self._layers.stack_root(record.diff_ids, base)
        stack = Stack(trees, root, self._layers.stubs.init_layer(trees, root))
        self._stacks[record.diff_ids, base] = stack
        return stack

    def _mount(self, key: str, record: SnapshotRecord, stack: Stack) -> RootMount:
        folder = os.fspath(self._containers / key)
        return RootMount(
            lowers=(str(stack.init), *map(str, stack.trees)),
            upper=f"{folder}/upper",
            work=f"{folder}/work",
            volatile=record.volatile,
        )
