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

_RED, _PLAIN = "\x1b[91m", "\x1b[0m"  # around what a step says on its standard error


@dataclass(slots=True)
class _Step:
    header: str
    lines: list[str] = field(default_factory=list)
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
            return [event.text]
        self._note(event)
        return self._flush()

    def finish(self) -> list[str]:
        """What was kept back, after a failure: steps that had begun."""
        texts: list[str] = []
        for step in self._steps[self._current :]:
            if step.started:
                texts.extend(step.lines)
        self._current = len(self._steps)
        return texts

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
            text = event.data.decode(errors="replace")
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
            if event.short_id is not None:
                step.lines.append(f" ---> {event.short_id}\n")
            step.done = True

    def _flush(self) -> list[str]:
        texts: list[str] = []
        while self._current < len(self._steps):
            step = self._steps[self._current]
            texts.extend(step.lines)
            step.lines.clear()
            if not step.done:
                break
            self._current += 1
        return texts
