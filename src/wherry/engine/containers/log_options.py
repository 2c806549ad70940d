"""A container's log: where it is and how it is kept, from `--log-driver` and `--log-opt`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from wherry.engine.settings import EngineSettings
from wherry.engine.shims import LogTarget
from wherry.model.container import Container
from wherry.model.errors import Internal

_INITIALIZE = "failed to create task for container: failed to initialize logging driver: "


def log_target(settings: EngineSettings, record: Container) -> LogTarget | None:
    """Where the container's output is logged; None for the driver `none`. Raises Internal."""
    log = record.host_config.log_config
    if log.type == "none":
        return None
    options = log.config
    environment = dict(entry.partition("=")[::2] for entry in record.config.env)
    attributes = {
        **_choose(record.config.labels, options.get("labels", ""), options.get("labels-regex", "")),
        **_choose(environment, options.get("env", ""), options.get("env-regex", "")),
    }
    if "tag" in options:
        attributes["tag"] = options["tag"]
    compress = options.get("compress", "") == "true"
    if compress and ("max-size" not in options or _parse_count(options.get("max-file", "1")) < 2):
        raise Internal(
            f"{_INITIALIZE}compress cannot be true when max-file is less than 2 or max-size is not set"
        )
    return LogTarget(
        path=log_path(settings, record),
        max_size=parse_size(options.get("max-size", "")),
        max_file=_parse_count(options.get("max-file", "1")),
        compress=compress,
        attributes=attributes,
    )


def _choose(values: Mapping[str, str], names: str, pattern: str) -> dict[str, str]:
    """Those of the names listed, and those that the pattern fits."""
    chosen = {name: values[name] for name in names.split(",") if name in values}
    if pattern:
        try:
            fits = re.compile(pattern).search
        except re.error as exc:
            raise Internal(f"{_INITIALIZE}error parsing regexp: {exc}") from exc
        chosen.update({name: value for name, value in values.items() if fits(name)})
    return chosen


def log_path(settings: EngineSettings, record: Container) -> Path:
    """ROOT/containers/<id>/<id>-json.log, where Docker has it too."""
    return settings.container_dir(record.id) / f"{record.id}-json.log"


def parse_size(text: str) -> int:
    """`10m` in bytes, 0 for none. Raises Internal with Docker's sentence."""
    if text in {"", "-1"}:
        return 0
    lower = text.lower().removesuffix("b").removesuffix("i")
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}.get(lower[-1:], 1)
    digits = lower[:-1] if factor > 1 else lower
    if not digits.isascii() or not digits.replace(".", "", 1).isdecimal():
        raise Internal(f"{_INITIALIZE}invalid size: '{text}'")
    return int(float(digits) * factor)


def _parse_count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise Internal(f"{_INITIALIZE}max-file cannot be less than 1")
    return int(text)
