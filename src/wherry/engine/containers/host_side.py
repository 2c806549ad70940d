"""What a start needs on this machine's side: bind sources, managed files, shared memory, joined namespaces.

Bind sources are looked at off the loop (a dead NFS server may hold them for minutes, pitfall 6).
"""

from __future__ import annotations

import errno
import logging
import os
import posixpath
import shutil
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from wherry.engine.containers.handle import ContainerHandle, Roster
from wherry.engine.containers.host_files import (
    build_hosts,
    build_resolv_conf,
    edit_hosts,
    find_resolver,
)
from wherry.engine.containers.links import find_links, find_parents
from wherry.engine.containers.mount_points import find_mount, is_around
from wherry.engine.containers.processes import open_of
from wherry.engine.containers.seams import ImageSource
from wherry.engine.containers.state import ALIVE
from wherry.engine.settings import EngineSettings
from wherry.kernel import syscalls
from wherry.kernel.consts import AT, AT_FDCWD, MNT, MOVE_MOUNT, MS, OPEN_TREE, RESOLVE
from wherry.kernel.mountinfo import find_mount as find_host_mount
from wherry.kernel.mountinfo import read_mountinfo
from wherry.lib.blocking import run_blocking
from wherry.model.container import Container, HostConfig, MountPoint
from wherry.model.errors import (
    Conflict,
    EngineError,
    Internal,
    InvalidArgument,
    NoSuchContainer,
)
from wherry.model.image import RootMount
from wherry.runtime.root import OverlayRoot, open_root
from wherry.shim.builtin_init import write_builtin_init

logger = logging.getLogger(__name__)

_INIT_PROGRAMS = ("docker-init", "tini-static", "catatonit", "tini")
_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
_PT_INTERP = 3


@dataclass(slots=True)
class JoinedNamespaces:
    """Paths of namespaces of other containers; `shm` is a directory to bind at /dev/shm.

    The paths lead through descriptors of this process, which keep the namespaces until `close`.
    """

    network: str = ""
    ipc: str = ""
    pid: str = ""
    shm: str = ""
    fds: list[int] = field(default_factory=list)

    def hold(self, donor: ContainerHandle, kind: str) -> str:
        """The path of a donor's namespace. Raises Conflict."""
        if donor.shim is None:
            raise Conflict(f"cannot join {kind} of a non running container: {donor.id}")
        try:
            fd = open_of(donor.shim, f"ns/{kind}")
        except ProcessLookupError as exc:
            raise Conflict(f"cannot join {kind} of a non running container: {donor.id}") from exc
        self.fds.append(fd)
        return f"/proc/{os.getpid()}/fd/{fd}"

    def close(self) -> None:
        """After the launch; idempotent."""
        while self.fds:
            os.close(self.fds.pop())


class HostSide:
    """Prepares and frees."""

    def __init__(
        self, settings: EngineSettings, roster: Roster, find_host_gateway: Callable[[], str]
    ) -> None:
        self._settings = settings
        self._find_host_gateway = find_host_gateway
        self._roster = roster
        self.default_seccomp = _read_profile(settings.seccomp_profile)
        self.has_apparmor = _read_text(_APPARMOR).startswith("Y")
        self.init_program = (
            settings.init_path
            or find_init_program()
            # In ROOT, since RUN is often mounted noexec and a bind mount keeps that.
            or write_builtin_init(str(settings.root))
        )

    def find_joined(self, record: Container) -> JoinedNamespaces:
        """Namespaces that are shared with other containers. Raises Conflict, Internal, NotFound."""
        joined = JoinedNamespaces()
        try:
            self._join(joined, record)
        except BaseException:
            joined.close()
            raise
        return joined

    def _join(self, joined: JoinedNamespaces, record: Container) -> None:
        host = record.host_config
        if host.network_mode.startswith("container:"):
            donor = self._network_donor(record)
            joined.network = joined.hold(donor, "net")
        if host.ipc_mode.startswith("container:"):
            donor = self._get_running(host.ipc_mode.partition(":")[2], "IPC")
            if donor.record.host_config.ipc_mode not in {"shareable", "host"}:
                raise InvalidArgument(
                    f"failed to join IPC namespace: container {donor.id}: "
                    "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                )
            joined.ipc = joined.hold(donor, "ipc")
            joined.shm = (
                "/dev/shm"
                if donor.record.host_config.ipc_mode == "host"
                else str(self._shm_path(donor.id))
            )
        elif host.ipc_mode == "host":
            joined.shm = "/dev/shm"
        elif host.ipc_mode == "shareable":
            joined.shm = str(self._shm_path(record.id))
        if host.pid_mode.startswith("container:"):
            donor = self._get_running(host.pid_mode.partition(":")[2], "PID")
            joined.pid = joined.hold(donor, "pid")

    def take_names(self, record: Container) -> Container:
        """A container in another's network has its host name, too, which /etc/hosts knows."""
        kind, _, ref = record.host_config.network_mode.partition(":")
        if kind != "container":
            return record
        donor = self._roster.get(ref).record.config
        config = replace(record.config, hostname=donor.hostname, domainname=donor.domainname)
        return replace(record, config=config)

    def _network_donor(self, record: Container) -> ContainerHandle:
        try:
            donor = self._roster.get(record.host_config.network_mode.partition(":")[2])
        except NoSuchContainer as exc:
            raise Internal(f"joining network namespace of container: {exc}") from exc
        if donor.id == record.id:
            raise Internal("cannot join own network namespace")
        if donor.record.state.status not in ALIVE:
            raise Conflict(
                "cannot join network namespace of a non running container: "
                f"container {donor.record.name} is {donor.record.state.status}"
            )
        return donor

    def _get_running(self, ref: str, what: str) -> ContainerHandle:
        # Docker's statuses differ by the kind of namespace.
        try:
            donor = self._roster.get(ref)
        except NoSuchContainer as exc:
            kind = Internal if what == "PID" else InvalidArgument
            raise kind(f"failed to join {what} namespace: {exc}") from exc
        if donor.record.state.status not in ALIVE:
            refusal = Internal if what == "PID" else Conflict
            raise refusal(f"failed to join {what} namespace: container {donor.id} is not running")
        return donor

    def _shm_path(self, container_id: str) -> Path:
        return self._settings.run_dir / "shm" / container_id

    async def prepare(self, record: Container, joined: JoinedNamespaces) -> Container:
        """Makes what the specification names, which is the answer's. Raises InvalidArgument, Internal."""
        self._write_files(record, joined)
        binds = [point for point in record.mount_points if point.type == "bind"]
        if binds:
            private = await run_blocking(_prepare_binds, record, binds, self._settings.root)
            points = (
                replace(point, propagation="rprivate") if point.destination in private else point
                for point in record.mount_points
            )
            record = replace(record, mount_points=tuple(points))
        if record.host_config.ipc_mode == "shareable":
            await run_blocking(_mount_shm, self._shm_path(record.id), record.host_config.shm_size)
        return record

    async def find_sources(self, record: Container, images: ImageSource) -> dict[str, str]:
        """What is mounted where it is not a mount point's own source: images, parts of volumes. By destination."""
        sources: dict[str, str] = {}
        for point in record.mount_points:
            mount = find_mount(record.host_config, point.destination)
            source, subpath = point.source, ""
            if point.type == "image":
                root = await images.image_mount(images.get(point.source))
                folder = self._image_folder(record.id) / str(len(sources))
                await run_blocking(_mount_image, root, folder)
                source = str(folder)
                if mount is not None and mount.image_options is not None:
                    subpath = mount.image_options.subpath
            elif mount is not None and mount.volume_options is not None:
                subpath = mount.volume_options.subpath
            if subpath:
                place = self._image_folder(record.id) / f"{len(sources)}-part"
                await run_blocking(_mount_part, source, subpath, place)
                source = str(place)
            if source != point.source:
                sources[point.destination] = source
        return sources

    def _image_folder(self, container_id: str) -> Path:
        return self._settings.run_dir / "images" / container_id

    def release(self, record: Container) -> None:
        """Frees what `prepare` and `find_sources` made beyond files; idempotent."""
        if any(point.type == "image" for point in record.mount_points) or any(
            mount.volume_options is not None and mount.volume_options.subpath
            for mount in record.host_config.mounts
        ):
            _unmount_images(self._image_folder(record.id))
        if record.host_config.ipc_mode == "shareable":
            _unmount_shm(self._shm_path(record.id))

    def _write_files(self, record: Container, joined: JoinedNamespaces) -> None:
        folder = self._settings.container_dir(record.id)
        host = record.host_config
        resolver = find_resolver(self._settings)
        if joined.network:
            donor = self._roster.get(host.network_mode.partition(":")[2]).record
            source = self._settings.container_dir(donor.id)
            for name in ("hosts", "hostname", "resolv.conf"):
                shutil.copyfile(source / name, folder / name)
            return
        addresses = [
            address
            for endpoint in record.endpoints.values()
            for address in (endpoint.ip_address, endpoint.global_ipv6_address)
            if address
        ]
        gateway = self._find_host_gateway()
        if host.network_mode == "host":
            head = _read_text(Path("/etc/hosts"))
            hosts = build_hosts(record, (), gateway=gateway, head=head)
        else:
            hosts = build_hosts(
                record,
                addresses,
                gateway=gateway,
                links=[link.hosts_line for link in find_links(self._roster, record)],
            )
        resolv = build_resolv_conf(
            resolver,
            host,
            keep_local=host.network_mode == "host",
            with_resolver=has_names(record),
        )
        _write_text(folder / "hosts", hosts)
        _write_text(folder / "hostname", record.config.hostname + "\n")
        _write_text(folder / "resolv.conf", resolv)
        if record.state.has_been_started:
            self._tell_parents(record)

    def _tell_parents(self, record: Container) -> None:
        """Containers that have a link to one that was started before learn its new address.

        Those that are starting, too; what others have is written anew when they start.
        """
        for link in find_parents(self._roster, record):
            path = self._settings.container_dir(link.parent.id) / "hosts"
            if path.exists():
                try:
                    edit_hosts(path, link.owns, link.hosts_line)
                except Internal as exc:
                    logger.warning("tell container %s of its link: %s", link.parent.id, exc)


def has_names(record: Container) -> bool:
    """Whether the container is on a network with names, and so has a resolver of its own."""
    return any(endpoint.dns_names is not None for endpoint in record.endpoints.values())


def cgroup_path(settings: EngineSettings, record: Container) -> str:
    """The container's group below the parent of its request or of the engine; `..` cannot leave the root."""
    return f"{cgroup_parent(settings, record.host_config)}/{record.id}"


def cgroup_parent(settings: EngineSettings, host_config: HostConfig) -> str:
    """The parent alone, "" for the root."""
    parent = host_config.cgroup_parent or settings.cgroup_parent
    return posixpath.normpath("/" + parent.lstrip("/")).rstrip("/")


def read_start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat; 0 when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The command's name, in parentheses, may itself hold spaces and parentheses.
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return 0


def allow_second_mount(root: RootMount) -> None:
    """An overlay that was mounted `volatile` refuses to be mounted again, as after a crash of the machine.

    The kernel's mark is a folder that may be removed (Documentation/filesystems/overlayfs.rst, "Volatile mount"):
    the data of a `--rm` container that is restarted is as good as the machine's page cache.
    """
    shutil.rmtree(f"{root.work}/work/incompat/volatile", ignore_errors=True)


def find_init_program() -> str:
    """An init for `--init` that runs in any root: it must be static."""
    for name in _INIT_PROGRAMS:
        path = shutil.which(name, path="/usr/libexec/docker:/usr/bin:/usr/sbin:/usr/local/bin")
        if path is not None and is_static(path):
            return path
    return ""


def is_static(path: str) -> bool:
    """Whether the ELF program needs no interpreter."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    if head[:5] != b"\x7fELF\x02":
        return False
    order: Literal["little", "big"] = "little" if head[5] == 1 else "big"
    offset = int.from_bytes(head[32:40], order)
    size = int.from_bytes(head[54:56], order)
    count = int.from_bytes(head[56:58], order)
    for index in range(count):
        start = offset + index * size
        if int.from_bytes(head[start : start + 4], order) == _PT_INTERP:
            return False
    return True


def _prepare_binds(record: Container, binds: Sequence[MountPoint], root: Path) -> frozenset[str]:
    """Answers the destinations that cannot have the propagation which they have because of ROOT."""
    private = set()
    for point in binds:
        mount = find_mount(record.host_config, point.destination)
        may_create = mount is None or (
            mount.bind_options is not None and mount.bind_options.create_mountpoint
        )
        _ensure_source(point.source, may_create=may_create)
        try:
            _check_propagation(point)
        except Internal:
            if point.propagation != "rslave" or not is_around(point.source, root):
                raise
            private.add(point.destination)
    return frozenset(private)


def _ensure_source(source: str, *, may_create: bool) -> None:
    try:
        os.stat(source)
    except FileNotFoundError as exc:
        if not may_create:
            raise InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: {source}'
            ) from exc
        try:
            os.makedirs(source, exist_ok=True)
        except OSError as failure:
            reason = (failure.strerror or "").lower()
            raise Internal(
                f"error while creating mount source path '{source}': mkdir {source}: {reason}"
            ) from failure
    except OSError as exc:
        reason = (exc.strerror or "").lower()
        raise Internal(
            f"error while creating mount source path '{source}': stat {source}: {reason}"
        ) from exc


def _check_propagation(point: MountPoint) -> None:
    wanted = point.propagation.removeprefix("r")
    if wanted not in {"shared", "slave"}:
        return
    path = os.path.realpath(point.source)
    found = find_host_mount(path, read_mountinfo())
    if found is None:
        raise Internal(f"could not find source mount of {point.source}")
    if wanted == "shared" and not found.is_shared():
        raise Internal(
            f"path {point.source} is mounted on {found.mount_point} but it is not a shared mount"
        )
    if wanted == "slave" and not (found.is_shared() or found.is_slave()):
        raise Internal(
            f"path {point.source} is mounted on {found.mount_point} "
            "but it is not a shared or slave mount"
        )


def _mount_part(base: str, subpath: str, place: Path) -> None:
    """Mounts a part of a volume or image at a place of the engine's own. Raises Internal with Docker's sentences.

    A path would not do: who has the volume could make a link of the part before it is bound.
    """
    fd = _open_part(base, subpath)
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            place.mkdir(mode=0o700)
        else:
            place.touch(mode=0o600)
        tree = syscalls.open_tree(fd, b"", OPEN_TREE.CLONE | AT.RECURSIVE | AT.EMPTY_PATH)
        try:
            syscalls.move_mount(tree, b"", AT_FDCWD, os.fsencode(place), MOVE_MOUNT.F_EMPTY_PATH)
        finally:
            os.close(tree)
    finally:
        os.close(fd)


def _open_part(base: str, subpath: str) -> int:
    folder = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return syscalls.openat2(
            folder,
            os.fsencode(subpath),
            os.O_PATH,
            resolve=RESOLVE.BENEATH | RESOLVE.NO_MAGICLINKS,
        )
    except OSError as exc:
        if exc.errno == errno.EXDEV:
            raise Internal(
                f"path concatenation escapes the base directory, base: {base}, subpath: {subpath}"
            ) from exc
        reason = (os.strerror(exc.errno or 0)).lower()
        path = f"{base}/{subpath}"
        raise Internal(f"cannot access path {path}: lstat {path}: {reason}") from exc
    finally:
        os.close(folder)


def _mount_image(root: RootMount, folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = open_root(OverlayRoot(root.lowers))
    try:
        syscalls.move_mount(fd, b"", AT_FDCWD, os.fsencode(folder), MOVE_MOUNT.F_EMPTY_PATH)
    finally:
        os.close(fd)


def _unmount_images(parent: Path) -> None:
    if not parent.is_dir():
        return
    for folder in parent.iterdir():
        try:
            syscalls.umount2(os.fsencode(folder), MNT.DETACH)
        except OSError:
            pass  # it was never mounted
        if folder.is_dir():
            folder.rmdir()
        else:
            folder.unlink()
    parent.rmdir()


def _mount_shm(path: Path, size: int) -> None:
    _unmount_shm(path)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = MS.NOEXEC | MS.NOSUID | MS.NODEV
    try:
        syscalls.mount(
            b"shm", os.fsencode(path), b"tmpfs", flags, f"mode=1777,size={size}".encode()
        )
    except OSError as exc:
        raise Internal(f"mounting shm tmpfs: {(exc.strerror or '').lower()}") from exc


def _unmount_shm(path: Path) -> None:
    try:
        syscalls.umount2(os.fsencode(path), MNT.DETACH)
    except OSError:
        pass  # nothing is mounted there
    try:
        path.rmdir()
    except OSError:
        pass  # not there


def _read_profile(path: Path | None) -> str:
    if path is None:
        return ""
    if str(path) in {"builtin", "unconfined"}:
        return str(path)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        raise EngineError(
            f"opening seccomp profile {path} failed: {(exc.strerror or '').lower()}"
        ) from exc


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _write_text(path: Path, text: str) -> None:
    # Replaced in place: the file is a bind mount in the container while it runs.
    data = text.encode("utf-8", "surrogateescape")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as exc:
        raise Internal(f"write {path}: {(exc.strerror or '').lower()}") from exc
