"""The built-in image `host`: this machine's own programs, and an allow-list of what else may be seen.

A mask of whiteouts and opaque directories on a small tmpfs lies over `/` in a read-only overlay, mounted
at RUN/layers/host-<fingerprint>, which is the image's one tree: containers, cp, commit and builds see
that and nothing behind it (pitfall 12). The mask is on a tmpfs because overlayfs refuses a lower layer
that lies inside another one, and everything on the root file system lies inside `/`.

Seen are /usr, /bin, /sbin, /lib*, the world-readable part of /etc, and what dpkg and apt need of /var/lib.
Everything else is absent, or an empty directory where programs expect one. Other mounts are never seen:
overlayfs looks at the root file system alone. What is hidden is known by name, so the mask is made anew
when a directory in which it hides names has changed since; `current` checks that.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from wherry.image.content import remove_tree
from wherry.image.layer.mount import unmount
from wherry.image.snapshot.stubs import StubLayers, read_attributes, set_attributes
from wherry.kernel import syscalls
from wherry.kernel.consts import MS
from wherry.kernel.mountinfo import read_mountinfo
from wherry.lib.ids import read_boot_id
from wherry.model.errors import NotSupported

MASK_VERSION = 1

_PROGRAMS = frozenset(("bin", "sbin", "usr"))
_EMPTY_ROOT = {
    "boot": 0o755,
    "dev": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
}
_EMPTY_VAR = {
    "backups": 0o755,
    "cache": 0o755,
    "local": 0o755,
    "log": 0o755,
    "mail": 0o755,
    "opt": 0o755,
    "spool": 0o755,
    "tmp": 0o1777,
}
_VAR_LINKS = frozenset(("lock", "run"))
_VAR_LIB = frozenset(("apt", "dpkg", "pam", "ucf"))
_MADE = (  # inside directories that are empty otherwise
    "var/cache/apt/archives/partial",
    "var/cache/debconf",
    "var/log/apt",
)
# World-readable on some machines, and still nobody's business; paths below /etc.
_SECRET_ETC = frozenset(
    (
        "apt/auth.conf",
        "apt/auth.conf.d",
        "containerd",
        "docker",
        "gshadow",
        "gshadow-",
        "hostid",
        "krb5.keytab",
        "machine-id",
        "netrc",
        "shadow",
        "shadow-",
        "wherry",
    )
)
_SECRET_NAMES = ("ssh_host_",)
_OVERLAYFS_SUPER_MAGIC = 0x794C7630
_HIDE = -1
Rule = Callable[[str, Path], int | None]
"""A name and its path to: None = keep, _HIDE, or the mode of the empty directory to show instead."""

_MUST_BE_ON_ROOT = ("/bin", "/etc", "/lib", "/sbin", "/usr", "/var/lib/dpkg")


class HostTree:
    """The tree of the host image on this machine. All calls block for milliseconds at most."""

    def __init__(self, mounts: Path, root: Path = Path("/")) -> None:
        """`mounts` is RUN/layers; `root` is another than `/` only in tests."""
        self._mounts = mounts
        self._mask_mount = mounts / "host-mask"
        self._root = root
        self._fingerprint = ""
        self._watched: tuple[Path, ...] = ()
        self._is_stacked = _is_overlay(root)
        self._lock = threading.Lock()  # asked from the loop and from threads
        self._closed = False

    def image_digest(self) -> str:
        """The hex digest that names what the image holds: this boot, its packages, this mask."""
        parts = [
            read_boot_id(),
            str(self.packages_time_ns()),
            f"mask {MASK_VERSION}",
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def packages_time_ns(self) -> int:
        """When a package was last installed or removed; 0 on a machine without dpkg."""
        try:
            return (self._root / "var/lib/dpkg/status").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def current(self) -> tuple[Path, ...]:
        """The tree, with a mask that fits what is there now. Raises NotSupported, OSError.

        Two trees, the mask and `/` itself, where `/` is an overlay already: the kernel stacks two, not three.
        """
        with self._lock:
            if self._closed:
                raise NotSupported("the engine is ending")
            return self._make_current()

    def _make_current(self) -> tuple[Path, ...]:
        if self._fingerprint and self._fingerprint == self._take_fingerprint():
            return self._trees()
        self._check_mounts()
        self._mount_mask_space()
        staging = self._mask_mount / ".new"
        self._watched = tuple(self._build(staging))
        self._fingerprint = self._take_fingerprint()
        mask = self._mask_mount / self._fingerprint
        if mask.exists():
            remove_tree(staging)
        else:
            staging.rename(mask)
        if self.stubs is None:
            self._mount(mask)
        return self._trees()

    def close(self) -> None:
        """Unmounts it for good, also what a thread is just making; containers that run go on. Idempotent."""
        with self._lock:
            self._closed = True
            prefix = os.path.realpath(self._mounts) + "/host-"
            for info in reversed(read_mountinfo()):
                if info.mount_point.startswith(prefix):
                    unmount(Path(info.mount_point))
                    Path(info.mount_point).rmdir()

    @property
    def stubs(self) -> StubLayers | None:
        """Where the mount points over this image must be made, when they may not lie in `/`."""
        return StubLayers(self._mask_mount / "stubs") if self._is_stacked else None

    def _trees(self) -> tuple[Path, ...]:
        if self._is_stacked:
            return (self._mask_mount / self._fingerprint, self._root)
        return (self._target(),)

    def _target(self) -> Path:
        return self._mounts / f"host-{self._fingerprint}"

    def _take_fingerprint(self) -> str:
        running = hashlib.sha256(f"mask {MASK_VERSION}".encode())
        for path in self._watched:
            try:
                running.update(
                    f"{path}\0{path.lstat().st_mtime_ns}\n".encode(errors="surrogateescape")
                )
            except FileNotFoundError:
                running.update(f"{path}\0gone\n".encode(errors="surrogateescape"))
        return running.hexdigest()[:16]

    def _check_mounts(self) -> None:
        if self._root != Path("/"):
            return
        points = {info.mount_point for info in read_mountinfo()}
        for path in _MUST_BE_ON_ROOT:
            if path in points:
                raise NotSupported(
                    f"the image `host` needs {path} on the root file system; it is a mount of its own"
                )

    def _mount_mask_space(self) -> None:
        self._mask_mount.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.path.ismount(self._mask_mount):
            return
        syscalls.mount(
            b"wherry-host-mask",
            os.fsencode(self._mask_mount),
            b"tmpfs",
            MS.NOSUID | MS.NODEV | MS.NOEXEC,
            b"mode=700,size=64m",
        )

    def _mount(self, mask: Path) -> None:
        target = self._target()
        target.mkdir(mode=0o700, exist_ok=True)
        if os.path.ismount(target):
            return
        options = f"lowerdir={_escape(mask)}:{_escape(self._root)},xino=auto"
        syscalls.mount(
            b"wherry-host",
            os.fsencode(target),
            b"overlay",
            MS.RDONLY | MS.NOSUID | MS.NODEV,
            os.fsencode(options),
        )

    def _build(self, staging: Path) -> Iterator[Path]:
        """Writes the mask; yields the directories in which it hides names."""
        remove_tree(staging)
        staging.mkdir()
        mask = _Mask(self._root, staging)
        yield from mask.filter_folder("", _root_rule)
        yield from mask.filter_folder("var", _var_rule)
        yield from mask.filter_folder("var/lib", _var_lib_rule)
        for folder in ("etc", "usr/local/etc", "usr/etc"):
            yield from mask.filter_readable(folder)
        for path in _MADE:
            mask.make(path)
        for name, mode in (("shadow", 0o640), ("gshadow", 0o640)):
            mask.write_locked(name, mode)
        mask.finish()


class _Mask:
    """Writes whiteouts and opaque directories that hide names of `below`."""

    def __init__(self, below: Path, mask: Path) -> None:
        self._below = below
        self._mask = mask
        self._merged: list[str] = []

    def filter_folder(self, path: str, rule: Rule) -> Iterator[Path]:
        """Applies a rule to the names of one directory."""
        below = self._below / path
        if not below.is_dir() or below.is_symlink():
            return
        self._merge(path)
        yield below
        for name in sorted(os.listdir(below)):
            mode = rule(name, below / name)
            if mode is None:
                continue
            if mode == _HIDE:
                self._hide(f"{path}/{name}" if path else name)
            else:
                self._show_empty(f"{path}/{name}" if path else name, mode)

    def filter_readable(self, path: str) -> Iterator[Path]:
        """Hides what others may not read, recursively, and the secrets known by name."""
        below = self._below / path
        if not below.is_dir() or below.is_symlink():
            return
        yield below
        for name in sorted(os.listdir(below)):
            yield from self._filter_entry(f"{path}/{name}")

    def make(self, path: str) -> None:
        """An empty directory."""
        (self._mask / path).mkdir(parents=True, exist_ok=True)

    def write_locked(self, name: str, mode: int) -> None:
        """A password file in which every account is locked, so that programs that need one work."""
        source = self._below / "etc" / ("passwd" if name == "shadow" else "group")
        if not source.is_file():
            return
        with source.open("rb") as file:
            accounts = [
                line.split(b":")[0] for line in file.read(1 << 20).splitlines() if b":" in line
            ]
        tail = b":*:19000:0:99999:7:::\n" if name == "shadow" else b":*::\n"
        self._merge("etc")
        target = self._mask / "etc" / name
        target.unlink(missing_ok=True)
        target.write_bytes(b"".join(account + tail for account in accounts))
        target.chmod(mode)

    def finish(self) -> None:
        """Gives directories that show what is below the attributes of those below."""
        for path in reversed(self._merged):
            set_attributes(self._mask / path, read_attributes(self._below / path))

    def _filter_entry(self, path: str) -> Iterator[Path]:
        status = (self._below / path).lstat()
        if stat.S_ISLNK(status.st_mode):
            return
        if _is_secret(path, status):
            self._hide(path)
        elif stat.S_ISDIR(status.st_mode):
            yield from self.filter_readable(path)

    def _merge(self, path: str) -> None:
        """A directory that shows what is below it, and so do those above it."""
        parts = path.split("/") if path else []
        for depth in range(len(parts) + 1):
            part = "/".join(parts[:depth])
            if part not in self._merged:
                (self._mask / part).mkdir(exist_ok=True)
                self._merged.append(part)

    def _hide(self, path: str) -> None:
        self._merge(path.rpartition("/")[0])
        os.mknod(self._mask / path, stat.S_IFCHR, os.makedev(0, 0))

    def _show_empty(self, path: str, mode: int) -> None:
        target = self._mask / path
        target.mkdir()
        target.chmod(mode)
        os.setxattr(target, "trusted.overlay.opaque", b"y")


def _root_rule(name: str, path: Path) -> int | None:
    if name in _PROGRAMS or name.startswith("lib") or name in {"etc", "var"}:
        return None
    del path
    return _EMPTY_ROOT.get(name, _HIDE)


def _var_rule(name: str, path: Path) -> int | None:
    if name == "lib" or (name in _VAR_LINKS and path.is_symlink()):
        return None
    return _EMPTY_VAR.get(name, _HIDE)


def _var_lib_rule(name: str, path: Path) -> int | None:
    del path
    return None if name in _VAR_LIB else _HIDE


def _is_secret(path: str, status: os.stat_result) -> bool:
    below_etc = path.partition("etc/")[2]
    if below_etc in _SECRET_ETC or path.rpartition("/")[2].startswith(_SECRET_NAMES):
        return True
    if stat.S_ISDIR(status.st_mode):
        return status.st_mode & 0o005 != 0o005
    return not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o004


def _is_overlay(path: Path) -> bool:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return syscalls.fstatfs_type(fd) == _OVERLAYFS_SUPER_MAGIC
    finally:
        os.close(fd)


def _escape(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
