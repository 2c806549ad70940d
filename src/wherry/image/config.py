"""Image configs: their JSON to records and back; manifests to JSON (`model.oci_image` reads those).

OCI image-spec "config.md", "manifest.md", "image-index.md", and Docker's schema 2, which differs in media
types and in the fields that Docker adds to the config. Unknown fields of a config survive in its blob,
which is stored byte for byte; only what the engine reads is parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from wherry.image.content import BadContent
from wherry.image.digest import InvalidDigest, parse_digest
from wherry.lib.jsonvalue import (
    JsonError,
    JsonObject,
    JsonValue,
    get_bool,
    get_int,
    get_object,
    get_objects,
    get_str,
    get_strings,
)
from wherry.model.container import ContainerConfig, Healthcheck
from wherry.model.image import Descriptor, Digest, HistoryEntry, Platform
from wherry.model.oci_image import DOCKER_CONFIG, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_DOCKER_LAYERS = {
    _DOCKER_LAYER: OCI_LAYER,
    "application/vnd.docker.image.rootfs.foreign.diff.tar": "application/vnd.oci.image.layer.nondistributable.v1.tar",
}

_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_HOST_BASE = "io.wherry.host"
BUILD_CACHE_KEY = "io.wherry.build-cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What the engine reads of a config."""

    platform: Platform = field(default_factory=Platform)
    config: ContainerConfig = field(default_factory=ContainerConfig)
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    created: str = ""
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    host_base: str = (
        ""  # the id of the `host` image that is below; such an image has only its own difference
    )
    build_cache: JsonObject = field(default_factory=dict)  # written only: `--cache-to type=inline`


def parse_json(data: bytes, what: str) -> JsonObject:
    """The object in a JSON document. Raises BadContent."""
    try:
        document = json.loads(data)
        if _HALF_CHARACTER.search(data):
            json.dumps(document, ensure_ascii=False).encode()  # a lone surrogate cannot be stored
    except (ValueError, RecursionError) as error:
        raise BadContent(f"{what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadContent(f"{what} is not a JSON object")
    return document


def parse_config(data: bytes) -> ImageConfig:
    """The config in a blob. Raises BadContent."""
    document = parse_json(data, "image config")
    try:
        root = get_object(document, "rootfs")
        return ImageConfig(
            platform=Platform(
                os=get_str(document, "os") or "linux",
                architecture=get_str(document, "architecture") or "amd64",
                variant=get_str(document, "variant"),
                os_version=get_str(document, "os.version"),
                os_features=get_strings(document, "os.features"),
            ),
            config=_parse_container_config(get_object(document, "config")),
            diff_ids=tuple(parse_digest(text) for text in get_strings(root, "diff_ids")),
            history=tuple(_parse_history(entry) for entry in get_objects(document, "history")),
            created=get_str(document, "created"),
            author=get_str(document, "author"),
            comment=get_str(document, "comment"),
            docker_version=get_str(document, "docker_version"),
            host_base=get_str(document, _HOST_BASE),
        )
    except (JsonError, InvalidDigest) as error:
        raise BadContent(f"image config: {error}") from error


def build_config(config: ImageConfig) -> bytes:
    """The config's JSON as Docker writes it: the order of keys, and nothing that is empty."""
    document: dict[str, JsonValue] = {"architecture": config.platform.architecture}
    if config.author:
        document["author"] = config.author
    if config.comment:
        document["comment"] = config.comment
    document["config"] = container_config_json(config.config)
    document["created"] = config.created
    if config.docker_version:
        document["docker_version"] = config.docker_version
    document["history"] = [_history_json(entry) for entry in config.history]
    if config.build_cache:
        document[BUILD_CACHE_KEY] = config.build_cache
    if config.host_base:
        document[_HOST_BASE] = config.host_base
    document["os"] = config.platform.os
    if config.platform.os_version:
        document["os.version"] = config.platform.os_version
    if config.platform.os_features:
        document["os.features"] = config.platform.os_features
    document["rootfs"] = {"type": "layers", "diff_ids": config.diff_ids}
    if config.platform.variant:
        document["variant"] = config.platform.variant
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def build_manifest(config: Descriptor, layers: tuple[Descriptor, ...]) -> bytes:
    """An OCI image manifest, byte for byte as Docker 28 saves it; what came with Docker's media types gets OCI's."""
    if config.media_type == DOCKER_CONFIG:
        config = replace(config, media_type=OCI_CONFIG)
    document: JsonObject = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor_json(config),
        "layers": [descriptor_json(as_oci_layer(layer)) for layer in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def as_oci_layer(layer: Descriptor) -> Descriptor:
    """The layer under OCI's name of its media type."""
    for docker, oci in _DOCKER_LAYERS.items():
        kind = layer.media_type.removeprefix(docker)
        if kind in {"", ".gzip", ".zstd"}:
            return replace(layer, media_type=oci + kind.replace(".", "+"))
    return layer


def docker_layer_type(media_type: str) -> str:
    """Docker's name of one of OCI's layer types."""
    return _DOCKER_LAYER + media_type.removeprefix(OCI_LAYER).replace("+", ".")


def build_index(manifests: Sequence[Descriptor], media_type: str = OCI_INDEX) -> bytes:
    """An index, or Docker's list."""
    document: JsonObject = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [descriptor_json(manifest) for manifest in manifests],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def descriptor_json(descriptor: Descriptor) -> JsonObject:
    """A descriptor as JSON."""
    document: dict[str, JsonValue] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    if descriptor.platform is not None:
        platform: dict[str, JsonValue] = {
            "architecture": descriptor.platform.architecture,
            "os": descriptor.platform.os,
        }
        if descriptor.platform.variant:
            platform["variant"] = descriptor.platform.variant
        document["platform"] = platform
    return document


def container_config_json(config: ContainerConfig) -> JsonObject:
    """The `config` object of an image config: only what was set, as Docker's encoder leaves it."""
    document: dict[str, JsonValue] = {}
    if config.hostname:
        document["Hostname"] = config.hostname
    if config.domainname:
        document["Domainname"] = config.domainname
    if config.user:
        document["User"] = config.user
    if config.exposed_ports:
        document["ExposedPorts"] = {port: {} for port in sorted(config.exposed_ports)}
    if config.env:
        document["Env"] = config.env
    if config.entrypoint is not None:
        document["Entrypoint"] = config.entrypoint
    if config.cmd is not None:
        document["Cmd"] = config.cmd
    if config.healthcheck is not None:
        document["Healthcheck"] = _healthcheck_json(config.healthcheck)
    if config.args_escaped:
        document["ArgsEscaped"] = True
    if config.volumes:
        document["Volumes"] = {volume: {} for volume in sorted(config.volumes)}
    if config.working_dir:
        document["WorkingDir"] = config.working_dir
    if config.on_build:
        document["OnBuild"] = config.on_build
    if config.labels:
        document["Labels"] = dict(sorted(config.labels.items()))
    if config.stop_signal:
        document["StopSignal"] = config.stop_signal
    if config.stop_timeout is not None:
        document["StopTimeout"] = config.stop_timeout
    if config.shell is not None:
        document["Shell"] = config.shell
    return document


def _parse_container_config(document: JsonObject) -> ContainerConfig:
    health = get_object(document, "Healthcheck")
    timeout = document.get("StopTimeout")
    return ContainerConfig(
        hostname=get_str(document, "Hostname"),
        domainname=get_str(document, "Domainname"),
        user=get_str(document, "User"),
        exposed_ports=tuple(get_object(document, "ExposedPorts")),
        env=get_strings(document, "Env"),
        cmd=_optional_strings(document, "Cmd"),
        healthcheck=_parse_healthcheck(health) if health else None,
        args_escaped=get_bool(document, "ArgsEscaped"),
        volumes=tuple(get_object(document, "Volumes")),
        working_dir=get_str(document, "WorkingDir"),
        entrypoint=_optional_strings(document, "Entrypoint"),
        on_build=get_strings(document, "OnBuild"),
        labels=_parse_map(document, "Labels"),
        stop_signal=get_str(document, "StopSignal"),
        stop_timeout=None if timeout is None else get_int(document, "StopTimeout"),
        shell=_optional_strings(document, "Shell"),
    )


def _parse_healthcheck(document: JsonObject) -> Healthcheck:
    return Healthcheck(
        test=get_strings(document, "Test"),
        interval=get_int(document, "Interval"),
        timeout=get_int(document, "Timeout"),
        start_period=get_int(document, "StartPeriod"),
        start_interval=get_int(document, "StartInterval"),
        retries=get_int(document, "Retries"),
    )


def _healthcheck_json(check: Healthcheck) -> JsonObject:
    numbers = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
    document: dict[str, JsonValue] = {"Test": check.test} if check.test else {}
    document.update({name: value for name, value in numbers.items() if value})
    return document


def _parse_history(document: JsonObject) -> HistoryEntry:
    return HistoryEntry(
        created=get_str(document, "created"),
        created_by=get_str(document, "created_by"),
        author=get_str(document, "author"),
        comment=get_str(document, "comment"),
        empty_layer=get_bool(document, "empty_layer"),
    )


def _history_json(entry: HistoryEntry) -> JsonObject:
    texts = {
        "created": entry.created,
        "author": entry.author,
        "created_by": entry.created_by,
        "comment": entry.comment,
    }
    document: dict[str, JsonValue] = {name: value for name, value in texts.items() if value}
    if entry.empty_layer:
        document["empty_layer"] = True
    return document


def _optional_strings(document: JsonObject, key: str) -> tuple[str, ...] | None:
    return None if document.get(key) is None else get_strings(document, key)


def _parse_map(document: JsonObject, key: str) -> dict[str, str]:
    values = get_object(document, key)
    return {name: get_str(values, name) for name in values}
