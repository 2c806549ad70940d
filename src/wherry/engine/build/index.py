"""A build context as an index of its tar: what COPY selects from and what cache keys are made of.

The tar stays one file and is never unpacked for COPY: an entry knows where its data is. Building the index
hashes every file; it runs in a worker (`index_context`) or, for small contexts, in a thread. Paths are
relative, clean and cannot leave the context; symlinks are followed inside it only.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.build.errors import suggest
from wherry.build.ignore import IgnoreMatcher, compile_pattern, compile_patterns
from wherry.image.layer.streams import Decompressor
from wherry.lib.archives import HEAD_BYTES, is_compressed
from wherry.lib.jsonvalue import JsonValue
from wherry.lib.tar.reader import (
    BLOCK,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Read,
    TarError,
    TarReader,
)
from wherry.model.errors import InvalidArgument, NotFound

MAX_LINKS = 40
_SIMPLE = {DIRECTORY: "d", FIFO: "p"}
WILDCARDS = re.compile(r"[*?\[\\]")


class NoSuchFile(NotFound):
    """COPY or ADD names a file that the context does not have."""

    def __init__(self, keyword: str, path: str, hint: str = "") -> None:
        super().__init__(
            f"{keyword} failed: file not found in build context or excluded by .dockerignore:"
            f" stat {path.lstrip('/')}: file does not exist{hint}"
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or symlink; `offset` is where its data begins in the tar."""

    path: str
    kind: str  # "d", "f", "l", "p" (a FIFO)
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    link: str = ""
    digest: str = ""
    offset: int = 0
    mtime_ns: int = 0

    @property
    def fingerprint(self) -> str:
        """What makes the entry the same to the cache: BuildKit's header hash has no time either."""
        return f"{self.kind}\0{self.mode:o}\0{self.link}\0{self.digest}"


@dataclass(frozen=True, slots=True)
class Selection:
    """One source of a COPY: the entry itself first (path ""), then all below it, by relative path."""

    name: str
    entries: tuple[tuple[str, Entry], ...]

    @property
    def is_directory(self) -> bool:
        """Whether the source itself is a directory."""
        return self.entries[0][1].kind == "d"


ROOT = Entry("", "d", 0o755)


class ContextIndex:
    """All entries of one context by path; parents that the tar does not name are there too."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: dict[str, Entry] = {"": ROOT}
        for entry in entries:
            self._add_parents(entry.path)
            self.entries[entry.path] = entry
        self._children: dict[str, list[str]] = {}
        for path in sorted(self.entries):
            if path:
                self._children.setdefault(posixpath.dirname(path), []).append(path)

    def _add_parents(self, path: str) -> None:
        parent = posixpath.dirname(path)
        while parent and parent not in self.entries:
            self.entries[parent] = Entry(parent, "d", 0o755)
            parent = posixpath.dirname(parent)

    def without(self, matcher: IgnoreMatcher) -> ContextIndex:
        """The context as `.dockerignore` leaves it."""
        if not matcher.patterns:
            return self
        return ContextIndex(
            entry for path, entry in self.entries.items() if path and not matcher.matches(path)
        )

    def below(self, prefix: str) -> ContextIndex:
        """A folder of the context as a context of its own."""
        start = prefix + "/"
        return ContextIndex(
            Entry(
                path[len(start) :],
                entry.kind,
                entry.mode,
                entry.uid,
                entry.gid,
                entry.size,
                entry.link,
                entry.digest,
                entry.offset,
                entry.mtime_ns,
            )
            for path, entry in self.entries.items()
            if path.startswith(start)
        )

    def find(self, path: str) -> Entry | None:
        """The entry that the path means, symlinks followed inside the context."""
        remaining = [part for part in path.split("/") if part not in {"", "."}]
        place: list[str] = []
        links = 0
        while remaining:
            part = remaining.pop(0)
            if part == "..":
                place = place[:-1]
                continue
            entry = self.entries.get("/".join([*place, part]))
            if entry is None:
                return None
            if entry.kind == "l":
                links += 1
                if links > MAX_LINKS:
                    return None
                target = [piece for piece in entry.link.split("/") if piece not in {"", "."}]
                place = [] if entry.link.startswith("/") else place
                remaining = [*target, *remaining]
                continue
            place.append(part)
        return self.entries.get("/".join(place))

    def select(
        self, keyword: str, source: str, excludes: tuple[str, ...] = ()
    ) -> tuple[Selection, ...]:
        """What one source of COPY or ADD means. Raises NoSuchFile, InvalidArgument."""
        matcher = compile_patterns(excludes)
        clean = posixpath.normpath("/" + source).lstrip("/")
        if WILDCARDS.search(clean):
            paths = self._expand(clean)
        else:
            if self.find(clean) is None:
                names = [posixpath.basename(path) for path in self.entries if path]
                raise NoSuchFile(keyword, source, suggest(posixpath.basename(clean), set(names)))
            paths = [clean]
        selections: list[Selection] = []
        for path in paths:
            entry = self.find(path)
            if entry is None:
                continue
            name = posixpath.basename(path)
            selections.append(Selection(name, tuple(self._walk(entry, matcher))))
        return tuple(selections)

    def _expand(self, pattern: str) -> list[str]:
        """All paths that match, sorted; `*` does not cross a slash."""
        compiled = compile_pattern(pattern)
        depth = pattern.count("/")
        return [
            path
            for path in sorted(self.entries)
            if path and path.count("/") == depth and compiled.matches(path)
        ]

    def _walk(self, top: Entry, matcher: IgnoreMatcher) -> Iterator[tuple[str, Entry]]:
        yield "", top
        if top.kind != "d":
            return
        prefix = len(top.path) + 1 if top.path else 0
        waiting = list(reversed(self._children.get(top.path, ())))
        while waiting:
            path = waiting.pop()
            entry = self.entries[path]
            relative = path[prefix:]
            if not matcher.patterns or not matcher.matches(relative):
                yield relative, entry
            elif entry.kind != "d" or not matcher.has_exclusions:
                continue
            waiting.extend(reversed(self._children.get(path, ())))


def digest_selections(selections: Sequence[Selection]) -> str:
    """The content digest of a COPY: names, kinds, modes, link targets and data; never times or owners."""
    result = hashlib.sha256()
    for selection in selections:
        result.update(os.fsencode(f"\1{'' if selection.is_directory else selection.name}\0"))
        for relative, entry in sorted(selection.entries, key=lambda pair: pair[0]):
            result.update(os.fsencode(f"{relative}\0{entry.fingerprint}\n"))
    return result.hexdigest()


def index_context(arguments: JsonValue, report: object) -> JsonValue:
    """Worker: reads the body, writes the plain tar beside it when it is compressed, answers the entries."""
    del report
    if not isinstance(arguments, dict):
        raise TypeError("the arguments are not an object")
    body, plain = Path(str(arguments["body"])), Path(str(arguments["plain"]))
    entries, is_plain = read_index(body, plain)
    rows: list[JsonValue] = [
        [
            entry.path,
            entry.kind,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            entry.link,
            entry.digest,
            entry.offset,
            entry.mtime_ns,
        ]
        for entry in entries
    ]
    return {"entries": rows, "plain": is_plain}


def read_index(body: Path, plain: Path) -> tuple[list[Entry], bool]:
    """The entries, and whether `body` itself is the tar (else `plain` is). Raises InvalidArgument."""
    with body.open("rb", buffering=0) as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if not is_compressed(head):
            return _read_entries(file.read), True
        decompressor = Decompressor(file.read)
        with plain.open("wb") as out:

            def read(count: int) -> bytes:
                data = decompressor.read(count)
                out.write(data)
                return data

            return _read_entries(read), False


def _read_entries(read: Read) -> list[Entry]:
    reader = TarReader(_padded(read))
    entries: dict[str, Entry] = {}
    try:
        for member in reader:
            path = _clean(os.fsdecode(member.path))
            if not path or path.startswith("../") or path == "..":
                continue
            mode = member.mode & 0o7777
            common = (mode, member.uid, member.gid)
            if member.type in _SIMPLE:
                kind = _SIMPLE[member.type]
                entries[path] = Entry(path, kind, *common, mtime_ns=member.mtime_ns)
            elif member.type == SYMLINK:
                link = os.fsdecode(member.link)
                entries[path] = Entry(path, "l", *common, link=link, mtime_ns=member.mtime_ns)
            elif member.type == HARD_LINK:
                target = entries.get(_clean(os.fsdecode(member.link)))
                if target is not None and target.kind == "f":
                    entries[path] = Entry(
                        path,
                        "f",
                        target.mode,
                        target.uid,
                        target.gid,
                        target.size,
                        "",
                        target.digest,
                        target.offset,
                        target.mtime_ns,
                    )
            elif member.type == REGULAR:
                if member.extents is not None:
                    raise InvalidArgument(f"{path}: sparse files are not supported in a context")
                digest = hashlib.sha256()
                for piece in reader.data():
                    digest.update(piece)
                entries[path] = Entry(
                    path,
                    "f",
                    *common,
                    size=member.size,
                    digest=digest.hexdigest(),
                    offset=member.offset,
                    mtime_ns=member.mtime_ns,
                )
    except TarError as error:
        raise InvalidArgument(f"unexpected build context: {error}") from error
    reader.drain()
    return list(entries.values())


def _padded(read: Read) -> Read:
    """The archive with its end: the official client leaves out what follows the last byte of the last file."""
    size = 0
    ended = False

    def read_on(count: int) -> bytes:
        nonlocal size, ended
        data = read(count)
        if not data and not ended:
            ended = True
            return bytes(-size % BLOCK + 2 * BLOCK)
        size += len(data)
        return data

    return read_on


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path).lstrip("/")
