"""Garbage: what no image, name, container or operation in progress needs any more.

A sweep decides and moves files away on the event loop, in one go, so that nothing can begin to use what
it takes; the bytes are freed afterwards in a thread. Operations whose blobs are not known beforehand
(load, build) `hold` the sweep off altogether; it then runs when the last of them ends.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from wherry.image.content import ContentStore, remove_tree
from wherry.image.layer.store import LayerStore
from wherry.lib.blocking import start_blocking
from wherry.model.errors import FULL_DISK
from wherry.model.image import Digest

logger = logging.getLogger(__name__)

Needs = Callable[[], tuple[set[Digest], set[Digest]]]


class Collector:
    """Removes unneeded blobs and layers of one ROOT."""

    def __init__(self, content: ContentStore, layers: LayerStore, needs: Needs) -> None:
        """`needs` answers which blobs and which layers (diff-ids) must stay."""
        self._content = content
        self._layers = layers
        self._needs = needs
        self._protected: Counter[Digest] = Counter()
        self._held = 0
        self._pending = False
        self._trash_number = 0
        self._emptying: set[Future[None]] = set()

    @contextmanager
    def protect(self, digests: Iterable[Digest]) -> Iterator[None]:
        """While open, blobs and layers of these digests stay, present or not."""
        mine = list(digests)
        self._protected.update(mine)
        try:
            yield
        finally:
            self._protected.subtract(mine)
            self._protected += Counter()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While open, nothing is collected."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held and self._pending:
                self.collect()

    def collect(self, *, min_age_s: float = 0) -> int:
        """Sweeps, or sees to it that a sweep comes; returns the bytes of the blobs and layers taken.

        What is younger than `min_age_s` stays.
        """
        if self._held:
            self._pending = True
            return 0
        self._pending = False
        blobs, layers = self._needs()
        newest = time.time() - min_age_s
        trash: list[Path] = []
        freed = 0
        for digest in list(self._content.digests()):
            if digest not in blobs and not self._protected[digest]:
                path = self._content.path(digest)
                status = path.stat()
                if status.st_mtime > newest:
                    continue
                if status.st_nlink == 1:
                    freed += status.st_size
                trash.append(self._new_trash())
                path.rename(trash[-1])
        for record in self._layers.all():
            if record.diff_id not in layers and not self._protected[record.diff_id]:
                if (self._layers.folder / record.key).stat().st_mtime > newest:
                    continue
                freed += record.tar_size
                trash.append(self._new_trash())
                self._layers.remove(record.diff_id, trash[-1])
        if trash:
            logger.info("collected %d unneeded blobs and layers", len(trash))
            self.empty(trash)
        return freed

    def discard(self, path: Path) -> None:
        """Moves a file or tree away now and frees it later; fine when it is not there."""
        target = self._new_trash()
        try:
            path.rename(target)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno in FULL_DISK:
                target = path  # there is no room for another name of it
            elif error.errno == errno.EXDEV:
                # It lies in memory (`image.snapshot.uppers`), in the folder of its snapshot.
                target = path.parent.parent / target.name
                path.rename(target)
            else:
                raise
        self.empty([target])

    def empty(self, trash: list[Path]) -> None:
        """Frees in a thread what was moved away; start-up does it when this is interrupted."""
        work = start_blocking(_remove_all, trash)
        self._emptying.add(work)
        work.add_done_callback(self._emptying.discard)

    async def close(self) -> None:
        """Waits until what was moved away is freed."""
        await asyncio.gather(*map(asyncio.wrap_future, list(self._emptying)))

    def _new_trash(self) -> Path:
        self._trash_number += 1
        return self._content.tmp / f"trash-{id(self):x}-{self._trash_number}"


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        try:
            remove_tree(path)
        except OSError as error:
            logger.warning("remove %s: %s", path, error)
