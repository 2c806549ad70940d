"""Signals as users write them: `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3` (moby/sys/signal)."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from wherry.model.errors import InvalidArgument

_RTMIN = int(signal.SIGRTMIN)
_RTMAX = int(signal.SIGRTMAX)
_MIDDLE = (_RTMIN + _RTMAX) // 2

SIGNALS: dict[str, int] = {
    **{
        member.name.removeprefix("SIG"): int(member)
        for member in signal.Signals
        if member.name not in {"SIGRTMIN", "SIGRTMAX"}
    },
    "CLD": int(signal.SIGCHLD),
    "IOT": int(signal.SIGABRT),
    "POLL": int(signal.SIGIO),
    "STKFLT": 16,
    "UNUSED": int(signal.SIGSYS),
    "RTMIN": _RTMIN,
    "RTMAX": _RTMAX,
    **{f"RTMIN+{n}": _RTMIN + n for n in range(1, _MIDDLE - _RTMIN + 1)},
    **{f"RTMAX-{n}": _RTMAX - n for n in range(1, _RTMAX - _MIDDLE)},
}
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
_NUMBERS = frozenset(SIGNALS.values())


class InvalidSignal(InvalidArgument):
    """The text names no signal."""

    def __init__(self, text: str) -> None:
        super().__init__(f"invalid signal: {text}")


def parse_signal(text: str) -> int:
    """The signal's number; any number but 0 is let through. Raises InvalidSignal."""
    if _NUMBER.fullmatch(text):
        number = int(text)
        if number == 0:
            raise InvalidSignal(text)
        return number
    number = SIGNALS.get(text.upper().removeprefix("SIG"), 0)
    if not number:
        raise InvalidSignal(text)
    return number


def has_plans(pid: int, number: int) -> bool:
    """Whether a process catches, blocks or ignores a signal; also when it has ended. Blocking, briefly."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    masks = re.findall(r"^Sig(?:Blk|Ign|Cgt):\s*([0-9a-f]+)$", status, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def is_supported(number: int) -> bool:
    """Whether this kernel has the signal."""
    return number in _NUMBERS
