"""The words of an OCI mount's `options`, as data: what each sets, clears, or means for propagation.

See the runtime specification ("Linux mount options") and mount(8). What is in no table is handed to the
file system as it is ("size=64m").
"""

from __future__ import annotations

from wherry.kernel.consts import MOUNT_ATTR, MS

# word: (attributes to set, attributes to clear)
ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (MOUNT_ATTR.RDONLY, 0),
    "rw": (0, MOUNT_ATTR.RDONLY),
    "nosuid": (MOUNT_ATTR.NOSUID, 0),
    "suid": (0, MOUNT_ATTR.NOSUID),
    "nodev": (MOUNT_ATTR.NODEV, 0),
    "dev": (0, MOUNT_ATTR.NODEV),
    "noexec": (MOUNT_ATTR.NOEXEC, 0),
    "exec": (0, MOUNT_ATTR.NOEXEC),
    "noatime": (MOUNT_ATTR.NOATIME, MOUNT_ATTR.ATIME),
    "atime": (0, MOUNT_ATTR.ATIME),
    "relatime": (0, MOUNT_ATTR.ATIME),
    "norelatime": (MOUNT_ATTR.STRICTATIME, MOUNT_ATTR.ATIME),
    "strictatime": (MOUNT_ATTR.STRICTATIME, MOUNT_ATTR.ATIME),
    "nostrictatime": (0, MOUNT_ATTR.ATIME),
    "nodiratime": (MOUNT_ATTR.NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR.NODIRATIME),
    "nosymfollow": (MOUNT_ATTR.NOSYMFOLLOW, 0),
    "symfollow": (0, MOUNT_ATTR.NOSYMFOLLOW),
}

PROPAGATION: dict[str, int] = {
    "private": MS.PRIVATE,
    "rprivate": MS.PRIVATE | MS.REC,
    "shared": MS.SHARED,
    "rshared": MS.SHARED | MS.REC,
    "slave": MS.SLAVE,
    "rslave": MS.SLAVE | MS.REC,
    "unbindable": MS.UNBINDABLE,
    "runbindable": MS.UNBINDABLE | MS.REC,
}

# Flags of the super block; the rest of mount(8)'s words that a file system must not see.
SUPER_BLOCK = frozenset({"sync", "dirsync", "mand", "lazytime", "silent"})
IGNORED = frozenset(
    {
        "defaults",
        "async",
        "nomand",
        "loud",
        "nolazytime",
        "newinstance",
        "bind",
        "rbind",
        "iversion",
    }
)


class MountOptions:
    """The options of one mount, sorted by what they are for."""

    __slots__ = (
        "attr_clr",
        "attr_set",
        "copy_up",
        "data",
        "propagation",
        "recursive",
        "recursive_clr",
        "recursive_set",
        "super_block",
    )

    def __init__(self, words: tuple[str, ...]) -> None:
        self.attr_set = 0
        self.attr_clr = 0
        self.recursive_set = 0
        self.recursive_clr = 0
        self.propagation: list[int] = []
        self.super_block: list[str] = []
        self.data: list[tuple[str, str | None]] = []
        self.recursive = "bind" not in words or "rbind" in words
        self.copy_up = "tmpcopyup" in words
        for word in words:
            self._take(word)

    def _take(self, word: str) -> None:
        if word in ATTRIBUTES:
            on, off = ATTRIBUTES[word]
            self.attr_set = (self.attr_set & ~off) | on
            self.attr_clr = (self.attr_clr & ~on) | off
        elif word[:1] == "r" and word[1:] in ATTRIBUTES:
            on, off = ATTRIBUTES[word[1:]]
            self.recursive_set = (self.recursive_set & ~off) | on
            self.recursive_clr = (self.recursive_clr & ~on) | off
        elif word in PROPAGATION:
            self.propagation.append(PROPAGATION[word])
        elif word in SUPER_BLOCK:
            self.super_block.append(word)
        elif word in IGNORED or word == "tmpcopyup":
            pass
        else:
            key, equals, value = word.partition("=")
            self.data.append((key, value if equals else None))
