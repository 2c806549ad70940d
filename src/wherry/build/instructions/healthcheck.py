"""HEALTHCHECK [flags] CMD command, or HEALTHCHECK NONE."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem
from wherry.build.instructions.base import (
    Flag,
    FlagValues,
    Instruction,
    make_source,
    parse_command,
    parse_flags,
)
from wherry.build.parser import Node
from wherry.build.words import quote_go
from wherry.model.container import Healthcheck as HealthcheckConfig

FLAGS = (
    Flag("interval"),
    Flag("timeout"),
    Flag("start-period"),
    Flag("start-interval"),
    Flag("retries"),
)
DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
DURATION = re.compile(r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
MINIMUM = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """HEALTHCHECK."""

    config: HealthcheckConfig


def parse(node: Node, escape: str) -> Healthcheck:
    """Parses HEALTHCHECK."""
    del escape
    if not node.rest:
        raise SyntaxProblem("HEALTHCHECK requires at least one argument", node.keyword)
    kind = node.rest.split(None, 1)[0]
    rest = node.rest[len(kind) :].strip()
    kind = kind.upper()
    if kind == "NONE":
        if rest:
            raise SyntaxProblem("HEALTHCHECK NONE takes no arguments", rest)
        return Healthcheck(source=make_source(node), config=HealthcheckConfig(test=("NONE",)))
    flags = parse_flags(node, *FLAGS)
    if kind != "CMD":
        raise SyntaxProblem(f"Unknown type {quote_go(kind)} in HEALTHCHECK (try CMD)", node.rest)
    command = parse_command(node, rest)
    if not command.words:
        raise SyntaxProblem("Missing command after HEALTHCHECK CMD", node.rest)
    test = ("CMD-SHELL" if command.is_shell else "CMD", *command.words)
    return Healthcheck(
        source=make_source(node),
        config=HealthcheckConfig(
            test=test,
            interval=_interval(flags, "interval"),
            timeout=_interval(flags, "timeout"),
            start_period=_interval(flags, "start-period"),
            start_interval=_interval(flags, "start-interval"),
            retries=_retries(flags.text("retries")),
        ),
    )


def _retries(text: str) -> int:
    if not text:
        return 0
    if re.fullmatch(r"[+-]?[0-9]+", text) is None:
        raise SyntaxProblem(
            f"strconv.ParseInt: parsing {quote_go(text)}: invalid syntax", "--retries"
        )
    retries = int(text[:12])
    if retries < 0:
        raise SyntaxProblem(f"--retries cannot be negative ({retries})", "--retries")
    return retries


def _interval(flags: FlagValues, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    nanoseconds = parse_duration(text)
    if nanoseconds is None:
        fault = "missing unit in" if re.fullmatch(r"[-+]?[0-9.]*[0-9]", text) else "invalid"
        raise SyntaxProblem(f"time: {fault} duration {quote_go(text)}", f"--{name}")
    if nanoseconds and nanoseconds < MINIMUM:
        raise SyntaxProblem(f"Interval {quote_go(name)} cannot be less than 1ms", f"--{name}")
    return nanoseconds


def parse_duration(text: str) -> int | None:
    """Go's duration in nanoseconds; None when it is none."""
    if text in {"0", "+0", "-0"}:
        return 0
    if len(text) > 40 or DURATION.fullmatch(text) is None:
        return None
    total = sum(
        int(float(number) * NANOSECONDS[unit]) for number, unit in DURATION_PART.findall(text)
    )
    return -total if text.startswith("-") else total
