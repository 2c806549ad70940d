"""Images as frozen records: descriptors, configs, and what the image service answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from wherry.model.container import ContainerConfig
from wherry.model.digest import Digest as Digest  # noqa: PLC0414 - an explicit re-export

ImageId = NewType("ImageId", str)  # digest of the image's config


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """OCI platform."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """OCI content descriptor."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    artifact_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One line of `docker history`, as in the image config."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image that is ready to run: its config parsed, its layers present."""

    id: ImageId
    repo_tags: tuple[str, ...] = ()  # familiar form, "node:lts-slim"
    repo_digests: tuple[str, ...] = ()
    parent: str = ""
    comment: str = ""
    created: str = ""
    author: str = ""
    platform: Platform = field(default_factory=Platform)
    config: ContainerConfig = field(default_factory=ContainerConfig)
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    size_bytes: int = 0
    manifest: Descriptor | None = None
    last_tag_time: str = "0001-01-01T00:00:00Z"
    is_host: bool = False  # the built-in image `host`, or made from it


@dataclass(frozen=True, slots=True, kw_only=True)
class RootMount:
    """How to mount a container's root: overlay layers, topmost lower first.

    `lowers` are directories on this machine (mounted EROFS layers or unpacked trees, the shared init
    layer of mount-point stubs first). `upper` and `work` are empty for a read-only mount.
    """

    lowers: tuple[str, ...]
    upper: str = ""
    work: str = ""
    volatile: bool = False  # `--rm` and build steps only (pitfall 9)
