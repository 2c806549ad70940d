"""What the record of a build keeps of its output: the beginning, without secrets."""

from __future__ import annotations

from wherry.engine.build.records import BuildEvent, Report, StepOutput

MAX_LOG_BYTES = 64 << 10
_MIN_SECRET = 4  # shorter lines are not told from other text


class BuildLog:
    """Passes events on and keeps the text of a build for its record."""

    def __init__(self, report: Report, secrets: tuple[bytes, ...]) -> None:
        self._report = report
        self._secrets = [value.strip() for value in secrets]
        self._parts: list[bytes] = []
        self._size = 0

    def report(self, event: BuildEvent) -> None:
        """One event."""
        if isinstance(event, StepOutput) and self._size < 2 * MAX_LOG_BYTES:
            self._parts.append(event.data)
            self._size += len(event.data)
        self._report(event)

    def text(self) -> str:
        """What was printed, without secrets: a step may have shown one, but it is not written down."""
        text = b"".join(self._parts)
        for value in filter(None, self._secrets):
            for line in (value, *value.splitlines()):
                text = text.replace(line, b"***") if len(line) >= _MIN_SECRET else text
        # Cut last: not in the middle of a secret.
        return text[:MAX_LOG_BYTES].decode(errors="replace")


def readable(text: str) -> str:
    """For a record: names of files in an error need not be UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
