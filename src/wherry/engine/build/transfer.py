"""COPY, ADD and WORKDIR: what is asked for becomes jobs of the copy worker, and a key of the content.

The selection from a context is made here from its index, which also gives the key without touching a file.
Trees of stages and images are selected by the worker, which has them mounted.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.build.plan import CopyStep, WorkdirStep
from wherry.build.remote import is_git, is_url
from wherry.engine.build.contexts import BuildContext, tar_job
from wherry.engine.build.fetch import Fetcher, parse_git
from wherry.engine.build.flights import Done
from wherry.engine.build.index import NoSuchFile, Selection, digest_selections
from wherry.engine.build.layers import Chain, Layer, Workspace
from wherry.engine.build.records import StepFailed
from wherry.engine.images import Images
from wherry.engine.images.worker import run_image_worker
from wherry.image.layer.record import LayerRecord
from wherry.image.snapshot.stubs import find_directory, set_attributes
from wherry.lib.jsonvalue import JsonValue, get_str
from wherry.lib.program import WorkerError, WorkerPool
from wherry.model.errors import FULL_DISK, Internal, InvalidArgument, NoSpace
from wherry.model.image import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where files come from: a context, or a chain with its key."""

    label: str
    context: BuildContext | None = None
    chain: Chain | None = None
    key: str = ""

    def key_of(self, paths: Sequence[str], keyword: str) -> str:
        """The key of what these paths hold."""
        if self.context is None:
            return self.key
        selections: list[Selection] = []
        for path in paths:
            selections.extend(self.context.index.select(keyword, path))
        return digest_selections(selections)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCopy:
    """A COPY or ADD with its sources found; `key` stands for their content."""

    jobs: tuple[dict[str, JsonValue], ...]
    key: str
    tree: Chain | None = None
    paths: tuple[str, ...] = ()
    label: str = ""

    @property
    def has_tree(self) -> bool:
        """Whether the content is known only after the copy."""
        return self.tree is not None


class Transfers:
    """Copies of one engine."""

    def __init__(self, workspace: Workspace, fetcher: Fetcher, images: Images) -> None:
        self._workspace = workspace
        self._fetcher = fetcher
        self._images = images
        # Apart, since the copy function forbids its process to import.
        self._copiers = WorkerPool(idle_s=5.0)
        self._writers = WorkerPool(idle_s=5.0)

    async def close(self) -> None:
        """Ends the workers."""
        await self._copiers.close()
        await self._writers.close()

    async def prepare(self, step: CopyStep, source: Source, epoch: int | None) -> PreparedCopy:
        """Finds the sources. Raises NoSuchFile, StepFailed, InvalidArgument."""
        keyword = "ADD" if step.is_add else "COPY"
        if source.chain is not None:
            return PreparedCopy(
                jobs=(),
                key=source.key,
                tree=source.chain,
                paths=step.sources,
                label=source.label,
            )
        if source.context is None:
            raise Internal("a source is neither a context nor a tree")
        jobs: list[dict[str, JsonValue]] = []
        keys: list[str] = []
        selections: list[Selection] = []
        for path in step.sources:
            if step.is_add and is_git(path):
                job, key = await self._prepare_git(step, path)
                jobs.append(job)
                keys.append(key)
            elif step.is_add and is_url(path):
                job, key = await self._prepare_url(step, path)
                jobs.append(job)
                keys.append(key)
            else:
                found = self._select(step, keyword, source.context, path)
                selections.extend(selection for selection, _ in found)
                jobs.extend(job for _, job in found)
        seconds = int(time.time()) if epoch is None else epoch
        jobs.extend(
            {
                "kind": "inline",
                "name": name,
                "content": content,
                "mtime": seconds * 1_000_000_000,
            }
            for name, content in step.files
        )
        digest = hashlib.sha256(digest_selections(selections).encode())
        digest.update("\0".join([*keys, "" if epoch is None else str(epoch)]).encode())
        return PreparedCopy(jobs=tuple(jobs), key=digest.hexdigest())

    def _select(
        self, step: CopyStep, keyword: str, context: BuildContext, path: str
    ) -> list[tuple[Selection, dict[str, JsonValue]]]:
        pivot, has_pivot, rest = path.partition("/./")
        whole = f"{pivot}/{rest}" if has_pivot else path
        try:
            selections = context.index.select(keyword, whole, step.excludes)
        except NoSuchFile as error:
            raise StepFailed(str(error)) from error
        found: list[tuple[Selection, dict[str, JsonValue]]] = []
        for selection in selections:
            parent = ""
            if step.parents:
                parent = posixpath.dirname(selection.entries[0][1].path)
                if has_pivot:
                    start = posixpath.normpath("/" + pivot).lstrip("/")
                    parent = posixpath.relpath("/" + parent, "/" + start)
                    parent = "" if parent == "." else parent
            job = tar_job(context.tar, selection.name, selection.entries, parent)
            job["unpack"] = step.is_add and step.unpack is not False
            found.append((selection, job))
        return found

    async def _prepare_url(self, step: CopyStep, url: str) -> tuple[dict[str, JsonValue], str]:
        fetched = await self._fetcher.get(url)
        if step.checksum:
            algorithm, _, expected = step.checksum.partition(":")
            if algorithm != "sha256":
                raise InvalidArgument(f"unsupported checksum algorithm {algorithm}")
            if fetched.digest != expected:
                raise StepFailed(
                    f"digest mismatch sha256:{fetched.digest}: sha256:{expected} ({url})"
                )
        job: dict[str, JsonValue] = {
            "kind": "file",
            "path": str(fetched.path),
            "name": fetched.name,
            "mode": 0o600,
            "mtime": fetched.mtime_ns,
            "unpack": bool(step.unpack),
        }
        return job, f"{fetched.name}\0{fetched.digest}"

    async def _prepare_git(self, step: CopyStep, url: str) -> tuple[dict[str, JsonValue], str]:
        source = parse_git(url)
        commit = await self._fetcher.find_commit(source)
        if step.checksum and not commit.startswith(step.checksum):
            raise StepFailed(f"expected checksum to match {step.checksum}, got {commit}")
        job: dict[str, JsonValue] = {
            "kind": "git",
            "url": url,
            "commit": commit,
            "folder": source.folder,
            "keep": step.keep_git_dir,
        }
        return job, f"git\0{source.url}\0{commit}\0{source.folder}"

    async def copy(
        self, step: CopyStep, chain: Chain | None, prepared: PreparedCopy, epoch: int | None
    ) -> Done:
        """Does it, into a new upper directory; without a chain, onto nothing. Raises StepFailed."""
        folder = self._workspace.make()
        try:
            if not step.is_add and prepared.tree is None:
                done = await self._write_layer(step, chain or Chain(), prepared, folder, epoch)
                if done is not None:
                    self._workspace.discard(folder)
                    return done
            jobs = [await self._complete(job, folder) for job in prepared.jobs]
            if prepared.tree is not None:
                lowers = (await self._workspace.read_only(prepared.tree, folder)).lowers
                jobs.append(
                    {
                        "kind": "tree",
                        "tree": {"lowers": list(lowers)},
                        "paths": list(prepared.paths),
                        "label": prepared.label,
                    }
                )
            return await self._run(
                chain,
                folder,
                {
                    "destination": step.destination,
                    "chown": step.chown,
                    "chmod": step.chmod,
                    "excludes": list(step.excludes),
                    "parents": step.parents,
                    "jobs": jobs,
                },
                epoch,
            )
        except BaseException:
            self._workspace.discard(folder)
            raise

    async def _write_layer(
        self, step: CopyStep, chain: Chain, prepared: PreparedCopy, folder: Path, epoch: int | None
    ) -> Done | None:
        """The copy as a layer at once; None when it is not plain enough."""
        root = await self._workspace.read_only(chain, folder)
        images = self._images
        request: dict[str, JsonValue] = {
            "lowers": list(root.lowers),
            "destination": step.destination,
            "chown": step.chown,
            "chmod": step.chmod,
            "parents": step.parents,
            "epoch": -1 if epoch is None else epoch,
            "jobs": list(prepared.jobs),
            "layers": str(images.layers.folder),
            "blobs": str(images.content.path(Digest("sha256:" + "0" * 64)).parent),
            "driver": images.driver,
            "token": folder.name,
        }
        try:
            answer = await run_image_worker(
                "wherry.engine.build.direct:copy_as_layer", request, workers=self._writers
            )
        except BaseException:
            for half_made in images.layers.folder.glob(f".new-{folder.name}*"):
                self._workspace.discard(half_made)  # of a worker that was killed
            raise
        if answer is None:
            return None
        if not isinstance(answer, Mapping):
            return Done(layer=None)
        record = images.layers.get(LayerRecord.from_json(answer).diff_id)
        return Done(layer=Layer(record.diff_id))

    async def _complete(self, job: dict[str, JsonValue], folder: Path) -> dict[str, JsonValue]:
        if job["kind"] != "git":
            return job
        target = folder / f"git-{hashlib.sha256(str(job['url']).encode()).hexdigest()[:12]}"
        await self._fetcher.checkout(parse_git(str(job["url"])), target)
        if not job["keep"]:
            self._workspace.discard(target / ".git")
        inner = str(job["folder"]) or "/"
        return {"kind": "tree", "tree": {"path": str(target)}, "paths": [inner], "label": "git"}

    async def make_folder(self, step: WorkdirStep, chain: Chain, epoch: int | None) -> Done:
        """WORKDIR. Folders that are there cost nothing, plain ones are made without a worker."""
        trees = await self._workspace.trees(chain)
        if find_directory(trees, step.path.strip("/")) is not None:
            return Done(layer=None)
        folder = self._workspace.make()
        try:
            owner = _numeric_owner(step.user)
            if owner is not None:
                root = await self._workspace.writable(chain, folder, stubs=False)
                if _make_plain(Path(root.upper), trees, step.path.strip("/"), owner, epoch):
                    return Done(layer=Layer(None, Path(root.upper)))
                self._workspace.discard(folder)
                folder = self._workspace.make()
            job: dict[str, JsonValue] = {"kind": "mkdir", "path": step.path, "user": step.user}
            return await self._run(chain, folder, {"destination": "/", "jobs": [job]}, epoch)
        except BaseException:
            self._workspace.discard(folder)
            raise

    async def _run(
        self,
        chain: Chain | None,
        folder: Path,
        request: dict[str, JsonValue],
        epoch: int | None,
    ) -> Done:
        upper = folder / "upper"
        if chain is None:
            # No overlay: it would mark the directories opaque, which then hide those of the base.
            upper.mkdir(mode=0o755)
            request["root"] = {"path": str(upper)}
        else:
            root = await self._workspace.writable(chain, folder, stubs=False)
            request["root"] = {"lowers": list(root.lowers), "upper": root.upper, "work": root.work}
        request["epoch"] = -1 if epoch is None else epoch
        try:
            answer = await self._copiers.run("wherry.engine.build.copying:copy", request)
        except WorkerError as error:
            raise _copy_failure(error) from error
        if not isinstance(answer, dict):
            raise Internal("the copy worker gave no answer")
        with os.scandir(upper) as entries:
            is_empty = next(entries, None) is None
        if is_empty:
            self._workspace.discard(folder)
            return Done(layer=None, content=get_str(answer, "digest"))
        return Done(layer=Layer(None, upper), content=get_str(answer, "digest"))


def _copy_failure(error: WorkerError) -> Exception:
    if error.kind in {"CopyError", "TarError", "StreamError"}:
        return StepFailed(str(error))
    if error.errno in FULL_DISK:
        return NoSpace(error)
    return Internal(f"copy: {error}")


def _numeric_owner(user: str) -> tuple[int, int] | None:
    """The owner when no file of the image must be read for it."""
    if user in {"", "root", "0", "0:0", "root:root"}:
        return 0, 0
    uid, _, gid = user.partition(":")
    if uid.isascii() and uid.isdigit() and gid.isascii() and gid.isdigit():
        return int(uid), int(gid)
    return None


def _make_plain(
    upper: Path, trees: Sequence[Path], path: str, owner: tuple[int, int], epoch: int | None
) -> bool:
    """Makes folders in an empty upper directory where nothing but plain folders is on the way.

    False when something else is: then a worker does it, with the root mounted.
    """
    place = upper
    missing = False
    parts = path.split("/")
    for at, part in enumerate(parts):
        place /= part
        prefix = "/".join(parts[: at + 1])
        attributes = None if missing else find_directory(trees, prefix)
        if attributes is not None:
            place.mkdir()
            set_attributes(place, attributes)
            continue
        if not missing and any(_is_there(tree, prefix) for tree in trees):
            return False
        missing = True
        place.mkdir(mode=0o755)
        place.chmod(0o755)
        os.chown(place, *owner)
        if epoch is not None:
            os.utime(place, (epoch, epoch))
    return True


def _is_there(tree: Path, path: str) -> bool:
    """Whether a name is in a tree as anything but a whiteout; links on the way count as there."""
    place = tree
    for part in path.split("/"):
        place /= part
        try:
            status = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if stat.S_ISLNK(status.st_mode):
            return True
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            return False
    return True
