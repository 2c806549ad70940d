"""Docker's JSON progress stream as text: live lines on a terminal, plain ones elsewhere."""

from __future__ import annotations

import os

from wherry.cli.errors import CommandFailed
from wherry.cli.output import is_terminal, write_all
from wherry.cli.units import human_size
from wherry.client.document import mapping_of, number_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wherry.client.document import Document

BAR = 50
WIDE = 110


def show_progress(
    records: Iterable[Document],
    out_fd: int = 1,
    *,
    quiet: bool = False,
    on_aux: Callable[[Document], None] | None = None,
) -> None:
    """Shows the records as they arrive; raises CommandFailed for an error among them."""
    lines: list[str] = []
    live = is_terminal(out_fd)
    width = _terminal_width(out_fd) if live else 0
    for record in records:
        error = mapping_of(record, "errorDetail")
        if error or "error" in record:
            code = number_of(error, "code")
            raise CommandFailed(text_of(error, "message") or text_of(record, "error"), code or 1)
        if "aux" in record:
            if on_aux is not None:
                on_aux(mapping_of(record, "aux"))
            continue
        if quiet:
            continue
        _show(record, lines, out_fd, live=live, width=width)


def _show(record: Document, lines: list[str], out_fd: int, *, live: bool, width: int) -> None:
    identity = text_of(record, "id")
    detail = mapping_of(record, "progressDetail")
    if not live:
        if "stream" in record:
            _write(out_fd, text_of(record, "stream"))
        elif not detail and not text_of(record, "progress"):
            prefix = f"{identity}: " if identity else ""
            _write(out_fd, f"{prefix}{text_of(record, 'status')}\n")
        return
    if "stream" in record:
        lines.clear()
        _write(out_fd, text_of(record, "stream"))
        return
    text = text_of(record, "status")
    bar = render_bar(detail, width)
    if not identity or (not bar and "progressDetail" not in record):
        # A line that stays: what is above it is not touched any more.
        lines.clear()
        prefix = f"{identity}: " if identity else ""
        _write(out_fd, f"{prefix}{text}{bar and ' ' + bar}\n")
        return
    line = f"{identity}: {text} {bar}"
    if width:
        # A line that wraps would spoil the counting of lines.
        line = line[: width - 1]
    if identity in lines:
        up = len(lines) - lines.index(identity)
        _write(out_fd, f"\x1b[{up}A\x1b[2K\r{line}\r\x1b[{up}B")
    else:
        lines.append(identity)
        _write(out_fd, f"{line}\n")


def render_bar(detail: Document, width: int) -> str:
    """`[=====>   ]  12.3MB/45.6MB`, or less if there is no room or no total."""
    current = number_of(detail, "current")
    total = number_of(detail, "total")
    if current <= 0 and total <= 0:
        return ""
    units = text_of(detail, "units")
    shown = f"{current} {units}" if units else human_size(current, 3)
    if total <= 0:
        return f"{shown:>8}"
    whole = f"{total} {units}" if units else human_size(total, 3)
    percent = min(current * 100 // total, 100) // 2
    bar = ""
    if width > WIDE:
        spaces = BAR - percent if percent < BAR else 0
        bar = f"[{'=' * percent}>{' ' * spaces}] "
    numbers = f"{shown:>8}/{whole}"
    if current > total:
        numbers = f"{shown:>8}"
    return bar + numbers


def _write(fd: int, text: str) -> None:
    write_all(fd, text.encode("utf-8", "surrogateescape"))


def _terminal_width(fd: int) -> int:
    try:
        return os.get_terminal_size(fd).columns
    except OSError:
        return 0
