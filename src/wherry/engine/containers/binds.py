"""`-v` specifications and `--mount` requests as mount points, checked with Docker's sentences. Pure.

The grammar is moby's (volume/mounts/linux_parser.go): `[source:]destination[:mode]`, where an absolute
source is a path of this machine and any other is a volume's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry.lib.cleanpath import clean_path
from wherry.model.container import Mount, MountPoint
from wherry.model.errors import Internal, InvalidArgument

PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_MODE_GROUPS = {
    word: group
    for group, words in enumerate(
        (
            ("ro", "rw"),
            ("z", "Z"),
            tuple(PROPAGATIONS),
            ("nocopy",),
            ("consistent", "cached", "delegated", "default"),
        )
    )
    for word in words
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A `-v` specification. `source` is empty for an anonymous volume."""

    source: str
    destination: str
    mode: str = ""

    @property
    def is_path(self) -> bool:
        """The source is a path of this machine, not a volume's name."""
        return self.source.startswith("/")

    @property
    def words(self) -> list[str]:
        """The words of the mode."""
        return [word for word in self.mode.split(",") if word]

    @property
    def is_writable(self) -> bool:
        """Neither `ro` was given nor implied."""
        return "ro" not in self.words

    @property
    def propagation(self) -> str:
        """The propagation that was asked for, or ""."""
        return next((word for word in self.words if word in PROPAGATIONS), "")

    @property
    def copies(self) -> bool:
        """An empty volume takes the image's files."""
        return "nocopy" not in self.words


def parse_bind(spec: str) -> Bind:
    """Raises Internal with Docker's sentence (status 500, as dockerd answers)."""
    parts = spec.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise Internal(f"invalid volume specification: '{spec}'")
    match parts:
        case [source, destination, mode]:
            bind = Bind(source=source, destination=destination, mode=mode)
        case [source, destination] if not _is_mode(destination):
            bind = Bind(source=source, destination=destination)
        case [destination]:
            bind = Bind(source="", destination=destination)
        case _:
            raise Internal(f"invalid volume specification: '{spec}'")
    if bind.mode and not _is_mode(bind.mode):
        raise Internal(f"invalid mode: {bind.mode}")
    try:
        _check_kind(bind)
    except InvalidArgument as exc:
        raise Internal(f"invalid volume specification: '{spec}': {exc}") from exc
    source = clean_path(bind.source) if bind.is_path else bind.source
    return Bind(source=source, destination=clean_path(bind.destination), mode=bind.mode)


def _check_kind(bind: Bind) -> None:
    kind = "bind" if bind.is_path else "volume"
    check_destination(kind, bind.destination)
    misplaced = "VolumeOptions" if bind.is_path and not bind.copies else ""
    if not bind.is_path and bind.propagation:
        misplaced = "BindOptions"
    if misplaced:
        raise InvalidArgument(
            f'invalid mount config for type "{kind}": field {misplaced} must not be specified'
        )


def _is_mode(mode: str) -> bool:
    seen: set[int] = set()
    for word in mode.split(","):
        group = _MODE_GROUPS.get(word)
        if group is None or group in seen:
            return False
        seen.add(group)
    return True


def check_destination(kind: str, destination: str) -> None:
    """Raises InvalidArgument when nothing can be mounted there."""
    prefix = f'invalid mount config for type "{kind}": '
    if not destination:
        raise InvalidArgument(f"{prefix}field Target must not be empty")
    if not destination.startswith("/"):
        raise InvalidArgument(
            f"{prefix}invalid mount path: '{destination}' mount path must be absolute"
        )
    if clean_path(destination) == "/":
        raise InvalidArgument(f"{prefix}invalid specification: destination can't be '/'")


def check_mount(mount: Mount) -> None:
    """Raises InvalidArgument for a `--mount` that cannot work, whatever this machine holds."""
    kind = mount.type
    prefix = f'invalid mount config for type "{kind}": '
    if kind not in {"bind", "volume", "tmpfs", "image"}:
        raise InvalidArgument(f"{prefix}mount type unknown")
    others = (
        ("BindOptions", "bind", mount.bind_options),
        ("VolumeOptions", "volume", mount.volume_options),
        ("TmpfsOptions", "tmpfs", mount.tmpfs_options),
        ("ImageOptions", "image", mount.image_options),
    )
    for name, owner, options in others:
        if owner != kind and options is not None:
            raise InvalidArgument(f'{name} must not be specified on mount type "{kind}"')
    check_destination(kind, mount.target)
    if kind == "tmpfs" and mount.source:
        raise InvalidArgument(f"{prefix}field Source must not be specified")
    if kind in {"bind", "image"} and not mount.source:
        raise InvalidArgument(f"{prefix}field Source must not be empty")
    if kind == "bind":
        if not mount.source.startswith("/"):
            raise InvalidArgument(
                f"{prefix}invalid mount path: '{mount.source}' mount path must be absolute"
            )
        propagation = mount.bind_options.propagation if mount.bind_options else ""
        if propagation and propagation not in PROPAGATIONS:
            raise InvalidArgument(f"{prefix}invalid propagation mode: {propagation}")
    if mount.tmpfs_options is not None:
        for option in mount.tmpfs_options.options:
            if not _is_tmpfs_option(option):
                raise InvalidArgument(f"{prefix}invalid option: {'='.join(option)}")
    subpath = mount.volume_options.subpath if mount.volume_options is not None else ""
    if mount.image_options is not None:
        subpath = mount.image_options.subpath
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise InvalidArgument(f"{prefix}subpath must be a relative path within the volume")
    if kind == "volume" and not mount.source:
        if mount.volume_options is not None and mount.volume_options.subpath:
            raise InvalidArgument(f"{prefix}must not set Subpath when using anonymous volumes")
        if mount.read_only:
            raise InvalidArgument(
                f"{prefix}must not set ReadOnly mode when using anonymous volumes"
            )


def _is_tmpfs_option(option: Sequence[str]) -> bool:
    """What moby's volume/mounts/linux_parser.go lets through."""
    return tuple(option) in {("exec",), ("noexec",)}


def parse_volumes_from(spec: str) -> tuple[str, str]:
    """`container[:mode]` of `--volumes-from`. Raises InvalidArgument."""
    if not spec:
        raise InvalidArgument("volumes-from specification cannot be an empty string")
    ref, _, mode = spec.partition(":")
    if mode:
        words = mode.split(",")
        if not _is_mode(mode) or any(word in PROPAGATIONS or word == "nocopy" for word in words):
            raise InvalidArgument(f"invalid mode: {mode}")
    return ref, mode


def check_duplicates(points: Sequence[MountPoint]) -> None:
    """Raises InvalidArgument when two mounts of one request have the same place."""
    seen: set[str] = set()
    for point in points:
        if point.destination in seen:
            raise InvalidArgument(f"Duplicate mount point: {point.destination}")
        seen.add(point.destination)
