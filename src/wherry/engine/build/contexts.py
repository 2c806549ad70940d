"""Where a build's files come from: the body of the request, a URL, a git repository; and the Dockerfile in it.

The body is kept as one tar under ROOT/build while the build runs, with an index (`index.py`). It is unpacked
only when a RUN binds the context.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.build.ignore import IgnoreMatcher, compile_patterns, parse_ignore_file
from wherry.build.remote import is_git
from wherry.engine.build.fetch import Fetcher, parse_git
from wherry.engine.build.index import ContextIndex, Entry, read_index
from wherry.engine.build.kept import KeptContexts
from wherry.engine.build.layers import Workspace
from wherry.engine.build.records import BuildOptions
from wherry.engine.images.worker import run_image_worker
from wherry.lib.archives import HEAD_BYTES, is_archive, is_compressed
from wherry.lib.jsonvalue import JsonValue
from wherry.lib.program import run_worker
from wherry.model.errors import Internal, InvalidArgument, NotFound

SMALL_BODY = 1 << 20
NAMED_PREFIX = ".wherry-contexts"
MAX_DOCKERFILE = 4 << 20
IGNORE_NAME = ".dockerignore"


@dataclass(slots=True)
class BuildContext:
    """One context; `index` is what `.dockerignore` leaves."""

    folder: Path
    tar: Path
    whole: ContextIndex
    index: ContextIndex
    ignore: IgnoreMatcher
    _unpacked: asyncio.Task[Path] | None = None

    def read(self, path: str) -> bytes | None:
        """A small file of the context, `.dockerignore` not applied."""
        entry = self.whole.find(path)
        if entry is None or entry.kind != "f" or entry.size > MAX_DOCKERFILE:
            return None
        with self.tar.open("rb") as file:
            file.seek(entry.offset)
            return file.read(entry.size)

    def cache_folder(self, number: int) -> BuildContext:
        """The folder of a `--cache-from type=local`, which travels inside the body as named contexts do.

        No named context can be called so: its name ends at the first `=`.
        """
        below = self.whole.below(f"{NAMED_PREFIX}/cache={number}")
        return replace(self, whole=below, index=below)

    async def unpacked(self) -> Path:
        """The context as a folder; made once."""
        if self._unpacked is None:
            self._unpacked = asyncio.get_running_loop().create_task(self._unpack())
        return await asyncio.shield(self._unpacked)

    async def _unpack(self) -> Path:
        target = self.folder / "unpacked"
        target.mkdir(mode=0o755)
        selections = self.index.select("COPY", "/")
        await run_worker(
            "wherry.engine.build.copying:copy",
            {
                "root": {"path": str(target)},
                "destination": "/",
                "jobs": [tar_job(self.tar, "", selection.entries) for selection in selections],
            },
        )
        return target


def tar_job(
    tar: Path, name: str, entries: tuple[tuple[str, Entry], ...], parent: str = ""
) -> dict[str, JsonValue]:
    """A job of the copy worker."""
    rows: list[JsonValue] = [
        [path, entry.kind, entry.mode, entry.size, entry.link, entry.offset, entry.mtime_ns]
        for path, entry in entries
    ]
    return {"kind": "tar", "tar": str(tar), "name": name, "entries": rows, "parent": parent}


class Contexts:
    """Takes contexts in."""

    def __init__(self, workspace: Workspace, fetcher: Fetcher, kept: KeptContexts) -> None:
        self._workspace = workspace
        self._fetcher = fetcher
        self._kept = kept

    async def receive(
        self, options: BuildOptions, body: AsyncIterator[bytes]
    ) -> tuple[BuildContext, BuildOptions, bytes]:
        """The context, the options (a remote may be a Dockerfile only), and the Dockerfile's text."""
        folder = self._workspace.make()
        try:
            if options.remote:
                return await self._receive_remote(options, folder)
            path = folder / "body"
            with path.open("wb") as file:
                async for piece in body:
                    file.write(piece)
            context = await self._index(folder, path, options)
            return context, options, self._dockerfile(context, options)
        except BaseException:
            self._workspace.discard(folder)
            raise

    async def _receive_remote(
        self, options: BuildOptions, folder: Path
    ) -> tuple[BuildContext, BuildOptions, bytes]:
        path = folder / "body"
        if is_git(options.remote):
            keep = options.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") in {"1", "true"}
            await self._archive_git(options.remote, folder / "git", path, keep_git_dir=keep)
        else:
            try:
                fetched = await self._fetcher.get(options.remote)
            except (NotFound, Internal) as error:
                sentence = f"error downloading remote context {options.remote}: {error}"
                raise type(error)(sentence) from error
            if not await asyncio.to_thread(_is_archive, fetched.path):
                text = await asyncio.to_thread(_read_dockerfile, fetched.path, options.remote)
                path.write_bytes(bytes(1024))
                context = await self._index(folder, path, options)
                return context, replace(options, dockerfile="Dockerfile"), text
            path.symlink_to(fetched.path)
        context = await self._index(folder, path, options)
        return context, options, self._dockerfile(context, options)

    async def _archive_git(
        self, remote: str, target: Path, tar: Path, *, keep_git_dir: bool
    ) -> None:
        """The files of a repository and its submodules, as they were checked out."""
        source = parse_git(remote)
        await self._fetcher.checkout(source, target)
        if not keep_git_dir:
            self._workspace.discard(target / ".git")
        tree = await asyncio.to_thread(_find_inside, target, source.folder)
        if tree is None:
            raise InvalidArgument(f"{remote}: the repository has no folder {source.folder}")
        with tar.open("wb") as file:
            await run_image_worker(
                "wherry.image.layer.diff:export",
                {"roots": [{"trees": [str(tree)]}], "output": file.fileno()},
                fds=(file.fileno(),),
            )

    async def archive(self, source: str) -> BuildContext:
        """A git repository or a URL as a named context or an ADD's source."""
        options = BuildOptions(remote=source, dockerfile_text=b"")
        context, _, _ = await self.receive(options, _nothing())
        return context

    async def _index(self, folder: Path, body: Path, options: BuildOptions) -> BuildContext:
        plain = folder / "context.tar"
        if await asyncio.to_thread(is_small, body):
            entries, is_plain = await asyncio.to_thread(read_index, body, plain)
        else:
            answer = await run_image_worker(
                "wherry.engine.build.index:index_context", {"body": str(body), "plain": str(plain)}
            )
            entries, is_plain = decode_index(answer)
        tar = body if is_plain else plain
        if options.offered_context:
            data = folder / "context"
            entries = await self._kept.complete(options.offered_context, tar, entries, data)
            tar = data
        whole = ContextIndex(entries)
        context = BuildContext(
            folder=folder,
            tar=tar,
            whole=whole,
            index=whole,
            ignore=compile_patterns(()),
        )
        text = context.read(f"{options.dockerfile}{IGNORE_NAME}") or context.read(IGNORE_NAME)
        patterns = parse_ignore_file((text or b"").decode(errors="surrogateescape"))
        context.ignore = compile_patterns((*patterns, NAMED_PREFIX))
        context.index = whole.without(context.ignore)
        return context

    def _dockerfile(self, context: BuildContext, options: BuildOptions) -> bytes:
        if options.dockerfile_text is not None:
            return options.dockerfile_text
        name = posixpath.normpath("/" + options.dockerfile).lstrip("/")
        text = context.read(name)
        if text is None and name == "Dockerfile":
            text = context.read("dockerfile")
        if text is None:
            raise InvalidArgument(f"Cannot locate specified Dockerfile: {options.dockerfile}")
        if not text:
            raise InvalidArgument(f"the Dockerfile ({options.dockerfile}) cannot be empty")
        return text

    def named(self, context: BuildContext, name: str) -> BuildContext:
        """A local named context, which travels inside the body."""
        below = context.whole.below(f"{NAMED_PREFIX}/{name}")
        named = BuildContext(
            folder=context.folder / f"named-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}",
            tar=context.tar,
            whole=below,
            index=below,
            ignore=compile_patterns(()),
        )
        named.folder.mkdir(exist_ok=True)
        text = named.read(IGNORE_NAME)
        named.ignore = compile_patterns(
            parse_ignore_file((text or b"").decode(errors="surrogateescape"))
        )
        named.index = below.without(named.ignore)
        return named

    def discard(self, context: BuildContext) -> None:
        """At the end of the build."""
        self._workspace.discard(context.folder)


def _find_inside(root: Path, folder: str) -> Path | None:
    """A folder of a repository; None when it is not there or a link leads out of it."""
    found = (root / folder).resolve()
    return found if found.is_dir() and found.is_relative_to(root.resolve()) else None


def decode_index(answer: JsonValue) -> tuple[list[Entry], bool]:
    """What the worker answers, as entries."""
    if not isinstance(answer, dict) or not isinstance(answer.get("entries"), list):
        raise TypeError("the index worker gave no entries")
    rows = answer["entries"]
    entries: list[Entry] = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, list):
            path, kind, mode, uid, gid, size, link, digest, offset, mtime_ns = row
            entries.append(
                Entry(
                    str(path),
                    str(kind),
                    _int(mode),
                    _int(uid),
                    _int(gid),
                    _int(size),
                    str(link),
                    str(digest),
                    _int(offset),
                    _int(mtime_ns),
                )
            )
    return entries, answer.get("plain") is True


def _int(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0


def is_small(body: Path) -> bool:
    """Whether it is read sooner than a worker starts. A compressed one may be anything."""
    with body.open("rb") as file:
        return os.fstat(file.fileno()).st_size <= SMALL_BODY and not is_compressed(
            file.read(HEAD_BYTES)
        )


def _read_dockerfile(path: Path, name: str) -> bytes:
    with path.open("rb") as file:
        text = file.read(MAX_DOCKERFILE + 1)
    if len(text) > MAX_DOCKERFILE:
        raise InvalidArgument(
            f"{name} is neither an archive nor a Dockerfile of at most {MAX_DOCKERFILE} bytes"
        )
    return text


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return is_archive(file.read(HEAD_BYTES))


async def _nothing() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece
