"""Platform specifiers: `linux/arm/v7` ↔ `Platform`, and which platform of an index a machine can run.

Pure rules, containerd's (pkg platforms): aliases of architectures, default variants, and the order in which
older variants are acceptable (arm/v7 runs v6 and v5, arm64 runs 32-bit arm, amd64/v3 runs v2 and v1, amd64 runs 386).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from wherry.model.errors import InvalidArgument
from wherry.model.image import Platform

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+\Z")
_SYSTEM_SHOWN = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$"
_SYSTEM = re.compile(_SYSTEM_SHOWN.removesuffix("$") + r"\Z")

_SYSTEMS = frozenset(
    [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "hurd",
        "illumos",
        "ios",
        "js",
        "linux",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "windows",
    ]
)
_ARCHITECTURES = frozenset(
    [
        "386",
        "amd64",
        "arm",
        "arm64",
        "loong64",
        "mips",
        "mips64",
        "mips64le",
        "mipsle",
        "ppc64",
        "ppc64le",
        "riscv64",
        "s390x",
        "wasm",
        "sparc64",
    ]
)

# alias -> (architecture, variant); an empty variant keeps the one that was given
_ALIASES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}

_MACHINES = {
    "x86_64": "amd64",
    "i686": "386",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "loongarch64": "loong64",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}

# Instruction set levels of x86-64 (psABI), by flags of /proc/cpuinfo.
_AMD64_LEVELS = (
    ("v2", frozenset(["cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"])),
    ("v3", frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"])),
    ("v4", frozenset(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])),
)


def _normalize_architecture(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = architecture.lower(), variant.lower()
    if architecture in _ALIASES:
        architecture, fixed = _ALIASES[architecture]
        variant = fixed or variant
    if architecture == "arm64" and variant in {"8", "v8", "8.0", "v8.0"}:
        variant = ""
    elif architecture == "arm64" and variant in {"9", "9.0", "v9.0"}:
        variant = "v9"
    elif architecture == "arm" and variant in {"5", "6", "7", "8"}:
        variant = f"v{variant}"
    elif architecture == "amd64" and variant == "v1":
        variant = ""
    return architecture, variant


def normalize_platform(platform: Platform) -> Platform:
    """The canonical spelling: aliases resolved, default variants dropped."""
    architecture, variant = _normalize_architecture(platform.architecture, platform.variant)
    system = {"macos": "darwin", "": "linux"}.get(platform.os.lower(), platform.os.lower())
    return replace(platform, os=system, architecture=architecture, variant=variant)


def parse_platform(text: str) -> Platform:
    """`os`, `arch`, `os/arch` or `os/arch/variant`. Raises InvalidArgument with Docker's sentence."""
    first, *rest = text.split("/")
    named = _SYSTEM.match(first)
    if named is None:
        shown = _SYSTEM_SHOWN.replace("\\", "\\\\")  # as Go quotes it
        raise InvalidArgument(
            f'"{first}" is an invalid OS component of "{text}": OSAndVersion specifier component must'
            f' match "{shown}": invalid argument'
        )
    for part in rest:
        if not _COMPONENT.match(part):
            raise InvalidArgument(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match'
                ' "^[A-Za-z0-9_.-]+$": invalid argument'
            )
    parts = [named[1], *rest]  # the version of a Windows says nothing here
    host = host_platform()
    if not rest:
        system = normalize_platform(Platform(os=parts[0])).os
        if system in _SYSTEMS:
            return Platform(os=system, architecture=host.architecture, variant=host.variant)
        architecture, variant = _normalize_architecture(parts[0], "")
        if architecture in _ARCHITECTURES:
            if architecture == "arm" and variant == "v7":
                variant = ""
            return Platform(os=host.os, architecture=architecture, variant=variant)
        raise InvalidArgument(
            f'"{text}": unknown operating system or architecture: invalid argument'
        )
    if len(parts) in {2, 3}:
        return normalize_platform(
            Platform(
                os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else ""
            )
        )
    raise InvalidArgument(f'"{text}": cannot parse platform specifier: invalid argument')


def format_platform(platform: Platform) -> str:
    """`linux/arm/v7`; parts that are not known are left out."""
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


@cache
def host_platform() -> Platform:
    """What this machine runs natively, with its variant."""
    machine = os.uname().machine
    architecture = _MACHINES.get(machine, machine)
    variant = ""
    if architecture == "arm":
        variant = "v6" if machine.startswith("armv6") else "v7"
    elif architecture == "amd64":
        variant = amd64_level(_cpu_flags())
    return Platform(os="linux", architecture=architecture, variant=variant)


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def amd64_level(flags: frozenset[str]) -> str:
    """The highest x86-64 level whose flags, and those of the levels below, are all there; "" = v1."""
    level = ""
    for name, needed in _AMD64_LEVELS:
        if not needed <= flags:
            break
        level = name
    return level


def acceptable_platforms(wanted: Platform) -> Iterator[Platform]:
    """What can run where `wanted` is asked for, best first."""
    wanted = normalize_platform(wanted)
    system, architecture = wanted.os, wanted.architecture
    if architecture == "amd64":
        yield from _older(wanted, "amd64", wanted.variant or "v1", lowest=1)
        yield Platform(os=system, architecture="386")
    elif architecture == "arm":
        yield from _older(wanted, "arm", wanted.variant or "v7", lowest=5)
    elif architecture == "arm64":
        yield from _older(wanted, "arm64", wanted.variant or "v8", lowest=8)
        yield from _older(wanted, "arm", "v8", lowest=5)
    else:
        yield wanted


def _older(wanted: Platform, architecture: str, variant: str, lowest: int) -> Iterator[Platform]:
    number = variant.removeprefix("v")
    if not number.isdigit() or int(number) > 99:
        yield normalize_platform(Platform(os=wanted.os, architecture=architecture, variant=variant))
        return
    for level in range(int(number), lowest - 1, -1):
        yield normalize_platform(
            Platform(os=wanted.os, architecture=architecture, variant=f"v{level}")
        )


def _comparable(platform: Platform) -> tuple[str, str, str]:
    platform = normalize_platform(platform)
    variant = platform.variant
    if platform.architecture == "arm" and not variant:
        variant = "v7"
    return platform.os, platform.architecture, variant


def matches(wanted: Platform, candidate: Platform) -> bool:
    """Whether `candidate` runs where `wanted` is asked for."""
    return best_match(wanted, (candidate,)) is not None


def best_match(wanted: Platform, candidates: Iterable[Platform | None]) -> int | None:
    """The index of the best candidate, None when there is none; `None` among them never matches."""
    known = [None if candidate is None else _comparable(candidate) for candidate in candidates]
    for acceptable in acceptable_platforms(wanted):
        comparable = _comparable(acceptable)
        if comparable in known:
            return known.index(comparable)
    return None
