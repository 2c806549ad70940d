"""What older versions of the API look like: pure transforms of wire structs, one function per quirk.

Each says which moby file it mirrors (daemon/server/router/…). The newest version is the identity.
"""

from __future__ import annotations

from msgspec import UNSET

from wherry.model.errors import InvalidArgument
from wherry.wire import containers, images, networks, system

Version = tuple[int, int]


def adapt_create(request: containers.CreateRequest, version: Version) -> None:
    """Defaults that clients of their time expect (container/container_routes.go, postContainersCreate)."""
    if version < (1, 44):
        _adapt_endpoints(request)
    if request.runtime and request.host_config is None:
        request.host_config = containers.HostConfig()
    host = request.host_config
    if host is None:
        return
    host.runtime = host.runtime or request.runtime
    if version < (1, 40) and not host.ipc_mode:
        host.ipc_mode = "shareable"
    if version < (1, 41) and not host.cgroupns_mode:
        host.cgroupns_mode = "host"
    if version < (1, 43):
        host.annotations = UNSET
    for mount in host.mounts or ():
        bind = mount.bind_options
        if isinstance(bind, containers.BindOptions):
            if version < (1, 40):
                bind.non_recursive = UNSET
            if version < (1, 44):
                bind.read_only_non_recursive = UNSET
                if bind.read_only_force_recursive is True:
                    raise InvalidArgument(
                        "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"
                    )


def reads_only_the_top(version: Version) -> bool:
    """Until 1.43 a read-only bind left the mounts below its source writable (postContainersCreate)."""
    return version < (1, 44)


def takes_pids_limit(version: Version) -> bool:
    """`PidsLimit` of an update came with 1.40 (container/container_routes.go, postContainerUpdate)."""
    return version >= (1, 40)


def _adapt_endpoints(request: containers.CreateRequest) -> None:
    """One network, and the container's MAC address is that endpoint's (handleMACAddressBC)."""
    networking = request.networking_config
    asked = (networking.endpoints_config if networking is not None else None) or {}
    if len(asked) > 1:
        raise InvalidArgument(
            f"Container cannot be created with multiple network endpoints: {', '.join(asked)}"
        )
    mac = request.mac_address or ""
    mode = request.host_config.network_mode if request.host_config is not None else ""
    if mac and (mode in {"host", "none"} or mode.startswith("container:")):
        raise InvalidArgument("conflicting options: mac-address and the network mode")
    for settings in asked.values():
        if settings is not None:
            settings.mac_address = mac
    if mac:
        request.networking_config = networking = networking or containers.NetworkingConfig()
        networking.endpoints_config = asked or {
            mode or "default": networks.EndpointSettings(mac_address=mac)
        }
        request.mac_address = UNSET


def adapt_container(document: containers.Inspect, version: Version) -> containers.Inspect:
    """GET /containers/{id}/json (daemon/inspect.go, container/inspect.go)."""
    if version < (1, 45):
        short_id = document.id[:12]
        for name, settings in (document.network_settings.networks or {}).items():
            if name not in {"bridge", "host", "none"} and not name.startswith("container:"):
                settings.aliases = [*(settings.aliases or []), short_id]
    return document


def adapt_container_summary(row: containers.Summary, version: Version) -> containers.Summary:
    """GET /containers/json: annotations came with 1.46."""
    if version < (1, 46):
        row.host_config.annotations = UNSET
    return row


def adapt_image_summary(row: images.Summary, version: Version) -> images.Summary:
    """GET /images/json (image/image_routes.go, getImagesJSON)."""
    if version < (1, 43):
        if not row.repo_tags and not row.repo_digests:
            row.repo_digests = ["<none>@<none>"]
            row.repo_tags = ["<none>:<none>"]
        row.repo_tags = row.repo_tags or None
        row.repo_digests = row.repo_digests or None
    if version < (1, 44):
        row.virtual_size = row.size
    return row


def shows_full_image_config(version: Version) -> bool:
    """Before 1.50 an image's Config has all fields of a container's (image/image_routes.go, getImagesByName)."""
    return version < (1, 50)


def adapt_image(document: images.Inspect, version: Version) -> images.Inspect:
    """GET /images/{name}/json."""
    if version < (1, 44):
        document.virtual_size = document.size
    if version < (1, 45):
        # Compose 1 keeps the data of a service by the volumes that it finds here.
        if isinstance(document.config, containers.ContainerConfig):
            document.container_config = document.config
        else:
            document.container_config = containers.ContainerConfig()
    if version < (1, 48):
        document.descriptor = UNSET
    return document


def adapt_info(document: system.Info, version: Version) -> system.Info:
    """GET /info (system/system_routes.go)."""
    if version < (1, 25):  # names alone
        document.security_options = [
            option.partition(",")[0].removeprefix("name=") for option in document.security_options
        ]
    if version < (1, 42):
        document.kernel_memory = document.kernel_memory_tcp
    if version < (1, 47):
        document.registry_config.allow_nondistributable_artifacts_cidrs = None
        document.registry_config.allow_nondistributable_artifacts_hostnames = None
    if version < (1, 50):  # no longer looked at
        document.bridge_nf_iptables = document.bridge_nf_ip6tables = False
    if version < (1, 49):
        document.firewall_backend = UNSET
        for commit in (
            document.containerd_commit,
            document.runc_commit,
            document.init_commit,
        ):
            commit.expected = commit.id or UNSET
    return document


def adapt_disk_usage(document: system.DiskUsage, version: Version) -> system.DiskUsage:
    """GET /system/df: BuilderSize until 1.41."""
    if version < (1, 42):
        records = document.build_cache or []
        document.builder_size = sum(record.size for record in records)
    return document


def prunes_named_volumes(version: Version) -> bool:
    """Until 1.41 a prune of volumes took the named ones along (volume/volume_routes.go)."""
    return version < (1, 42)


def takes_signal(version: Version) -> bool:
    """`signal` of stop and restart came with 1.42."""
    return version >= (1, 42)


def takes_wait_condition(version: Version) -> bool:
    """`condition` of wait came with 1.30."""
    return version >= (1, 30)


def takes_one_shot(version: Version) -> bool:
    """`one-shot` of stats came with 1.41."""
    return version >= (1, 41)


def labels_multiplexed(version: Version) -> bool:
    """The content type of framed streams came with 1.42."""
    return version >= (1, 42)
