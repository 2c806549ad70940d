"""What a step leaves: an upper directory at once, a layer later; and the chains that images are.

The next step does not wait for a layer: it takes the upper directories of the steps before it as overlay's
lower directories. Meanwhile `Packer` makes layers of them in a worker, as many at a time as are waiting.
An upper directory is removed when its layer is there and the last build that uses it has ended.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.engine.images import Images
from wherry.engine.images.worker import run_image_worker
from wherry.image.layer.record import LayerRecord
from wherry.image.layer.store import MAX_LAYERS, TooManyLayers
from wherry.image.snapshot.stubs import root_attributes, set_attributes
from wherry.lib.jsonvalue import JsonValue
from wherry.lib.program import WorkerPool
from wherry.model.image import Digest, RootMount


class Layer:
    """One layer of a chain: on disk already (`diff_id`), or an upper directory that is being packed."""

    def __init__(self, diff_id: Digest | None, upper: Path | None = None) -> None:
        self.diff_id = diff_id
        self.upper = upper
        self.packed: asyncio.Future[Digest | None] | None = None
        self.users = 0

    async def wait(self) -> Digest | None:
        """The diff-id once the layer is durable; None when nothing was in it. Raises what packing raised."""
        if self.packed is None:
            return self.diff_id
        return await asyncio.shield(self.packed)


class Chain:
    """Layers, bottom first; immutable."""

    __slots__ = ("layers", "over_host")

    def __init__(self, layers: Sequence[Layer] = (), *, over_host: bool = False) -> None:
        self.layers = tuple(layers)
        self.over_host = over_host

    @classmethod
    def of(cls, diff_ids: Iterable[str], *, over_host: bool = False) -> Chain:
        """Of layers that are on disk; `over_host` puts the machine's own root below them."""
        return cls([Layer(Digest(diff_id)) for diff_id in diff_ids], over_host=over_host)

    def add(self, layer: Layer | None) -> Chain:
        """With one more on top."""
        if layer is None:
            return self
        return Chain((*self.layers, layer), over_host=self.over_host)

    async def diff_ids(self) -> tuple[Digest, ...]:
        """Waits until all are durable."""
        found = [await layer.wait() for layer in self.layers]
        return tuple(diff_id for diff_id in found if diff_id is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """A step, solved. `created` is when it was first done: a build that is all cached gives the same image."""

    chain: Chain
    key: str
    cached: bool
    created: str


class Workspace:
    """Directories of steps under ROOT/build, and how chains become roots."""

    def __init__(self, root: Path, images: Images) -> None:
        self.folder = root / "build"
        self._images = images
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def make(self) -> Path:
        """A new folder for one step."""
        folder = self.folder / secrets.token_hex(12)
        folder.mkdir(mode=0o710)
        return folder

    def discard(self, folder: Path) -> None:
        """Moves a folder away and frees it in its own time."""
        self._images.collector.discard(folder)

    def drop(self, layer: Layer) -> None:
        """Frees the folder of the step that made a layer; one that is on disk has none."""
        if layer.upper is not None:
            self.discard(layer.upper.parent)

    async def trees(self, chain: Chain) -> tuple[Path, ...]:
        """The directories of a chain, topmost first."""
        return await asyncio.to_thread(self._trees, chain)

    def _trees(self, chain: Chain) -> tuple[Path, ...]:
        store = self._images.layers
        below: list[Digest] = []
        layers = list(chain.layers)
        while layers and layers[0].upper is None:
            diff_id = layers.pop(0).diff_id
            if diff_id is not None:
                below.append(diff_id)
        trees = list(store.open_stack(below, self._base(chain)))
        for layer in layers:
            if layer.upper is not None:
                trees.insert(0, layer.upper)
            elif layer.diff_id is not None:
                below_it = tuple(trees)
                tree = store.tree(layer.diff_id)
                trees = [tree, *(known for known in trees if known != tree)]
                implicit = store.get(layer.diff_id).implicit
                extra = store.stubs.attribute_layer(implicit, below_it) if implicit else None
                if extra is not None:
                    trees = [extra, *(known for known in trees if known != extra)]
        if len(trees) > MAX_LAYERS:
            raise TooManyLayers
        return tuple(trees)

    def _base(self, chain: Chain) -> tuple[Path, ...]:
        return self._images.host.current() if chain.over_host else ()

    async def writable(self, chain: Chain, folder: Path, *, stubs: bool) -> RootMount:
        """Upper and work directory in `folder` over the chain; `stubs` puts the mount points between."""
        return await asyncio.to_thread(self._writable, chain, folder, stubs=stubs)

    def _writable(self, chain: Chain, folder: Path, *, stubs: bool) -> RootMount:
        trees = self._trees(chain)
        store = self._images.layers
        if chain.layers and chain.layers[-1].upper is not None:
            attributes = root_attributes(trees)
        else:
            diff_ids = [layer.diff_id for layer in chain.layers if layer.diff_id is not None]
            attributes = store.stack_root(diff_ids, self._base(chain))
        upper, work = folder / "upper", folder / "work"
        work.mkdir(mode=0o700)
        upper.mkdir(mode=0o755)
        set_attributes(upper, attributes)
        lowers = trees
        if stubs:
            layers = (self._images.host.stubs if chain.over_host else None) or store.stubs
            lowers = (layers.init_layer(trees, attributes), *trees)
        elif not trees:
            lowers = (folder / "empty",)
            lowers[0].mkdir(mode=0o755)
        return RootMount(
            lowers=tuple(map(str, lowers)), upper=str(upper), work=str(work), volatile=True
        )

    async def read_only(self, chain: Chain, folder: Path) -> RootMount:
        """The chain's files alone."""
        trees = await self.trees(chain)
        if not trees:
            empty = folder / "nothing"
            empty.mkdir(exist_ok=True)
            trees = (empty,)
        return RootMount(lowers=tuple(map(str, trees)))


class Packer:
    """Makes layers of upper directories, in the background, in batches."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._workers = WorkerPool(1, idle_s=5.0)
        self._waiting: list[tuple[Layer, int]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, layer: Layer, epoch: int) -> None:
        """Begins; `layer.wait` tells when it is done."""
        layer.packed = asyncio.get_running_loop().create_future()
        self._waiting.append((layer, epoch))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="pack layers")

    async def close(self) -> None:
        """Waits for what is being packed."""
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._workers.close()

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                records = await self._pack(batch)
            except BaseException as error:
                for layer, _ in batch:
                    if layer.packed is not None and not layer.packed.done():
                        layer.packed.set_exception(error)
                        layer.packed.exception()  # whoever waits sees it; nobody may
                if not isinstance(error, Exception):
                    raise
                continue
            for (layer, _), record in zip(batch, records, strict=True):
                layer.diff_id = None if record is None else record.diff_id
                if layer.packed is not None and not layer.packed.done():
                    layer.packed.set_result(layer.diff_id)

    async def _pack(self, batch: list[tuple[Layer, int]]) -> list[LayerRecord | None]:
        uppers: list[JsonValue] = [
            {"path": os.fspath(layer.upper or ""), "epoch": epoch} for layer, epoch in batch
        ]
        images = self._images
        answer = await run_image_worker(
            "wherry.engine.build.packing:pack",
            {
                "layers": str(images.layers.folder),
                "blobs": str(images.content.path(Digest("sha256:" + "0" * 64)).parent),
                "driver": images.driver,
                "tar": str(images.content.tmp / f"build-{secrets.token_hex(8)}"),
                "uppers": uppers,
            },
            workers=self._workers,
        )
        if not isinstance(answer, list):
            raise TypeError("the packing worker gave no list")
        records: list[LayerRecord | None] = []
        for item in answer:
            record = LayerRecord.from_json(item) if isinstance(item, dict) else None
            if record is not None:
                images.layers.find(record.diff_id)
            records.append(record)
        return records
