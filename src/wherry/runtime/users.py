"""Docker's user strings, resolved against a container's own /etc/passwd and /etc/group.

The files belong to an image and are hostile: only regular files are read, resolved inside the root, without
blocking, and only so far; lines that are not entries are passed over. Never pwd or grp: those load the
image's NSS libraries. The rules and the sentences are those of moby's `user.GetExecUser`.
"""

from __future__ import annotations

import errno
import os
import stat

from wherry.kernel import syscalls
from wherry.kernel.consts import RESOLVE
from wherry.runtime.errors import StepError

MAX_FILE_BYTES = 4 << 20
MAX_ID = (1 << 31) - 1
OUT_OF_RANGE = f"uids and gids must be in range 0-{MAX_ID}"
_RESOLVE = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS


class Identity:
    """Who a process will be."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


class PasswdEntry:
    """One line of /etc/passwd."""

    __slots__ = ("gid", "home", "name", "uid")

    def __init__(self, name: str, uid: int, gid: int, home: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.home = home


class GroupEntry:
    """One line of /etc/group."""

    __slots__ = ("gid", "members", "name")

    def __init__(self, name: str, gid: int, members: tuple[str, ...]) -> None:
        self.name = name
        self.gid = gid
        self.members = members


def read_file(root_fd: int, path: bytes) -> str:
    """A small regular file inside a root; "" when it is absent or something else than a file."""
    try:
        fd = syscalls.openat2(
            root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve=_RESOLVE
        )
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        chunks: list[bytes] = []
        size = 0
        while size < MAX_FILE_BYTES:
            chunk = os.read(fd, min(1 << 16, MAX_FILE_BYTES - size))
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(fd)


def parse_passwd(text: str) -> list[PasswdEntry]:
    """Every usable line, in order."""
    entries: list[PasswdEntry] = []
    for line in text.split("\n"):
        fields = line.strip().split(":")
        uid = _number(fields[2]) if len(fields) > 3 else None
        gid = _number(fields[3]) if len(fields) > 3 else None
        if fields[0].startswith("#") or uid is None or gid is None:
            continue
        entries.append(PasswdEntry(fields[0], uid, gid, fields[5] if len(fields) > 5 else ""))
    return entries


def parse_group(text: str) -> list[GroupEntry]:
    """Every usable line, in order."""
    entries: list[GroupEntry] = []
    for line in text.split("\n"):
        fields = line.strip().split(":")
        gid = _number(fields[2]) if len(fields) > 2 else None
        if fields[0].startswith("#") or gid is None:
            continue
        members = tuple(fields[3].split(",")) if len(fields) > 3 and fields[3] else ()
        entries.append(GroupEntry(fields[0], gid, members))
    return entries


def resolve_user(
    text: str, extra_groups: tuple[str, ...], passwd: list[PasswdEntry], group: list[GroupEntry]
) -> Identity:
    """Docker's `--user` and `--group-add`; raises StepError with Docker's sentence."""
    user, _, group_part = text.partition(":")
    wanted_uid = _number(user)
    entry = _find_user(user, wanted_uid, passwd)
    uid, gid, home, name = 0, 0, "/", ""
    if entry is not None:
        uid, gid, home, name = entry.uid, entry.gid, entry.home, entry.name
    elif user:
        if wanted_uid is None:
            raise StepError(text, f"unable to find user {user}: no matching entries in passwd file")
        uid = _ranged(text, wanted_uid)
    supplementary: list[int] = []
    if group_part:
        gid = _find_group(text, group_part, group)
    elif name:
        supplementary = [item.gid for item in group if name in item.members]
    extra = [_find_group(wanted, wanted, group) for wanted in extra_groups]
    return Identity(uid, gid, tuple(_unique([gid, *supplementary, *extra])), home)


def home_of(uid: int, passwd: list[PasswdEntry]) -> str:
    """The home directory of a uid, "/" when nothing says."""
    for entry in passwd:
        if entry.uid == uid:
            return entry.home or "/"
    return "/"


def _find_user(user: str, wanted_uid: int | None, passwd: list[PasswdEntry]) -> PasswdEntry | None:
    for entry in passwd:
        if not user:
            if entry.uid == 0:
                return entry
        elif wanted_uid is not None:
            # A numeric user is always an id, never a name.
            if entry.uid == wanted_uid:
                return entry
        elif entry.name == user:
            return entry
    return None


def _find_group(text: str, wanted: str, group: list[GroupEntry]) -> int:
    number = _number(wanted)
    for entry in group:
        if entry.gid == number if number is not None else entry.name == wanted:
            return entry.gid
    if number is None:
        raise StepError(text, f"unable to find group {wanted}: no matching entries in group file")
    return _ranged(text, number)


def _ranged(text: str, number: int) -> int:
    if not 0 <= number <= MAX_ID:
        raise StepError(text, OUT_OF_RANGE, errno.EINVAL)
    return number


def _unique(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


def _number(text: str) -> int | None:
    digits = text[1:] if text[:1] in {"-", "+"} else text
    if not digits or len(digits) > 20 or not digits.isascii() or not digits.isdigit():
        return None
    return int(text)
