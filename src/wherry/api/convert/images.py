"""Images: model records → the Engine API's JSON."""

from __future__ import annotations

from msgspec import UNSET

from wherry.api.convert.containers import build_config, parse_unix_time
from wherry.model.container import ContainerConfig
from wherry.model.image import Descriptor, Image, Platform
from wherry.wire import images as wire
from wherry.wire.containers import ContainerConfig as WireConfig
from wherry.wire.containers import GraphDriver


def build_summary(image: Image, *, containers: int = -1, shared_bytes: int = -1) -> wire.Summary:
    """One row of GET /images/json; -1 = not counted."""
    return wire.Summary(
        containers=containers,
        created=max(0, parse_unix_time(image.created)),
        id=image.id,
        labels=dict(image.config.labels) or None,
        parent_id=image.parent,
        repo_digests=list(image.repo_digests),
        repo_tags=list(image.repo_tags),
        shared_size=shared_bytes,
        size=image.size_bytes,
    )


def build_inspect(image: Image, driver: str, *, full_config: bool) -> wire.Inspect:
    """GET /images/{name}/json. `full_config` for API versions that show all fields of the config."""
    return wire.Inspect(
        id=image.id,
        repo_tags=list(image.repo_tags),
        repo_digests=list(image.repo_digests),
        parent=image.parent,
        comment=image.comment,
        created=image.created or UNSET,
        author=image.author,
        config=_build_full_config(image.config) if full_config else _build_config(image.config),
        architecture=image.platform.architecture,
        variant=image.platform.variant or UNSET,
        os=image.platform.os,
        os_version=image.platform.os_version or UNSET,
        size=image.size_bytes,
        graph_driver=GraphDriver(data=None, name=driver),
        root_fs=wire.RootFS(layers=list(image.diff_ids)),
        metadata=wire.Metadata(last_tag_time=image.last_tag_time),
    )


def _build_full_config(config: ContainerConfig) -> WireConfig:
    built = build_config(config)
    built.env = list(config.env) or None
    built.labels = dict(config.labels) or None
    return built


def _build_config(config: ContainerConfig) -> wire.ImageConfig:
    full = build_config(config)
    return wire.ImageConfig(
        cmd=None if config.cmd is None else list(config.cmd),
        entrypoint=None if config.entrypoint is None else list(config.entrypoint),
        env=full.env or None,
        exposed_ports=full.exposed_ports,
        healthcheck=full.healthcheck,
        labels=full.labels or None,
        on_build=full.on_build,
        shell=list(config.shell) if config.shell else UNSET,
        stop_signal=full.stop_signal,
        user=config.user,
        volumes=full.volumes,
        working_dir=config.working_dir,
        args_escaped=full.args_escaped,
    )


def build_platform(platform: Platform) -> wire.Platform:
    """OCI platform."""
    return wire.Platform(
        architecture=platform.architecture,
        os=platform.os,
        os_version=platform.os_version or UNSET,
        os_features=list(platform.os_features) or UNSET,
        variant=platform.variant or UNSET,
    )


def build_descriptor(descriptor: Descriptor) -> wire.Descriptor:
    """OCI descriptor."""
    return wire.Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        annotations=dict(descriptor.annotations) or UNSET,
        platform=build_platform(descriptor.platform) if descriptor.platform else UNSET,
        artifact_type=descriptor.artifact_type or UNSET,
    )
