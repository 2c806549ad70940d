"""Progress of a build: by step from a wherry engine, as a text stream from any other.

On a terminal a step that runs is a line with its running time and the tail of its output below; when
it is done one line of it stays. Elsewhere every line of output is written with its step's number.
"""

from __future__ import annotations

import os
import time

from wherry.cli.errors import CommandFailed
from wherry.cli.output import is_terminal, write_error, write_out
from wherry.client.document import (
    encode,
    flag_of,
    mapping_of,
    number_of,
    strings_of,
    text_of,
)
from wherry.client.errors import ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterable

    from wherry.client.document import Document, Json
else:
    import _signal

TAIL_LINES = 6
REDRAW_S = 0.1
TICK_S = 0.2


class Step:
    """One step of the plan."""

    __slots__ = ("cached", "error", "finished", "name", "number", "partial", "started", "tail")

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.started = 0.0
        self.finished = 0.0
        self.cached = False
        self.error = ""
        self.partial = ""
        self.tail: list[str] = []

    def seconds(self) -> float:
        """How long it has run."""
        return (self.finished or time.monotonic()) - self.started if self.started else 0.0


class Progress:
    """Follows the stream of a build. Subclasses show what happens; this one shows nothing."""

    def __init__(self) -> None:
        self.steps: dict[int, Step] = {}
        self.result: Document = {}
        self.hint = ""

    def follow(self, records: Iterable[Document]) -> None:
        """Reads to the end; raises CommandFailed for a build that failed."""
        try:
            for record in records:
                self._take(record)
        except ConnectionLost as exc:
            raise CommandFailed(f"the engine has gone before the build ended: {exc}") from exc
        finally:
            self.close()

    def _take(self, record: Document) -> None:
        if "errorDetail" in record or "error" in record:
            self.close()
            self._fail(record)
        if "aux" in record:
            self.result = {**self.result, **mapping_of(record, "aux")}
        elif "stream" in record:
            text = text_of(record, "stream")
            if text.startswith("sha256:"):
                # All that a classic engine says with q=1.
                self.result.setdefault("ID", text.strip())
            self.show_text(text)
        elif "plan" in record:
            names = strings_of(mapping_of(record, "plan"), "names")
            self.steps = {number: Step(number, name) for number, name in enumerate(names)}
        elif "started" in record:
            event = mapping_of(record, "started")
            step = self._step(event)
            step.started = time.monotonic()
            step.cached = flag_of(event, "cached")
            self.show_started(step)
        elif "output" in record:
            event = mapping_of(record, "output")
            self._take_output(self._step(event), text_of(event, "text"))
        elif "done" in record:
            event = mapping_of(record, "done")
            step = self._step(event)
            step.finished = time.monotonic()
            step.cached = step.cached or flag_of(event, "cached")
            step.error = text_of(event, "error")
            self._take_output(step, "\n" if step.partial else "")
            self.show_done(step)
        else:
            self.show_status(record)

    def _step(self, event: Document) -> Step:
        number = number_of(event, "number")
        return self.steps.setdefault(number, Step(number, f"step {number + 1}"))

    def _take_output(self, step: Step, text: str) -> None:
        lines = (step.partial + text).split("\n")
        step.partial = lines.pop()
        for line in lines:
            shown = line.rpartition("\r")[2] if not line.endswith("\r") else line.rstrip("\r")
            step.tail = [*step.tail[-TAIL_LINES + 1 :], shown]
            self.show_line(step, shown)

    def _fail(self, record: Document) -> None:
        detail = mapping_of(record, "errorDetail")
        message = text_of(detail, "message") or text_of(record, "error")
        self.hint = text_of(detail, "hint")
        parts = []
        tail = text_of(detail, "tail")
        if tail:
            parts.append(f"------\n{tail.rstrip()}\n------")
        excerpt = text_of(detail, "excerpt")
        if excerpt:
            parts.append(excerpt.rstrip())
        if "excerpt" in detail or "tail" in detail:
            parts.append(f"ERROR: {message}")
            if self.hint:
                parts.append(f"\nTo look around in the state before that step: {self.hint}")
            raise CommandFailed("\n".join(parts))
        raise CommandFailed(message, number_of(detail, "code") or 1)

    def show_text(self, text: str) -> None:
        """A line that belongs to no step."""

    def show_status(self, record: Document) -> None:
        """A pull inside a classic build."""

    def show_started(self, step: Step) -> None:
        """A step begins."""

    def show_line(self, step: Step, line: str) -> None:
        """A line of output of a step."""

    def show_done(self, step: Step) -> None:
        """A step has ended."""

    def close(self) -> None:
        """Nothing more is shown."""


class PlainProgress(Progress):
    """Lines with the number of their step, on standard error; text of a classic engine as it is."""

    def show_text(self, text: str) -> None:
        """As it is."""
        (write_error if self.steps else write_out)(text)

    def show_status(self, record: Document) -> None:
        """`id: status`."""
        identity = text_of(record, "id")
        if not mapping_of(record, "progressDetail"):
            write_out(
                f"{identity}: {text_of(record, 'status')}\n"
                if identity
                else f"{text_of(record, 'status')}\n"
            )

    def show_started(self, step: Step) -> None:
        """The step's name."""
        write_error(f"#{step.number + 1} {step.name}\n")

    def show_line(self, step: Step, line: str) -> None:
        """With the time since the step began."""
        write_error(f"#{step.number + 1} {step.seconds():.3f} {line}\n")

    def show_done(self, step: Step) -> None:
        """DONE, CACHED or ERROR."""
        if step.error:
            write_error(f"#{step.number + 1} ERROR: {step.error}\n\n")
        elif step.cached:
            write_error(f"#{step.number + 1} CACHED\n\n")
        else:
            write_error(f"#{step.number + 1} DONE {step.seconds():.1f}s\n\n")


class LiveProgress(PlainProgress):
    """A block of running steps at the end of the screen, redrawn in place."""

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[int, Step] = {}
        self._drawn = 0
        self._last = 0.0
        self._width = _width()
        self._busy = False

    def follow(self, records: Iterable[Document]) -> None:
        """With a tick, so that running times go on while a step is silent."""
        _signal.signal(_signal.SIGALRM, self._tick)
        _signal.setitimer(_signal.ITIMER_REAL, TICK_S, TICK_S)
        try:
            super().follow(records)
        finally:
            _signal.setitimer(_signal.ITIMER_REAL, 0)

    def _tick(self, _number: int, _frame: object) -> None:
        # The handler runs between two steps of the main program, which may be drawing.
        if not self._busy:
            self._width = _width()
            self._refresh(force=False)

    def _take(self, record: Document) -> None:
        self._busy = True
        try:
            super()._take(record)
        finally:
            self._busy = False

    def show_text(self, text: str) -> None:
        """Above the block."""
        self._erase()
        super().show_text(text)
        self._draw()

    def show_started(self, step: Step) -> None:
        """Joins the block."""
        self._running[step.number] = step
        self._refresh(force=True)

    def show_line(self, step: Step, line: str) -> None:
        """Only the tail is shown."""
        del step, line
        self._refresh(force=False)

    def show_done(self, step: Step) -> None:
        """Leaves the block; one line stays."""
        self._running.pop(step.number, None)
        self._erase()
        mark = "CACHED " if step.cached else "ERROR " if step.error else ""
        write_error(self._line(f"=> {mark}{step.name}", step) + "\n")
        self._draw()

    def close(self) -> None:
        """What still runs is left as it was last seen."""
        self._erase()
        for step in self._running.values():
            write_error(self._line(f"=> {step.name}", step) + "\n")
        self._running = {}

    def _refresh(self, *, force: bool) -> None:
        now = time.monotonic()
        if force or now - self._last >= REDRAW_S:
            self._last = now
            self._erase()
            self._draw()

    def _erase(self) -> None:
        if self._drawn:
            write_error(f"\x1b[{self._drawn}A\r\x1b[J")
            self._drawn = 0

    def _draw(self) -> None:
        lines = []
        for step in self._running.values():
            lines.append(self._line(f"=> {step.name}", step))
            lines += [f"\x1b[2m=> => # {_clip(line, self._width - 9)}\x1b[0m" for line in step.tail]
        if lines:
            write_error("\n".join(lines) + "\n")
            self._drawn = len(lines)

    def _line(self, text: str, step: Step) -> str:
        seconds = f"{step.seconds():.1f}s"
        room = self._width - len(seconds) - 1
        return f"{_clip(text, room):{room}} {seconds}"


class RawProgress(Progress):
    """Every change as a line of JSON in BuildKit's form (client/graph.go of moby/buildkit), on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._times: dict[int, dict[str, str]] = {}

    def _take(self, record: Document) -> None:
        super()._take(record)
        if "plan" in record:
            vertexes: list[Json] = [self._vertex(step) for step in self.steps.values()]
            self._write("vertexes", vertexes)
        elif "output" in record:
            event = mapping_of(record, "output")
            log: Document = {
                "vertex": _digest_of(self._step(event)),
                "stream": number_of(event, "stream"),
                "data": _encode_base64(text_of(event, "text")),
                "timestamp": _now(),
            }
            self._write("logs", [log])

    def show_started(self, step: Step) -> None:
        """With its time."""
        self._times[step.number] = {"started": _now()}
        self._write("vertexes", [self._vertex(step)])

    def show_done(self, step: Step) -> None:
        """With both times."""
        self._times.setdefault(step.number, {"started": _now()})["completed"] = _now()
        self._write("vertexes", [self._vertex(step)])

    def _vertex(self, step: Step) -> Document:
        vertex: dict[str, Json] = {"digest": _digest_of(step), "name": step.name}
        vertex.update(self._times.get(step.number, {}))
        if step.cached:
            vertex["cached"] = True
        if step.error:
            vertex["error"] = step.error
        return vertex

    @staticmethod
    def _write(kind: str, items: list[Json]) -> None:
        write_error(encode({kind: items}) + "\n")


def _digest_of(step: Step) -> str:
    import hashlib

    return "sha256:" + hashlib.sha256(f"{step.number} {step.name}".encode()).hexdigest()


def _encode_base64(text: str) -> str:
    import binascii

    return str(binascii.b2a_base64(text.encode(), newline=False), "ascii")


def _now() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09}Z"


def make_progress(kind: str, *, quiet: bool) -> Progress:
    """The progress of a kind; auto is live on a terminal."""
    if quiet:
        return Progress()
    if kind == "rawjson":
        return RawProgress()
    if kind == "tty" or (kind == "auto" and is_terminal(2)):
        return LiveProgress()
    return PlainProgress()


def _width() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def _clip(text: str, width: int) -> str:
    text = "".join(c if c.isprintable() else " " for c in text.expandtabs(8))
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
