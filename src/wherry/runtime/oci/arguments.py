"""The command line: a table of options per command, read the way Go's flag packages do."""

from __future__ import annotations

from collections.abc import Sequence


class UsageError(Exception):
    """A command line that means nothing."""


FLAG, VALUE, LIST = "flag", "value", "list"
Table = dict[str, str]

GLOBAL: Table = {
    "root": VALUE,
    "log": VALUE,
    "log-format": VALUE,
    "rootless": VALUE,
    "criu": VALUE,
    "debug": FLAG,
    "systemd-cgroup": FLAG,
    "version": FLAG,
    "help": FLAG,
}
_CREATE: Table = {
    "bundle": VALUE,
    "console-socket": VALUE,
    "pid-file": VALUE,
    "preserve-fds": VALUE,
    "no-pivot": FLAG,
    "no-new-keyring": FLAG,
}
COMMANDS: dict[str, Table] = {
    "create": _CREATE,
    "run": _CREATE | {"detach": FLAG, "keep": FLAG, "no-subreaper": FLAG},
    "start": {},
    "state": {},
    "kill": {"all": FLAG},
    "delete": {"force": FLAG},
    "exec": {
        "process": VALUE,
        "console-socket": VALUE,
        "pid-file": VALUE,
        "cwd": VALUE,
        "env": LIST,
        "user": VALUE,
        "additional-gids": LIST,
        "cap": LIST,
        "cgroup": VALUE,
        "preserve-fds": VALUE,
        "apparmor": VALUE,
        "process-label": VALUE,
        "tty": FLAG,
        "detach": FLAG,
        "no-new-privs": FLAG,
        "ignore-paused": FLAG,
    },
    "ps": {"format": VALUE},
    "list": {"format": VALUE, "quiet": FLAG},
    "pause": {},
    "resume": {},
    "update": {
        "resources": VALUE,
        "memory": VALUE,
        "memory-swap": VALUE,
        "memory-reservation": VALUE,
        "cpu-share": VALUE,
        "cpu-shares": VALUE,
        "cpu-quota": VALUE,
        "cpu-period": VALUE,
        "cpuset-cpus": VALUE,
        "cpuset-mems": VALUE,
        "pids-limit": VALUE,
        "blkio-weight": VALUE,
    },
    "events": {"interval": VALUE, "stats": FLAG},
    "spec": {"bundle": VALUE, "rootless": FLAG},
    "features": {},
}
_SHORT = {
    "b": "bundle",
    "d": "detach",
    "f": "force",
    "p": "process",
    "t": "tty",
    "e": "env",
    "u": "user",
    "c": "cap",
    "g": "additional-gids",
    "q": "quiet",
    "a": "all",
    "r": "resources",
    "v": "version",
    "h": "help",
}
_SHORT_OF_COMMAND = {("list", "f"): "format", ("ps", "f"): "format"}


class Arguments:
    """One parsed level: options by name, and what is left."""

    __slots__ = ("flags", "lists", "rest", "values")

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.rest: list[str] = []

    def value(self, name: str, default: str = "") -> str:
        """A value option, or its default."""
        return self.values.get(name, default)

    def number(self, name: str) -> int | None:
        """A value option as a number."""
        text = self.values.get(name)
        if text is None:
            return None
        if not text.lstrip("-").isdigit():
            raise UsageError(f"--{name}: {text!r} is not a number")
        return int(text)


def parse_options(words: Sequence[str], table: Table, command: str = "") -> Arguments:
    """Options up to the first word that is none; everything from there on is `rest`."""
    parsed = Arguments()
    index = 0
    while index < len(words):
        word = words[index]
        if word == "--":
            index += 1
            break
        if not word.startswith("-") or word == "-":
            break
        index += 1
        name, equals, value = word.lstrip("-").partition("=")
        if len(name) == 1:
            name = _SHORT_OF_COMMAND.get((command, name)) or _SHORT.get(name, name)
        kind = table.get(name)
        if kind is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if kind == FLAG:
            if not equals or value.lower() not in {"false", "0"}:
                parsed.flags.add(name)
            continue
        if not equals:
            if index == len(words):
                raise UsageError(f"flag needs an argument: -{name}")
            value = words[index]
            index += 1
        if kind == LIST:
            parsed.lists.setdefault(name, []).append(value)
        else:
            parsed.values[name] = value
    parsed.rest = list(words[index:])
    return parsed
