"""Reading a json-file log: the last lines, a span of time, and on while it grows and rotates.

Blocking, but for no longer than one batch takes; the caller decides in which thread. `read` gives what is
there now, an empty list when that is all; to follow, wait until `fileno()` is readable and read again.
Files are followed by inode: after a rotation the old file is read to its end first, then those after it. A
record is read only when its newline is there, so that a torn one is never half shown; what does not decode
is skipped. Tail counts records before `since` and `until` are applied, as dockerd does.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterator
from urllib.parse import quote_plus

from wherry.kernel import syscalls
from wherry.kernel.consts import IN
from wherry.logs.codec import LogEntry, decode_record, format_time

_BLOCK_SIZE = 64 << 10
_HEAD_SIZE = 4096
_BATCH = 1000
_CHAIN_TRIES = 16


class LogReader:
    """One reader of one log. A log that does not exist (yet) is empty. Close it."""

    def __init__(
        self,
        path: str,
        *,
        tail: int | None = None,
        since_ns: int = 0,
        until_ns: int = 0,
        follow: bool = False,
    ) -> None:
        self.done = False
        self._path = path
        self._since_ns = since_ns
        self._until_ns = until_ns
        self._inotify = -1
        if follow:
            self._inotify = syscalls.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                # The folder, not the file: it also tells of the file that a rotation makes.
                syscalls.inotify_add_watch(
                    self._inotify,
                    os.fsencode(os.path.dirname(path)),
                    IN.MODIFY | IN.CREATE | IN.MOVED_TO,
                )
            except OSError:
                os.close(self._inotify)
                raise
        self._files = deque(_open_chain(path))
        if tail is not None:
            self._seek_tail(tail)

    def fileno(self) -> int:
        """Readable when there may be more; only of a reader that follows."""
        return self._inotify

    def read(self, limit: int = _BATCH) -> list[LogEntry]:
        """The next entries, at most `limit`; empty when there are none now, or `done` is set."""
        if self._inotify >= 0:
            self._drain_events()
        entries: list[LogEntry] = []
        while len(entries) < limit and not self.done:
            record = self._next_record()
            if record is None:
                break
            entry = decode_record(record)
            if entry is None or entry.time_ns < self._since_ns:
                continue
            if self._until_ns and entry.time_ns > self._until_ns:
                self.done = True
                break
            entries.append(entry)
        return entries

    def close(self) -> None:
        """Closes all files. Idempotent."""
        while self._files:
            self._files.popleft().close()
        if self._inotify >= 0:
            os.close(self._inotify)
            self._inotify = -1

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_record(self) -> bytes | None:
        while True:
            if not self._files:
                self._files.extend(_open_chain(self._path))
                if not self._files:
                    return None
            record = self._files[0].next_record()
            if record is not None:
                return record
            if len(self._files) > 1:
                self._files.popleft().close()
            elif not self._find_newer():
                return None

    def _find_newer(self) -> bool:
        """Whether the log goes on elsewhere: the newest open file was rotated away or emptied."""
        current = self._files[0]
        try:
            if os.stat(self._path).st_ino == current.inode:
                return current.rewind_if_cut()
        except FileNotFoundError:
            return False
        # Nobody writes to the old file once the new one is there: now its end is final.
        record = current.next_record()
        if record is not None:
            current.put_back(record)
            return True
        chain = _open_chain(self._path)
        head = current.read_head()
        known = [
            index
            for index, file in enumerate(chain)
            if file.inode == current.inode or (file.is_packed and file.read_head() == head)
        ]
        first_newer = known[-1] + 1 if known else 0
        for file in chain[:first_newer]:
            file.close()
        self._files.extend(chain[first_newer:])
        return len(self._files) > 1

    def _seek_tail(self, tail: int) -> None:
        wanted = tail
        for file in reversed(self._files):
            wanted -= file.seek_tail(wanted)

    def _drain_events(self) -> None:
        try:
            while os.read(self._inotify, _BLOCK_SIZE):
                continue
        except BlockingIOError:
            return


def render_entry(entry: LogEntry, *, timestamps: bool = False, details: bool = False) -> bytes:
    """The entry as `docker logs` shows it."""
    line = entry.line
    if details:
        pairs = (
            f"{quote_plus(key)}={quote_plus(value)}"
            for key, value in sorted(entry.attributes.items())
        )
        line = ",".join(pairs).encode() + b" " + line
    if timestamps:
        line = format_time(entry.time_ns).encode() + b" " + line
    return line


class _File:
    """One plain file of the log, and how far it has been read."""

    is_packed = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._offset = 0
        self._records: deque[bytes] = deque()
        self._rest = b""
        self.inode = os.fstat(fd).st_ino

    def next_record(self) -> bytes | None:
        while not self._records:
            block = os.pread(self._fd, _BLOCK_SIZE, self._offset)
            if not block:
                return None
            self._offset += len(block)
            self._feed(block)
        return self._records.popleft()

    def put_back(self, record: bytes) -> None:
        self._records.appendleft(record)

    def read_head(self) -> bytes:
        """The beginning of the content: with its times it tells one file of a log from another."""
        return os.pread(self._fd, _HEAD_SIZE, 0)

    def rewind_if_cut(self) -> bool:
        """With one file only, rotation empties it in place."""
        if os.fstat(self._fd).st_size >= self._offset:
            return False
        self._offset = 0
        self._rest = b""
        return True

    def seek_tail(self, wanted: int) -> int:
        """Places the position before the last `wanted` records; returns how many there are, at most that."""
        position = os.fstat(self._fd).st_size
        found = -1  # the last newline ends a record and begins none
        while position > 0:
            start = max(0, position - _BLOCK_SIZE)
            block = os.pread(self._fd, position - start, start)
            newline = len(block)
            while (newline := block.rfind(b"\n", 0, newline)) >= 0:
                found += 1
                if found == wanted:
                    self._offset = start + newline + 1
                    return wanted
            position = start
        return found + 1

    def close(self) -> None:
        os.close(self._fd)

    def _feed(self, block: bytes) -> None:
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        self._records.extend(lines)


class _PackedFile(_File):
    """A rotated file that was compressed."""

    is_packed = True

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._unpacker = zlib.decompressobj(wbits=31)

    def next_record(self) -> bytes | None:
        while not self._records:
            block = os.pread(self._fd, _BLOCK_SIZE, self._offset)
            if not block:
                return None
            self._offset += len(block)
            try:
                self._feed(self._unpacker.decompress(block))
            except zlib.error:
                return None
        return self._records.popleft()

    def read_head(self) -> bytes:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            return unpacker.decompress(super().read_head(), _HEAD_SIZE)
        except zlib.error:
            return b""

    def seek_tail(self, wanted: int) -> int:
        last = deque(self._iterate(), maxlen=wanted)
        self._records = last
        return len(last)

    def _iterate(self) -> Iterator[bytes]:
        while (record := self.next_record()) is not None:
            yield record


def _open_chain(path: str) -> list[_File]:
    """The log's files, oldest first, all of one moment: no rotation happened while they were opened."""
    chain: list[_File] = []
    for _ in range(_CHAIN_TRIES):
        chain = _open_files(path)
        try:
            settled = not chain or os.stat(path).st_ino == chain[-1].inode
        except FileNotFoundError:
            settled = False
        if settled:
            break
        for file in chain:
            file.close()
        chain = []
    return chain


def _open_files(path: str) -> list[_File]:
    files: list[_File] = []
    try:
        files.append(_File(os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
        number = 1
        while True:
            try:
                files.append(_File(os.open(f"{path}.{number}", os.O_RDONLY | os.O_CLOEXEC)))
            except FileNotFoundError:
                files.append(
                    _PackedFile(os.open(f"{path}.{number}.gz", os.O_RDONLY | os.O_CLOEXEC))
                )
            number += 1
    except FileNotFoundError:
        pass
    files.reverse()
    return files
