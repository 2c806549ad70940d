"""Vocabulary of the image tests: archives, trees as comparable values, mounted roots."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from wherry.engine.images import Images, making
from wherry.engine.store import Store
from wherry.image.layer.mount import unmount
from wherry.kernel import syscalls
from wherry.kernel.mountinfo import read_mountinfo
from wherry.model.container import ContainerConfig
from wherry.model.image import HistoryEntry, Image, RootMount

TIME = 1_600_000_000


class Tar:
    """An archive in memory, written member by member with any nonsense in it."""

    def __init__(self, format_: int = tarfile.PAX_FORMAT) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=format_)

    def add(
        self,
        name: str,
        content: bytes = b"",
        *,
        kind: bytes = tarfile.REGTYPE,
        mode: int = 0o644,
        link: str = "",
        uid: int = 0,
        gid: int = 0,
        mtime: float = TIME,
        device: tuple[int, int] = (0, 0),
        xattrs: dict[str, str] | None = None,
    ) -> Tar:
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.linkname = kind, mode, link
        member.uid, member.gid, member.mtime, member.size = uid, gid, mtime, len(content)
        member.devmajor, member.devminor = device
        member.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
        self._tar.addfile(member, io.BytesIO(content))
        return self

    def folder(
        self,
        name: str,
        mode: int = 0o755,
        *,
        uid: int = 0,
        gid: int = 0,
        mtime: float = TIME,
        xattrs: dict[str, str] | None = None,
    ) -> Tar:
        return self.add(
            name, kind=tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid, mtime=mtime, xattrs=xattrs
        )

    def symlink(self, name: str, target: str) -> Tar:
        return self.add(name, kind=tarfile.SYMTYPE, link=target)

    def hard_link(self, name: str, target: str) -> Tar:
        return self.add(name, kind=tarfile.LNKTYPE, link=target)

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@contextmanager
def open_images(folder: Path, driver: str = "") -> Iterator[Images]:
    """An image service of its own; `close` is the caller's."""
    root, run = folder / "root", folder / "run"
    root.mkdir(exist_ok=True)
    run.mkdir(exist_ok=True)
    store = Store(root / "state.db")
    try:
        yield Images(store, root, run, driver=driver)
    except BaseException:
        unmount_below(folder)  # a test that fails must not leave a mount for the next
        raise
    finally:
        store.close()


def unmount_below(folder: Path) -> None:
    for info in reversed(read_mountinfo()):
        if info.mount_point.startswith(f"{folder}/"):
            unmount(Path(info.mount_point))


async def make_image(images: Images, *layers: Tar | bytes) -> Image:
    """An image of these layers, bottom first, without a name."""
    image: Image | None = None
    for layer in layers:
        data = layer.bytes() if isinstance(layer, Tar) else layer
        with images.building():
            image = await making.make_child(
                images,
                image,
                await making.layer_of_stream(images, stream(data)),
                config=ContainerConfig(cmd=("true",)),
                history=HistoryEntry(created="2020-01-01T00:00:00Z", created_by="test"),
            )
    assert image is not None
    return image


@contextmanager
def mounted(mount: RootMount, target: Path) -> Iterator[Path]:
    """The root, mounted here with mount(2)."""
    target.mkdir(exist_ok=True)
    options = f"lowerdir={':'.join(mount.lowers)}"
    if mount.upper:
        options += f",upperdir={mount.upper},workdir={mount.work}"
    options += ",metacopy=off,redirect_dir=off,index=off,xino=auto"
    syscalls.mount(b"overlay", os.fsencode(target), b"overlay", 0, options.encode())
    try:
        yield target
    finally:
        unmount(target)


def read_tree(root: Path, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Everything about every file below a directory, by path; hard links by the set of their names."""
    links: dict[tuple[int, int], list[str]] = {}
    tree: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder) / name
            relative = str(path.relative_to(root))
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if kind == stat.S_IFREG:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                links.setdefault((status.st_dev, status.st_ino), []).append(relative)
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
                content = status.st_rdev
            xattrs = tuple(
                (key, os.getxattr(path, key, follow_symlinks=False))
                for key in sorted(os.listxattr(path, follow_symlinks=False))
                if not key.startswith("trusted.overlay.")
            )
            size = status.st_size if kind in {stat.S_IFREG, stat.S_IFLNK} else 0
            tree[relative] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                size,
                status.st_mtime_ns if times else 0,
                content,
                xattrs,
            )
    for names in links.values():
        if len(names) > 1:
            for name in names:
                tree[name] = (*tree[name], tuple(sorted(names)))
    return tree
