"""What solving a stage comes to, and the image that is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wherry.build.plan import ImageState
from wherry.engine.build.layers import Chain
from wherry.engine.clock import format_time, now
from wherry.engine.images import Images
from wherry.image.config import ImageConfig
from wherry.lib.jsonvalue import JsonObject
from wherry.model.image import Digest, HistoryEntry, Image, Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """A stage, solved: its files, the key of them, its config and history."""

    chain: Chain
    key: str
    state: ImageState
    shown: str = ""  # what progress calls the state after the last step
    history: tuple[HistoryEntry, ...] = ()
    platform: Platform = field(default_factory=Platform)
    base: Image | None = None


async def make_image(
    images: Images,
    solved: StageResult,
    epoch: int | None,
    build_cache: JsonObject | None = None,
    *,
    keep: bool = True,
) -> Image:
    """The image that a stage's state is, known to the store if it is to be kept. The caller is `images.building`."""
    config = solved.state.config
    diff_ids = await solved.chain.diff_ids()
    if epoch is not None:
        created = format_time(epoch * 1_000_000_000)
    else:
        # As the last step's: the same build gives the same image.
        created = solved.history[-1].created if solved.history else now()
    made = ImageConfig(
        platform=solved.platform,
        config=replace(config, image="", hostname="", domainname=""),
        diff_ids=diff_ids,
        history=_mark_empty(solved, diff_ids),
        created=created,
        author=solved.state.author,
        build_cache=build_cache or {},
    )
    return await images.make_image(made, solved.base, keep=keep)


def _mark_empty(solved: StageResult, diff_ids: tuple[Digest, ...]) -> tuple[HistoryEntry, ...]:
    """History with as many layers as there are: a layer that turned out empty has none."""
    entries = list(solved.history)
    surplus = sum(not entry.empty_layer for entry in entries) - len(diff_ids)
    layers = list(solved.chain.layers)
    position = len(layers)
    for at in range(len(entries) - 1, -1, -1):
        if surplus <= 0 or entries[at].empty_layer:
            continue
        position -= 1
        if 0 <= position < len(layers) and layers[position].diff_id is None:
            entries[at] = replace(entries[at], empty_layer=True)
            surplus -= 1
    return tuple(entries)
