"""A container's config completed from its image's (moby daemon/commit.go `merge`). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from wherry.model.container import ContainerConfig, Healthcheck
from wherry.model.errors import InvalidArgument

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def merge_config(asked: ContainerConfig, image: ContainerConfig | None) -> ContainerConfig:
    """What was asked for wins; what was not given comes from the image. Raises InvalidArgument."""
    config = asked if image is None else _merge(asked, image)
    if config.entrypoint == ("",):
        config = replace(config, entrypoint=None)
    if not config.entrypoint and not config.cmd:
        raise InvalidArgument("no command specified")
    return config


def _merge(asked: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    cmd, entrypoint, args_escaped = asked.cmd, asked.entrypoint, asked.args_escaped
    if not entrypoint:
        if not cmd:
            cmd, args_escaped = image.cmd, image.args_escaped
        if entrypoint is None:
            entrypoint = image.entrypoint
    return replace(
        asked,
        user=asked.user or image.user,
        exposed_ports=_union(asked.exposed_ports, map(_with_protocol, image.exposed_ports)),
        env=merge_missing_env(asked.env, image.env),
        labels={**image.labels, **asked.labels},
        cmd=cmd,
        entrypoint=entrypoint,
        args_escaped=args_escaped,
        healthcheck=_merge_healthcheck(asked.healthcheck, image.healthcheck),
        working_dir=asked.working_dir or image.working_dir,
        volumes=_union(asked.volumes, image.volumes),
        stop_signal=asked.stop_signal or image.stop_signal,
    )


def split_command(config: ContainerConfig) -> tuple[str, tuple[str, ...]]:
    """Path and arguments, as `docker inspect` shows them."""
    words = (*(config.entrypoint or ()), *(config.cmd or ()))
    return words[0], words[1:]


def merge_missing_env(env: tuple[str, ...], defaults: Iterable[str]) -> tuple[str, ...]:
    """`env`, and those defaults whose name it does not have."""
    names = {entry.partition("=")[0] for entry in env}
    return (*env, *(entry for entry in defaults if entry.partition("=")[0] not in names))


def override_env(defaults: Iterable[str], overrides: Iterable[str]) -> list[str]:
    """`defaults` with entries replaced by name; an override without `=` removes the name."""
    merged = {entry.partition("=")[0]: entry for entry in defaults}
    for entry in overrides:
        name, separator, _ = entry.partition("=")
        if separator:
            merged[name] = entry
        else:
            merged.pop(name, None)
    return list(merged.values())


def _with_protocol(port: str) -> str:
    return port if "/" in port else f"{port}/tcp"


def _union(first: tuple[str, ...], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _merge_healthcheck(asked: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    if asked is None or image is None:
        return asked or image
    return Healthcheck(
        test=asked.test or image.test,
        interval=asked.interval or image.interval,
        timeout=asked.timeout or image.timeout,
        start_period=asked.start_period or image.start_period,
        start_interval=asked.start_interval or image.start_interval,
        retries=asked.retries or image.retries,
    )
