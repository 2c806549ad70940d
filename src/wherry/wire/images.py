"""Images in the Engine API's JSON."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field

from wherry.wire.containers import ContainerConfig, Empty, GraphDriver, HealthConfig


class Platform(Struct, kw_only=True):
    """OCI platform."""

    architecture: str = ""
    os: str = ""
    os_version: str | UnsetType = field(name="os.version", default=UNSET)
    os_features: list[str] | UnsetType = field(name="os.features", default=UNSET)
    variant: str | UnsetType = UNSET


class Descriptor(Struct, kw_only=True):
    """OCI descriptor."""

    media_type: str = field(name="mediaType")
    digest: str
    size: int
    annotations: dict[str, str] | UnsetType = UNSET
    platform: Platform | UnsetType = UNSET
    artifact_type: str | UnsetType = field(name="artifactType", default=UNSET)


class Summary(Struct, kw_only=True, rename="pascal"):
    """One row of GET /images/json."""

    containers: int
    created: int
    id: str
    labels: dict[str, str] | None
    parent_id: str
    repo_digests: list[str] | None
    repo_tags: list[str] | None
    shared_size: int
    size: int
    virtual_size: int | UnsetType = UNSET  # API < 1.44


class RootFS(Struct, kw_only=True, rename="pascal"):
    """Layers of an image."""

    type: str = "layers"
    layers: list[str] = field(default_factory=list)


class Metadata(Struct, kw_only=True, rename="pascal"):
    """What this engine knows beside the image itself."""

    last_tag_time: str


class ImageConfig(Struct, kw_only=True, rename="pascal"):
    """The configuration of an image since API 1.50: what is empty is mostly left out."""

    cmd: list[str] | None = None
    entrypoint: list[str] | None = None
    env: list[str] | None = None
    exposed_ports: Empty | UnsetType = UNSET
    healthcheck: HealthConfig | UnsetType = UNSET
    labels: dict[str, str] | None = None
    on_build: list[str] | None = None
    shell: list[str] | UnsetType = UNSET
    stop_signal: str | UnsetType = UNSET
    user: str = ""
    volumes: Empty | None = None
    working_dir: str = ""
    args_escaped: bool | UnsetType = UNSET


class Inspect(Struct, kw_only=True, rename="pascal"):
    """GET /images/{name}/json."""

    id: str
    repo_tags: list[str]
    repo_digests: list[str]
    parent: str
    comment: str
    created: str | UnsetType
    container_config: ContainerConfig | UnsetType = UNSET  # API < 1.45
    docker_version: str = ""
    author: str = ""
    architecture: str
    variant: str | UnsetType = UNSET
    os: str
    os_version: str | UnsetType = UNSET
    size: int
    virtual_size: int | UnsetType = UNSET  # API < 1.44
    graph_driver: GraphDriver
    root_fs: RootFS = field(name="RootFS")
    metadata: Metadata
    descriptor: Descriptor | UnsetType = UNSET
    config: ContainerConfig | ImageConfig | UnsetType = UNSET


class HistoryItem(Struct, kw_only=True, rename="pascal"):
    """One line of GET /images/{name}/history."""

    comment: str
    created: int
    created_by: str
    id: str
    size: int
    tags: list[str] | None


class Deleted(Struct, kw_only=True, rename="pascal"):
    """One step of a removal."""

    deleted: str | UnsetType = UNSET
    untagged: str | UnsetType = UNSET


class PruneReport(Struct, kw_only=True, rename="pascal"):
    """POST /images/prune."""

    images_deleted: list[Deleted] | None
    space_reclaimed: int


class SearchResult(Struct, kw_only=True):
    """One row of GET /images/search."""

    star_count: int
    is_official: bool
    name: str
    is_automated: bool
    description: str


class Distribution(Struct, kw_only=True, rename="pascal"):
    """GET /distribution/{name}/json."""

    descriptor: Descriptor
    platforms: list[Platform]


class AuthResponse(Struct, kw_only=True, rename="pascal"):
    """Whether a login worked."""

    identity_token: str = ""
    status: str = ""
