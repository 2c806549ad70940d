"""The mounts of one RUN: what they bind, where that lives on this machine, and how it is taken away again.

Binds of stages and images are overlays mounted under RUN/build for as long as the step runs. Cache mounts are
directories under ROOT/build-cache that no layer sees. Secrets are files on a tmpfs of their own, so that they
are never on a disk. Mount points that the runtime had to make are removed from the step's upper directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wherry.build.instructions.run_mount import RunMount
from wherry.build.plan import HEREDOC_FOLDER, RunStep
from wherry.engine.build.records import CacheItem, StepFailed
from wherry.engine.clock import format_time
from wherry.kernel import syscalls
from wherry.kernel.consts import AT_FDCWD, MNT, MOVE_MOUNT, MS, RESOLVE
from wherry.kernel.mountinfo import read_mountinfo
from wherry.lib.cleanpath import clean_path
from wherry.lib.jsonvalue import JsonObject, JsonValue
from wherry.model.image import RootMount
from wherry.runtime.root import OverlayRoot, open_root

_MOUNT_NAME = re.compile(r"[0-9a-f]{32}(-\d+)?")
SECRETS_FOLDER = "/run/secrets"
_INSIDE = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS


@dataclass(slots=True)
class StepMounts:
    """What a specification gets, and what to undo afterwards."""

    mounts: list[JsonValue] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    mounted: list[Path] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    locks: list[asyncio.Lock] = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)
    relays: list[tuple[asyncio.Server, Path]] = field(default_factory=list)

    def release(self) -> None:
        """Unmounts, unlocks and stops listening. Idempotent."""
        for server, path in self.relays:
            server.close()
            with contextlib.suppress(OSError):
                path.unlink()
                path.parent.rmdir()
                path.parent.parent.rmdir()
        self.relays.clear()
        for path in reversed(self.mounted):
            with contextlib.suppress(OSError):
                syscalls.umount2(os.fsencode(path), MNT.DETACH)
                path.rmdir()
                path.parent.rmdir()
        self.mounted.clear()
        for lock in self.locks:
            lock.release()
        self.locks.clear()
        for undo in self.undo:
            undo()
        self.undo.clear()


class CacheFolders:
    """ROOT/build-cache: one folder per cache mount's id, and who may use it at a time."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "build-cache"
        self.folder.mkdir(mode=0o710, parents=True, exist_ok=True)
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    async def items(self) -> list[CacheItem]:
        """All that are there; which of them are in use is so when this returns."""
        found = await asyncio.to_thread(self._items)
        return [replace(item, in_use=self._users[item.key] > 0) for item in found]

    def _items(self) -> list[CacheItem]:
        found: list[CacheItem] = []
        for entry in sorted(self.folder.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
                if entry.is_dir():
                    found.append(self._item(entry))
        return [item for item in found if item.size_bytes or item.kind == "exec.cachemount"]

    def _item(self, entry: Path) -> CacheItem:
        total = 0
        for parent, _, files in os.walk(entry):
            for name in files:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(parent, name)).st_size
        try:
            identity = (self.folder / f"{entry.name}.id").read_text(errors="replace")
        except FileNotFoundError:
            identity = entry.name
        changed = format_time(entry.stat().st_mtime_ns)
        kind, description = "exec.cachemount", f"cached mount {identity}"
        if not _MOUNT_NAME.fullmatch(entry.name):  # a context that is kept, or downloads
            kind = "source.local" if identity != entry.name else "regular"
            description = identity if identity != entry.name else f"downloads by {entry.name}"
        return CacheItem(
            key=entry.name,
            is_folder=True,
            kind=kind,
            description=description,
            size_bytes=total,
            created=changed,
            last_used=changed,
        )

    async def take(
        self,
        mount: RunMount,
        prepared: StepMounts,
        new: Path,
        fill: Callable[[Path], Awaitable[None]] | None,
    ) -> Path:
        """The folder of the mount, locked as its sharing asks.

        One that is not there is made as `new`, and in its place when it is filled: no other step, and no engine
        after a crash, finds half of it.
        """
        identity = mount.id or clean_path(mount.target)
        name = hashlib.sha256(os.fsencode(identity)).hexdigest()[:32]
        if mount.sharing == "locked":
            await self._lock(name, prepared)
        elif mount.sharing == "private":
            number = 0
            while self._lock_of(f"{name}-{number}").locked():
                number += 1
            name = f"{name}-{number}"
            await self._lock(name, prepared)
        self._users[name] += 1
        prepared.undo.append(lambda: self._users.subtract([name]))
        path = self.folder / name
        async with self._lock_of(f"{name}/new"):
            if not os.access(path, os.F_OK):
                os.mkdir(new, 0o755)
                os.chmod(new, 0o755 if mount.mode is None else mount.mode & 0o7777)
                os.chown(new, mount.uid or 0, mount.gid or 0)
                if fill is not None:
                    await fill(new)
                (self.folder / f"{name}.id").write_text(identity, errors="surrogateescape")
                os.rename(new, path)
        return path

    def _lock_of(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _lock(self, name: str, prepared: StepMounts) -> None:
        lock = self._lock_of(name)
        await lock.acquire()
        prepared.locks.append(lock)


def mount_root(root: RootMount, target: Path) -> None:
    """Mounts a root at a folder of this machine. Blocking."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = open_root(OverlayRoot(root.lowers, root.upper, root.work))
    try:
        syscalls.move_mount(fd, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT.F_EMPTY_PATH)
    finally:
        os.close(fd)


def clear_mounts(folder: Path) -> None:
    """Unmounts and removes what an earlier engine left below RUN/build. Blocking."""
    for mount in reversed(read_mountinfo()):
        if mount.mount_point.startswith(f"{folder}/"):
            with contextlib.suppress(OSError):
                syscalls.umount2(os.fsencode(mount.mount_point), MNT.DETACH)
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            place = Path(parent, name)
            with contextlib.suppress(OSError):
                place.rmdir() if name in folders else place.unlink()


def make_folders(parent: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Folders of the engine's own below a step's."""
    folders = tuple(parent / name for name in names)
    for folder in folders:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return folders


def resolve_inside(root: Path, path: str, label: str) -> str:
    """The place of a path in a mounted root, links followed inside it. Raises StepFailed."""
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = syscalls.openat2(
            fd, os.fsencode(path.strip("/") or "."), os.O_PATH, resolve=_INSIDE
        )
    except OSError as error:
        raise StepFailed(
            f'failed to compute cache key: failed to calculate checksum of {label}: "{path}": not found'
        ) from error
    finally:
        os.close(fd)
    try:
        return os.readlink(f"/proc/self/fd/{found}")
    finally:
        os.close(found)


def bind(source: str, target: str, *, read_only: bool) -> JsonObject:
    """An OCI bind mount."""
    options = ["rbind", "rprivate", "ro" if read_only else "rw"]
    return {"destination": target, "type": "bind", "source": source, "options": options}


def tmpfs(mount: RunMount, target: str) -> JsonObject:
    """An OCI tmpfs."""
    options = ["nosuid", "nodev", "mode=1777"]
    if mount.size_bytes:
        options.append(f"size={mount.size_bytes}")
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}


def prepare_secrets(
    step: RunStep, secrets: Mapping[str, bytes], folder: Path, prepared: StepMounts
) -> None:
    """Secrets as files of a tmpfs, or as variables. Raises StepFailed. Blocking, but short."""
    ready = False
    for number, mount in enumerate(step.mounts):
        if mount.type != "secret":
            continue
        identity = mount.id or mount.source or posixpath.basename(mount.target) or mount.env or ""
        value = secrets.get(identity)
        if value is None:
            if mount.required:
                raise StepFailed(f"secret {identity}: not found")
            continue
        if mount.env is not None:
            prepared.env.append(f"{mount.env or identity}={os.fsdecode(value)}")
            if not mount.target:
                continue
        if not ready:
            _mount_tmpfs(folder)
            prepared.mounted.append(folder)
            ready = True
        path = folder / str(number)
        path.write_bytes(value)
        os.chown(path, mount.uid or 0, mount.gid or 0)
        path.chmod(0o400 if mount.mode is None else mount.mode & 0o7777)
        target = absolute(step.cwd, mount.target or f"{SECRETS_FOLDER}/{identity}")
        prepared.mounts.append(bind(str(path), target, read_only=True))
        prepared.targets.append(target)


def prepare_files(step: RunStep, folder: Path, prepared: StepMounts) -> None:
    """Here-documents with a first line `#!`, as programs."""
    if not step.files:
        return
    folder.mkdir(mode=0o755)
    for name, content in step.files:
        path = folder / hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
        path.write_bytes(os.fsencode(content))
        path.chmod(0o755)
        target = f"{HEREDOC_FOLDER}/{posixpath.basename(name)}"
        prepared.mounts.append(bind(str(path), target, read_only=True))


def _mount_tmpfs(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = MS.NOSUID | MS.NODEV | MS.NOEXEC
    syscalls.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, b"mode=0700")


def absolute(cwd: str, path: str) -> str:
    """A path of the container."""
    return "/" + clean_path("/" + posixpath.join(cwd, path)).lstrip("/")


def remove_stubs(upper: Path, lowers: Sequence[str], targets: Sequence[str]) -> None:
    """Takes empty mount points out of an upper directory that no lower one has. Blocking."""
    root = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for target in sorted(targets, key=len, reverse=True):
            path = target.strip("/")
            while path and not any(_exists(lower, path) for lower in lowers):
                if not _remove_empty(root, path):
                    break
                path = posixpath.dirname(path)
    finally:
        os.close(root)


def _exists(lower: str, path: str) -> bool:
    fd = os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = syscalls.openat2(
            fd, os.fsencode(path), os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE.NO_SYMLINKS
        )
    except OSError as error:
        return error.errno not in {errno.ENOENT, errno.ENOTDIR}
    finally:
        os.close(fd)
    os.close(found)
    return True


def _remove_empty(root: int, path: str) -> bool:
    folder, name = posixpath.split(path)
    try:
        parent = syscalls.openat2(
            root,
            os.fsencode(folder or "."),
            os.O_RDONLY | os.O_DIRECTORY,
            resolve=RESOLVE.NO_SYMLINKS | RESOLVE.BENEATH,
        )
    except OSError:
        return False
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode) and not status.st_size:
            os.unlink(name, dir_fd=parent)
        else:
            return False
    except FileNotFoundError:
        return True
    except OSError:
        return False
    finally:
        os.close(parent)
    return True
