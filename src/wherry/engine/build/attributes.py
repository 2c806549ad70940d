"""What `--chown` and `--chmod` mean: owners looked up in a root, modes as functions of the old mode."""

from __future__ import annotations

import re
from collections.abc import Callable

from wherry.runtime.users import parse_group, parse_passwd, read_file

_OCTAL = re.compile(r"[0-7]{1,5}")
_CLAUSE = re.compile(r"([ugoa]*)([-+=])([rwxXst]*|[ugo])")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_VALUES = {"r": 4, "w": 2, "x": 1, "X": 1}
_SPECIAL = {"u": 0o4000, "g": 0o2000}
_UMASK = 0o022
FOLDER_MODE = 0o755  # of what is made on the way

ModeChange = Callable[[int, bool], int]  # of the old mode, and whether it is a directory


class CopyError(Exception):
    """What cannot be copied, as a sentence for the person who wrote the Dockerfile."""


def find_owner(root: int, text: str) -> tuple[int | None, int | None]:
    """`user[:group]` of --chown in a root; None where nothing is asked for. Raises CopyError."""
    if not text:
        return None, None
    user, _, group = text.partition(":")
    uid, gid = 0, None
    if user == "root":
        gid = 0  # in every image, also one without /etc/passwd
    elif user.isascii() and user.isdigit():
        uid = gid = int(user)
    elif user:
        entries = parse_passwd(read_file(root, b"etc/passwd"))
        found = next((entry for entry in entries if entry.name == user), None)
        if found is None:
            raise CopyError(
                f"unable to convert uid/gid chown string to host mapping: can't find uid for user {user}: no such user: {user}"
            )
        uid, gid = found.uid, found.gid
    if group.isascii() and group.isdigit():
        gid = int(group)
    elif group == "root":
        gid = 0
    elif group:
        groups = parse_group(read_file(root, b"etc/group"))
        match = next((entry for entry in groups if entry.name == group), None)
        if match is None:
            raise CopyError(
                f"unable to convert uid/gid chown string to host mapping: can't find gid for group {group}: no such group: {group}"
            )
        gid = match.gid
    return uid, 0 if gid is None else gid


def parse_mode(text: str) -> ModeChange | None:
    """`755`, or symbolic `u=rwX,go=rX`. Raises CopyError."""
    if not text:
        return None
    if _OCTAL.fullmatch(text):
        fixed = int(text, 8) & 0o7777
        return lambda _mode, _is_directory: fixed
    clauses = [_parse_clause(part, text) for part in text.split(",")]

    def apply(mode: int, is_directory: bool) -> int:  # noqa: FBT001 - the shape of the result
        for clause in clauses:
            mode = clause(mode, is_directory)
        return mode

    return apply


def folder_mode(text: str) -> int:
    """The mode of the directories that COPY --chmod makes on its way: as BuildKit, umask and all."""
    return int(text, 8) & 0o777 & ~_UMASK if _OCTAL.fullmatch(text) else FOLDER_MODE


def _parse_clause(part: str, text: str) -> ModeChange:
    match = _CLAUSE.fullmatch(part)
    if match is None:
        raise CopyError(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        )
    who, operator, what = match.groups()
    who = "ugo" if not who or "a" in who else who
    shifts = [_SHIFTS[char] for char in who]

    def find_bits(mode: int, is_directory: bool) -> int:  # noqa: FBT001 - the shape of the result
        bits = 0
        for char in what:
            if char in _SHIFTS:
                bits |= sum((mode >> _SHIFTS[char] & 7) << shift for shift in shifts)
            elif char == "s":
                bits |= sum(_SPECIAL.get(whose, 0) for whose in who)
            elif char == "t":
                bits |= 0o1000
            elif char != "X" or is_directory or mode & 0o111:
                bits |= sum(_VALUES[char] << shift for shift in shifts)
        return bits

    def apply(mode: int, is_directory: bool) -> int:  # noqa: FBT001 - the shape of the result
        bits = find_bits(mode, is_directory)
        if operator == "+":
            return mode | bits
        if operator == "-":
            return mode & ~bits
        cleared = sum(7 << shift for shift in shifts)
        if what not in _SHIFTS:  # a copied class leaves set-user-id and set-group-id
            cleared |= sum(_SPECIAL.get(whose, 0) for whose in who)
        return (mode & ~cleared) | bits

    return apply
