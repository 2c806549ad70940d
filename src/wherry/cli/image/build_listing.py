"""A build's folder as a list, so that the engine can say which files it has from the build before."""

from __future__ import annotations

import os
import stat
import time

from wherry.cli.archive import BLOCK, pack_entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wherry.client.document import Json

SMALL_BYTES = 1 << 20
SMALL_COUNT = 200
FRESH_NS = 2_000_000_000
KINDS = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}


class Listing:
    """Entries in the order of their names, parents first."""

    __slots__ = ("_entries", "_size", "folder")

    def __init__(self, folder: str, keep: Callable[[str, bool], tuple[bool, bool]]) -> None:
        self.folder = folder
        self._entries: list[tuple[str, os.stat_result]] = []
        self._size = 0
        self._add(folder, "", keep)

    def _add(
        self, folder: str, prefix: str, keep: Callable[[str, bool], tuple[bool, bool]]
    ) -> None:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = f"{prefix}{entry.name}"
            is_folder = entry.is_dir(follow_symlinks=False)
            wanted, below = keep(path, is_folder)
            if wanted:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_IFMT(status.st_mode) in KINDS:
                    self._entries.append((path, status))
                    self._size += status.st_size
            if is_folder and below:
                self._add(entry.path, f"{path}/", keep)

    @property
    def is_worth_it(self) -> bool:
        """Whether asking first is cheaper than sending all."""
        return self._size > SMALL_BYTES or len(self._entries) > SMALL_COUNT

    def encode(self) -> list[Json] | None:
        """For the engine; None when a name is not UTF-8."""
        try:
            "".join(path for path, _ in self._entries).encode()
        except UnicodeEncodeError:
            return None
        now = time.time_ns()
        rows: list[Json] = []
        for path, status in self._entries:
            kind = KINDS[stat.S_IFMT(status.st_mode)]
            mtime_ns = int(status.st_mtime) * 1_000_000_000
            row: list[Json] = [path, kind, stat.S_IMODE(status.st_mode), 0, mtime_ns]
            if kind == "f":
                row[3] = status.st_size
                # A file that was just written may be written again within the clock's tick.
                is_fresh = now - status.st_ctime_ns < FRESH_NS
                row += ["", "" if is_fresh else _stamp(status)]
            elif kind == "l":
                row.append(os.readlink(os.path.join(self.folder, path)))
            rows.append(row)
        return rows

    def pack(self, places: list[int]) -> Iterator[bytes]:
        """A tar of some entries."""
        for place in places:
            path, status = self._entries[place]
            yield from pack_entry(os.path.join(self.folder, path), path, status, {}, (0, 0))
        yield bytes(2 * BLOCK)


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
