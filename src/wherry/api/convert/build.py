"""Builds: the query of POST /build to options; cache and history records to JSON."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from msgspec import UNSET

from wherry.api.message import InvalidNumber, Query
from wherry.api.parameters import parse_filters
from wherry.engine.build.kept import Listed
from wherry.engine.build.prune import PruneOptions
from wherry.engine.build.records import (
    ENTITLEMENTS,
    NETWORK_HOST,
    BuildOptions,
    CacheItem,
    CacheOption,
    HistoryRecord,
    Output,
)
from wherry.image.compression import GZIP, parse_compression, parse_flag
from wherry.model.container import Ulimit
from wherry.model.errors import InvalidArgument
from wherry.model.oci_image import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from wherry.model.platforms import parse_platform
from wherry.wire import build as wire
from wherry.wire.base import BodyError, decode_parameter
from wherry.wire.system import BuildCacheRecord

Kind = TypeVar("Kind")

# Attributes by type, with the values that each may have (none: any, or looked at later).
_MODES = ("min", "max")
_FORM = {
    "mode": _MODES,
    "compression": (),
    "compression-level": (),
    "force-compression": (),
    "oci-mediatypes": (),
    "image-manifest": (),
    "ignore-error": (),
}
_CACHE_ATTRIBUTES: Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "importer": {"registry": {"ref": ()}, "local": {"src": (), "tag": (), "digest": ()}},
    "exporter": {
        "registry": {"ref": (), **_FORM},
        "local": {"dest": (), "tag": (), **_FORM},
        "inline": {"mode": _MODES},  # BuildKit takes max too, and gives min
    },
}
_REQUIRED = {
    ("registry", "importer"): "ref",
    ("registry", "exporter"): "ref",
    ("local", "importer"): "src",
    ("local", "exporter"): "dest",
}


def parse_options(query: Query, registry_config: str) -> BuildOptions:
    """The classic endpoint's parameters. Raises InvalidArgument."""
    from wherry.registry.auth import decode_registry_config

    if any(query.get_all("securityopt")):
        raise InvalidArgument("security options are not supported on linux")
    if query.flag("squash"):
        raise InvalidArgument("squash is only supported with experimental mode")
    isolation = query.get("isolation")
    if isolation.lower() not in {"", "default"}:
        raise InvalidArgument(f'unsupported isolation: "{isolation}"')
    build_args = _json(query, "buildargs", dict[str, str | None]) or {}
    platforms = [text for text in query.get("platform").split(",") if text]
    return BuildOptions(
        dockerfile=query.get("dockerfile") or "Dockerfile",
        tags=tuple(tag for tag in query.get_all("t") if tag),
        build_args={name: value for name, value in build_args.items() if value is not None},
        valueless_args=frozenset(name for name, value in build_args.items() if value is None),
        target=query.get("target"),
        no_cache=query.flag("nocache"),
        pull=query.flag("pull"),
        remove=not query.get("rm") or query.flag("rm"),
        labels=_json(query, "labels", dict[str, str]) or {},
        network_mode=query.get("networkmode"),
        entitlements=frozenset({NETWORK_HOST} if query.get("networkmode") == "host" else ()),
        shm_size=query.number("shmsize") or 0,
        extra_hosts=_hosts(query),
        ulimits=_ulimits(query),
        cgroup_parent=query.get("cgroupparent"),
        memory=query.number("memory") or 0,
        memory_swap=query.number("memswap") or 0,
        cpu_shares=query.number("cpushares") or 0,
        cpu_period=query.number("cpuperiod") or 0,
        cpu_quota=query.number("cpuquota") or 0,
        cpuset_cpus=query.get("cpusetcpus"),
        cpuset_mems=query.get("cpusetmems"),
        platforms=tuple(parse_platform(text) for text in platforms),
        quiet=query.flag("q"),
        remote=query.get("remote"),
        classic_cache_from=tuple(_json(query, "cachefrom", list[str]) or ()),
        cache_to=(CacheOption(type="inline"),) if _wants_inline(build_args) else (),
        credentials=decode_registry_config(registry_config),
    )


def _wants_inline(build_args: Mapping[str, str | None]) -> bool:
    """BuildKit's build argument for `--cache-to type=inline`."""
    return build_args.get("BUILDKIT_INLINE_CACHE", "") in {"1", "true"}


def with_preface(options: BuildOptions, preface: wire.BuildPreface) -> BuildOptions:
    """Our own parameters. Raises InvalidArgument."""
    for name in preface.allow:
        if name not in ENTITLEMENTS:
            raise InvalidArgument(f"unknown entitlement {name}")
    return replace(
        options,
        secrets=preface.secrets,
        ssh=preface.ssh,
        contexts=preface.contexts,
        offered_context=preface.offered_context,
        outputs=tuple(
            Output(
                type=item.type,
                attributes=item.attributes,
                compression=parse_compression(item.attributes),
            )
            for item in preface.outputs
        ),
        cache_from=tuple(_cache_option(item, "importer") for item in preface.cache_from),
        cache_to=(
            *options.cache_to,
            *(_cache_option(item, "exporter") for item in preface.cache_to),
        ),
        no_cache_filter=tuple(preface.no_cache_filter),
        entitlements=options.entitlements.union(preface.allow),
        dockerfile_text=preface.dockerfile_text,
        check=preface.check,
        debug=preface.debug,
    )


def parse_offer(offer: wire.ContextOffer) -> tuple[Listed, ...]:
    """The entries of a context. Raises InvalidArgument."""
    for item in offer.entries:
        clean = posixpath.normpath("/" + item.path).lstrip("/")
        if item.kind not in {"d", "f", "l", "p"} or not clean or clean != item.path:
            raise InvalidArgument(f"the context has an entry {item.path!r} that none can have")
    return tuple(
        Listed(
            item.path,
            item.kind,
            item.mode & 0o7777,
            item.size,
            item.mtime_ns,
            item.link,
            item.stamp,
        )
        for item in offer.entries
    )


def _cache_option(item: wire.OptionItem, role: str) -> CacheOption:
    known = _CACHE_ATTRIBUTES[role]
    if item.type not in known:
        raise InvalidArgument(f'unknown cache {role}: "{item.type}"')
    for name, value in item.attributes.items():
        values = known[item.type].get(name)
        if values is None:
            raise InvalidArgument(f'{item.type} cache {role}: unknown attribute "{name}"')
        if values and value not in values:
            raise InvalidArgument(
                f"{item.type} cache {role}: {name}={value} is not supported ({', '.join(values)})"
            )
    required = _REQUIRED.get((item.type, role), "")
    if required and not item.attributes.get(required):
        raise InvalidArgument(f"{required} is required for {item.type} cache {role}")
    return CacheOption(
        type=item.type,
        attributes=item.attributes,
        compression=parse_compression(item.attributes) or GZIP,
        media_type=_manifest_type(item.attributes),
        ignores_errors=parse_flag(item.attributes, "ignore-error"),
    )


def _manifest_type(attributes: Mapping[str, str]) -> str:
    """Of a cache's manifest."""
    is_oci = parse_flag(attributes, "oci-mediatypes", default=True)
    if parse_flag(attributes, "image-manifest", default=is_oci):
        if not is_oci:
            raise InvalidArgument(
                "invalid configuration for remote cache, OCI mediatypes are required for image-manifest"
                " cache format"
            )
        return OCI_MANIFEST
    return OCI_INDEX if is_oci else DOCKER_LIST


def _hosts(query: Query) -> tuple[str, ...]:
    """`extrahosts` is repeated, or a JSON array in old clients."""
    hosts: list[str] = []
    for text in query.get_all("extrahosts"):
        if text.startswith("["):
            hosts.extend(_decode("extrahosts", text, list[str]))
        elif text:
            hosts.append(text)
    return tuple(hosts)


def _ulimits(query: Query) -> tuple[Ulimit, ...]:
    items = _json(query, "ulimits", list[wire.UlimitItem]) or []
    return tuple(Ulimit(name=item.name, soft=item.soft, hard=item.hard) for item in items)


def _json(query: Query, name: str, kind: type[Kind]) -> Kind | None:
    text = query.get(name)
    return None if not text or text == "null" else _decode(name, text, kind)


def _decode(name: str, text: str, kind: type[Kind]) -> Kind:
    try:
        return decode_parameter(text, kind)
    except BodyError as error:
        raise InvalidArgument(f"error reading {name}: {error}") from error


def build_cache_record(item: CacheItem) -> BuildCacheRecord:
    """A record of `docker system df`."""
    return BuildCacheRecord(
        id=item.id,
        parents=list(item.parents) or UNSET,
        type=item.kind,
        description=item.description,
        in_use=item.in_use,
        shared=item.shared,
        size=item.size_bytes,
        created_at=item.created,
        last_used_at=item.last_used or None,
        usage_count=item.use_count,
    )


def parse_prune(query: Query) -> PruneOptions:
    """The parameters of POST /build/prune. Raises InvalidArgument."""
    sizes = {
        name: _parse_bytes(query, name)
        for name in ("keep-storage", "reserved-space", "max-used-space", "min-free-space")
    }
    return PruneOptions(
        all_=query.flag("all"),
        filters=parse_filters(query),
        reserved=sizes["reserved-space"] or sizes["keep-storage"],
        max_used=sizes["max-used-space"],
        min_free=sizes["min-free-space"],
    )


def _parse_bytes(query: Query, name: str) -> int:
    try:
        return max(query.number(name) or 0, 0)
    except InvalidNumber as error:
        raise InvalidArgument(
            f"{name} is in bytes and expects an integer, got {query.get(name)}: {error}"
        ) from error


def build_history_item(record: HistoryRecord) -> wire.HistoryItem:
    """A record of `wherry builder history`."""
    return wire.HistoryItem(
        id=record.id,
        created=record.created,
        seconds=record.seconds,
        status=record.status,
        dockerfile=record.dockerfile,
        target=record.target,
        tags=list(record.tags),
        image=record.image,
        error=record.error,
        steps=[
            wire.HistoryStepItem(
                name=step.name, cached=step.cached, seconds=step.seconds, error=step.error
            )
            for step in record.steps
        ],
    )
