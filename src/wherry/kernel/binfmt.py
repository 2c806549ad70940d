"""binfmt_misc: which programs the kernel hands to an interpreter (an emulator such as qemu-user).

Only reads what is registered. Format of the entries: Documentation/admin-guide/binfmt-misc.rst.
"""

from __future__ import annotations

import os
import struct

from wherry.kernel.consts import FSCONFIG, MOUNT_ATTR
from wherry.kernel.syscalls import fsconfig, fsmount, fsopen

FOLDER = "/proc/sys/fs/binfmt_misc"
_CONTROL_FILES = frozenset({"register", "status"})

# OCI architecture -> (ELF class, data encoding, e_machine), as in elf.h
_ELF = {
    "386": (1, 1, 3),
    "amd64": (2, 1, 62),
    "arm": (1, 1, 40),
    "arm64": (2, 1, 183),
    "loong64": (2, 1, 258),
    "mips64le": (2, 1, 8),
    "ppc64le": (2, 1, 21),
    "riscv64": (2, 1, 243),
    "s390x": (2, 2, 22),
}


class Handler:
    """One enabled entry that looks at the first bytes of a program."""

    __slots__ = ("interpreter", "magic", "mask", "offset")

    def __init__(self, interpreter: str, offset: int, magic: bytes, mask: bytes) -> None:
        self.interpreter = interpreter
        self.offset = offset
        self.magic = magic
        self.mask = mask or b"\xff" * len(magic)

    def matches(self, header: bytes) -> bool:
        """Whether the kernel gives a program that begins so to this handler."""
        found = header[self.offset : self.offset + len(self.magic)]
        return len(found) == len(self.magic) and all(
            (one ^ other) & mask == 0
            for one, other, mask in zip(found, self.magic, self.mask, strict=True)
        )


def read_handlers(folder: str) -> list[Handler]:
    """What is registered and enabled; empty when the file system is not mounted."""
    try:
        names = sorted(set(os.listdir(folder)) - _CONTROL_FILES)
        with open(f"{folder}/status", encoding="ascii") as status:
            if status.read().strip() != "enabled":
                return []
    except OSError:
        return []
    handlers = []
    for name in names:
        try:
            with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as entry:
                handler = parse_handler(entry.read())
        except OSError:
            continue
        if handler is not None:
            handlers.append(handler)
    return handlers


def parse_handler(text: str) -> Handler | None:
    """One entry's file; None when it is disabled or goes by the name of the program."""
    lines = text.splitlines()
    fields = dict(line.partition(" ")[::2] for line in lines[1:])
    if not lines or lines[0] != "enabled" or "magic" not in fields:
        return None
    try:
        return Handler(
            fields.get("interpreter", ""),
            int(fields.get("offset", "0")),
            bytes.fromhex(fields["magic"]),
            bytes.fromhex(fields.get("mask", "")),
        )
    except ValueError:
        return None


def build_header(architecture: str) -> bytes:
    """The first 20 bytes of a program of an architecture (an executable); empty when it is not known."""
    if architecture not in _ELF:
        return b""
    bits, encoding, machine = _ELF[architecture]
    identity = bytes((0x7F, 0x45, 0x4C, 0x46, bits, encoding, 1)).ljust(16, b"\0")
    return identity + struct.pack("<HH" if encoding == 1 else ">HH", 2, machine)


def find_emulator(architecture: str, folder: str = "") -> str | None:
    """The interpreter for programs of an architecture, None when there is none or nothing is known of it.

    The registrations are the machine's whether or not somebody has mounted their file system: where it is not at
    its place, a mount that nobody else sees is read.
    """
    header = build_header(architecture)
    if not header:
        return None
    if not folder and not os.path.exists(f"{FOLDER}/status"):
        try:
            mount = _mount_detached()
        except OSError:
            return None
        try:
            return find_emulator(architecture, f"/proc/self/fd/{mount}")
        finally:
            os.close(mount)
    # Masks may reach beyond 20 bytes only with zeros.
    padded = header.ljust(128, b"\0")
    for handler in read_handlers(folder or FOLDER):
        if handler.matches(padded):
            return handler.interpreter
    return None


def _mount_detached() -> int:
    context = fsopen(b"binfmt_misc")
    try:
        fsconfig(context, FSCONFIG.CMD_CREATE)
        return fsmount(context, MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC)
    finally:
        os.close(context)
