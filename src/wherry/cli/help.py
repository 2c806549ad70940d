"""--help of the program, its groups and its verbs, laid out as Docker's (pflag's) help is."""

from __future__ import annotations

import sys

from wherry.cli.output import line_out, write_error, write_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wherry.cli.command import HelpWanted, Option, Verb

ORPHAN_SLACK = 5  # a line may be longer by so much rather than leave one short word
NARROWEST = 24


def show_verb(path: str, verb: Verb, wanted: HelpWanted) -> int:
    """The help of a verb."""
    if wanted.deprecated_short:
        line_out("Flag shorthand -h has been deprecated, use --help")
    parts = [f"Usage:  wherry {path}{verb.usage and ' ' + verb.usage}\n\n"]
    parts.append(f"{verb.description or _summary_of(path)}\n")
    if verb.aliases:
        names = ", ".join(f"wherry {name}" for name in verb.aliases.split(", "))
        parts.append(f"\nAliases:\n  {names}\n")
    if verb.options:
        parts.append(f"\nOptions:\n{lay_out_options(verb.options, terminal_width() - 1)}")
    write_out("".join(parts))
    return 0


def show_group(
    name: str, summary: str, verbs: Mapping[str, tuple[str, str]], *, as_error: bool
) -> None:
    """The help of a group of verbs; on standard error if it was not asked for."""
    write = write_error if as_error else write_out
    write(
        f"Usage:  wherry {name} COMMAND\n\n{summary}\n\nCommands:\n{_lay_out_verbs(verbs)}\n"
        f"Run 'wherry {name} COMMAND --help' for more information on a command.\n"
    )


def show_program(options: Sequence[Option]) -> None:
    """The help of the program."""
    from wherry.cli.commands import COMMON, GROUPS, OTHERS

    groups = {name: ("", summary) for name, (_, summary) in GROUPS.items()}
    write_out(
        "Usage:  wherry [OPTIONS] COMMAND\n\nA self-sufficient runtime for containers\n\n"
        f"Common Commands:\n{_lay_out_verbs(COMMON)}\n"
        f"Management Commands:\n{_lay_out_verbs(groups)}\n"
        f"Commands:\n{_lay_out_verbs(OTHERS)}\n"
        f"Global Options:\n{lay_out_options(options, terminal_width() - 1)}\n"
        "Run 'wherry COMMAND --help' for more information on a command.\n"
    )


def show_version() -> None:
    """The line of --version."""
    from wherry.cli.version import BUILD, VERSION

    write_out(f"wherry version {VERSION}, build {BUILD}\n")


def terminal_width() -> int:
    """The width of the terminal on standard input, else 80."""
    import fcntl
    import termios

    try:
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
    except OSError:
        return 80
    return int.from_bytes(size[2:4], sys.byteorder) or 80


def lay_out_options(options: Sequence[Option], width: int) -> str:
    """The lines of the options, aligned and wrapped."""
    rows = []
    for name, short, kind, default, text in sorted(options):
        if not text:
            continue
        left = f"  -{short}, --{name}" if short else f"      --{name}"
        if kind != "bool":
            left += f" {kind}"
        rows.append((left, f"{text} (default {default})" if default else text))
    column = max(len(left) for left, _ in rows) + 3
    return "".join(f"{left:{column}}{wrap(column, width, text)}\n" for left, text in rows)


def wrap(indent: int, width: int, text: str) -> str:
    """`text` in lines that start at `indent` and end before `width`."""
    prefix = ""
    room = width - indent
    if room < NARROWEST:
        indent = 16
        room = width - indent
        prefix = "\n" + " " * indent
    if room < NARROWEST:
        return text.replace("\n", prefix)
    room -= ORPHAN_SLACK
    gap = "\n" + " " * indent
    line, rest = _cut(room, text)
    lines = [line.replace("\n", gap)]
    while rest:
        line, rest = _cut(room, rest)
        lines.append(line.replace("\n", gap))
    return prefix + gap.join(lines)


def _cut(room: int, text: str) -> tuple[str, str]:
    if room + ORPHAN_SLACK > len(text):
        return text, ""
    head = text[:room]
    at = max(head.rfind(" "), head.rfind("\t"), head.rfind("\n"))
    if at <= 0:
        return text, ""
    newline = head.rfind("\n")
    if 0 < newline < at:
        at = newline
    return text[:at], text[at + 1 :]


def _lay_out_verbs(verbs: Mapping[str, tuple[str, str]]) -> str:
    column = max(11, max(len(name) for name in verbs) + 1)
    return "".join(f"  {name:{column}} {summary}\n" for name, (_, summary) in verbs.items())


def _summary_of(path: str) -> str:
    from wherry.cli.commands import COMMON, GROUPS, OTHERS

    group, _, name = path.partition(" ")
    if name:
        return GROUPS[group][0][name][1]
    return (COMMON.get(group) or OTHERS[group])[1]
