"""After a crash of the engine: steps that were finished but not packed become cache records after all."""

from __future__ import annotations

import logging
from dataclasses import replace

from wherry.engine.build.cache import BuildCache
from wherry.engine.build.layers import Layer, Packer, Workspace
from wherry.engine.build.records import PendingRecord
from wherry.engine.images import Images
from wherry.model.errors import EngineError
from wherry.model.image import Digest

logger = logging.getLogger(__name__)


async def keep_promises(
    cache: BuildCache, workspace: Workspace, packer: Packer, images: Images
) -> None:
    """Packs what an earlier engine left, and frees its folders. The caller is `images.building`."""
    layers: dict[str, Layer] = {}
    promises = cache.take_promises()
    for _, pending in promises:
        for name in pending.layers:
            upper = workspace.folder / name / "upper"
            if name not in layers and not name.startswith("sha256:") and upper.is_dir():
                layers[name] = Layer(None, upper)
                packer.add(layers[name], pending.epoch)
    for key, pending in promises:
        try:
            await _keep_promise(cache, key, pending, layers, images)
        except (EngineError, OSError, KeyError) as error:
            logger.warning("a build step of an earlier engine is lost: %s", error)
    if promises:
        logger.info("took in %d build steps of an earlier engine", len(promises))


async def _keep_promise(
    cache: BuildCache,
    key: str,
    pending: PendingRecord,
    layers: dict[str, Layer],
    images: Images,
) -> None:
    diff_ids: list[str] = []
    size = 0
    for name in pending.layers:
        diff_id = name if name.startswith("sha256:") else await layers[name].wait()
        if diff_id is None:
            continue
        diff_ids.append(diff_id)
        if name == pending.own:
            record = images.layers.find(Digest(diff_id))
            size = record.size_bytes if record is not None else 0
    cache.put(key, replace(pending.record, layers=tuple(diff_ids), size_bytes=size))
