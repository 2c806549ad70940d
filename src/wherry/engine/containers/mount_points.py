"""Which mounts a container has, from everything that may ask for one, in Docker's order of precedence.

`--volumes-from`, then `-v`, then `--mount`, then the VOLUMEs of its config; of two for one place
the later kind wins, two of one request are an error. Pure: volumes are named here and made later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wherry.engine.containers.binds import (
    check_duplicates,
    parse_bind,
    parse_volumes_from,
)
from wherry.lib.cleanpath import clean_path
from wherry.lib.ids import new_id
from wherry.model.container import (
    Container,
    ContainerConfig,
    HostConfig,
    Mount,
    MountPoint,
    VolumeOptions,
)
from wherry.model.errors import InvalidArgument, NotFound

_DEFAULT_PROPAGATION = "rprivate"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRequest:
    """A volume that has to exist before the container does."""

    name: str
    destination: str
    anonymous: bool = False
    copies: bool = True
    options: VolumeOptions = field(default_factory=VolumeOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPlan:
    """A container's mount points (volumes still without source) and the volumes they need."""

    points: tuple[MountPoint, ...]
    volumes: tuple[VolumeRequest, ...]

    @property
    def anonymous(self) -> tuple[str, ...]:
        """Names of the volumes that belong to this container alone."""
        return tuple(volume.name for volume in self.volumes if volume.anonymous)


def plan_mounts(
    config: ContainerConfig,
    host_config: HostConfig,
    find_container: Callable[[str], Container],
    root: Path,
) -> MountPlan:
    """`root` is the engine's ROOT, whose mounts a bind has to let go. Raises InvalidArgument."""
    points: dict[str, MountPoint] = {}
    volumes: dict[str, VolumeRequest] = {}
    for spec in host_config.volumes_from:
        for point in _inherited(spec, find_container):
            points[point.destination] = point
    asked: list[MountPoint] = []
    for spec in host_config.binds:
        point, volume = _from_bind(spec, host_config.volume_driver, root)
        asked.append(point)
        if volume is not None:
            volumes[point.destination] = volume
    for mount in host_config.mounts:
        point, volume = _from_mount(mount, root)
        asked.append(point)
        if volume is not None:
            volumes[point.destination] = volume
    tmpfs = [MountPoint(type="tmpfs", destination=clean_path(path)) for path in host_config.tmpfs]
    check_duplicates([*asked, *tmpfs])
    points.update((point.destination, point) for point in asked)
    taken = {*points, *(point.destination for point in tmpfs)}
    for path in config.volumes:
        destination = clean_path(path)
        if destination not in taken:
            volume = VolumeRequest(name=new_id(), destination=destination, anonymous=True)
            volumes[destination] = volume
            points[destination] = MountPoint(
                type="volume", name=volume.name, destination=destination, driver="local"
            )
    return MountPlan(points=tuple(points.values()), volumes=tuple(volumes.values()))


def _inherited(spec: str, find_container: Callable[[str], Container]) -> Sequence[MountPoint]:
    ref, mode = parse_volumes_from(spec)
    try:
        source = find_container(ref)
    except NotFound as exc:
        raise InvalidArgument(str(exc)) from exc
    read_only = "ro" in mode.split(",")
    return [
        replace(point, rw=point.rw and not read_only)
        for point in source.mount_points
        if point.type != "tmpfs"
    ]


def _from_bind(
    spec: str, volume_driver: str, root: Path
) -> tuple[MountPoint, VolumeRequest | None]:
    bind = parse_bind(spec)
    if bind.is_path:
        return MountPoint(
            type="bind",
            source=bind.source,
            destination=bind.destination,
            mode=bind.mode,
            rw=bind.is_writable,
            propagation=_choose_propagation(bind.source, bind.propagation, root),
        ), None
    volume = VolumeRequest(
        name=bind.source or new_id(),
        destination=bind.destination,
        anonymous=not bind.source,
        copies=bind.copies,
        options=VolumeOptions(driver_name=volume_driver),
    )
    return MountPoint(
        type="volume",
        name=volume.name,
        destination=bind.destination,
        driver=volume_driver or "local",
        mode=bind.mode or "z",
        rw=bind.is_writable,
    ), volume


def _from_mount(mount: Mount, root: Path) -> tuple[MountPoint, VolumeRequest | None]:
    destination = clean_path(mount.target)
    match mount.type:
        case "bind":
            propagation = mount.bind_options.propagation if mount.bind_options else ""
            source = clean_path(mount.source)
            return MountPoint(
                type="bind",
                source=source,
                destination=destination,
                rw=not mount.read_only,
                propagation=_choose_propagation(source, propagation, root),
            ), None
        case "volume":
            options = mount.volume_options or VolumeOptions()
            volume = VolumeRequest(
                name=mount.source or new_id(),
                destination=destination,
                anonymous=not mount.source,
                copies=not options.no_copy,
                options=options,
            )
            return MountPoint(
                type="volume",
                name=volume.name,
                destination=destination,
                driver=options.driver_name or "local",
                mode="z",
                rw=not mount.read_only,
            ), volume
        case "image":
            return MountPoint(
                type="image",
                name=mount.source,
                destination=destination,
                rw=False,
                propagation=_DEFAULT_PROPAGATION,
            ), None
        case _:
            return MountPoint(type="tmpfs", destination=destination, rw=not mount.read_only), None


def _choose_propagation(source: str, asked: str, root: Path) -> str:
    """What is unmounted below ROOT has to go in the container too, or it stays busy (moby daemon/volumes_unix.go)."""
    if not is_around(source, root):
        return asked or _DEFAULT_PROPAGATION
    if asked not in {"", "rslave", "rshared"}:
        raise InvalidArgument(
            'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source'
            f' is within the daemon root, daemon root: "{root}", bind mount source: "{source}",'
            f' propagation: "{asked}"'
        )
    return asked or "rslave"


def is_around(source: str, root: Path) -> bool:
    """Whether a bind's source is in ROOT, or ROOT in it."""
    path = Path(source)
    return path.is_relative_to(root) or root.is_relative_to(path)


def find_mount(host_config: HostConfig, destination: str) -> Mount | None:
    """The `--mount` behind a mount point, for the options that a mount point does not show."""
    for mount in host_config.mounts:
        if clean_path(mount.target) == destination:
            return mount
    return None
