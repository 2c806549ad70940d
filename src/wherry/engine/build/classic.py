"""Progress as the classic builder prints it: steps in the order of the Dockerfile, whatever ran beside what.

`Step 1/3 : FROM x`, ` ---> Running in …`, ` ---> Using cache`, ` ---> <id>`. A step whose turn has not come
is kept back; the one whose turn it is shows its output as it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wherry.engine.build.records import (
    Notice,
    Planned,
    StepEvent,
    StepOutput,
    StepStarted,
)

MAX_KEPT_BYTES = 16 << 20
CLIPPED = b"\n[output clipped: more than can be kept until it is read]\n"
_EVENT_BYTES = 256  # what an event costs beside its data
_RED, _PLAIN = "\x1b[91m", "\x1b[0m"  # around what a step says on its standard error


class OutputLimit:
    """Bounds what is kept of steps' output until somebody takes it: what is too much is left out, with a word."""

    def __init__(self, limit_bytes: int = MAX_KEPT_BYTES) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._is_clipping = False

    def admit(self, data: bytes) -> bytes:
        """What of a piece is to be kept: all, the word, or nothing."""
        if self._is_clipping and self._size > self._limit // 2:
            return b""
        self._is_clipping = self._size + cost_of(data) > self._limit
        kept = CLIPPED if self._is_clipping else data
        self._size += cost_of(kept)
        return kept

    def release(self, size_bytes: int) -> None:
        """The costs of pieces that were taken."""
        self._size -= size_bytes


def cost_of(data: bytes) -> int:
    """What a piece of output costs as long as it is kept, in bytes."""
    return len(data) + _EVENT_BYTES


@dataclass(slots=True)
class _Step:
    header: str
    lines: list[str] = field(default_factory=list)
    kept_bytes: int = 0
    container: str = ""
    started: bool = False
    done: bool = False


class ClassicText:
    """Turns events into texts, in order."""

    def __init__(self, *, removes: bool = True) -> None:
        """`removes` = containers of steps are said to be removed."""
        self._removes = removes
        self._steps: list[_Step] = []
        self._current = 0
        self._notices: list[str] = []  # that come after the last step's line
        self._kept = OutputLimit()

    def feed(self, event: Planned | StepEvent | Notice) -> list[str]:
        """The texts to print now."""
        if isinstance(event, Planned):
            total = len(event.classic)
            self._steps = [
                _Step(f"Step {number}/{total} : {text}")
                for number, text in enumerate(event.classic, 1)
            ]
            return []
        if isinstance(event, Notice):
            if self._steps and self._current == len(self._steps):
                self._notices.append(event.text)
                return []
            return [event.text]
        self._note(event)
        return self._flush()

    def end(self, image_id: str) -> tuple[str, list[str]]:
        """The last step's line, which names the image, and the texts after it."""
        short = image_id.partition(":")[2][:12]
        return f" ---> {short}\n", [*self._notices, f"Successfully built {short}\n"]

    def finish(self) -> list[str]:
        """What was kept back, after a failure: steps that had begun."""
        texts: list[str] = []
        for step in self._steps[self._current :]:
            if step.started:
                texts.extend(step.lines)
        self._current = len(self._steps)
        return [*texts, *self._notices]

    def _note(self, event: StepEvent) -> None:
        if not 0 <= event.number < len(self._steps):
            return
        step = self._steps[event.number]
        if not step.started:
            step.started = True
            step.lines += [
                step.header,
                "\n",
            ]  # two writes, as dockerd's: programs compare the first
        if isinstance(event, StepStarted):
            if event.container:
                step.container = event.container[:12]
                step.lines.append(f" ---> Running in {step.container}\n")
        elif isinstance(event, StepOutput):
            data = event.data
            if event.number > self._current:
                data = self._kept.admit(data)
                step.kept_bytes += cost_of(data) if data else 0
            text = data.decode(errors="replace")
            step.lines.append(f"{_RED}{text}{_PLAIN}" if event.stream == 2 else text)
        else:
            if event.error:
                return
            if event.cached:
                step.lines.append(" ---> Using cache\n")
            elif step.container and self._removes:
                step.lines.append(f" ---> Removed intermediate container {step.container}\n")
            step.container = ""
            if event.continues:
                return
            # The state after the last step is the image, whose id is known when it has been made.
            if event.short_id is not None and step is not self._steps[-1]:
                step.lines.append(f" ---> {event.short_id}\n")
            step.done = True

    def _flush(self) -> list[str]:
        texts: list[str] = []
        while self._current < len(self._steps):
            step = self._steps[self._current]
            texts.extend(step.lines)
            step.lines.clear()
            self._kept.release(step.kept_bytes)
            step.kept_bytes = 0
            if not step.done:
                break
            self._current += 1
        return texts
