"""Images of other architectures: Docker's warning, and what to install when nothing can run them."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from wherry.kernel.binfmt import find_emulator
from wherry.model.image import Platform
from wherry.model.platforms import format_platform, host_platform, matches

_QEMU_NAMES = {
    "386": "i386",
    "amd64": "x86_64",
    "arm64": "aarch64",
    "mips64le": "mips64el",
    "loong64": "loongarch64",
}


def platform_warnings(
    image: Platform,
    wanted: Platform | None,
    host: Platform | None = None,
    find: Callable[[str], str | None] = find_emulator,
) -> list[str]:
    """What to say about an image's platform when a container is made from it."""
    host = host or host_platform()
    if not image.architecture or matches(host, image):
        return []
    warnings = []
    if wanted is None:
        warnings.append(
            f"The requested image's platform ({format_platform(image)}) does not match the detected"
            f" host platform ({format_platform(host)}) and no specific platform was requested"
        )
    if image.os == host.os and find(image.architecture) is None:
        warnings.append(_advice(image))
    return warnings


def _advice(image: Platform) -> str:
    name = f"qemu-{_QEMU_NAMES.get(image.architecture, image.architecture)}"
    missing = f"no emulator for {format_platform(image)} is registered with binfmt_misc"
    if shutil.which(f"{name}-static") or shutil.which(name):
        return f"{missing}: {name} is installed, install the package binfmt-support to register it"
    return (
        f"{missing}: install the packages qemu-user-static and binfmt-support to run images of"
        " this platform"
    )
