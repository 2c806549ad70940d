"""What can go wrong in the runtime, as values: `SpecError` before anything is done, `LaunchError` after.

    LaunchError(step, object, errno, message)

is init's record, rebuilt by the parent. `step` names the plan's step ("user", "mount", "exec", ...),
`object` what it worked on, `errno` may be 0, `message` is a sentence without the step. Their meaning for
Docker's clients is decided by the engine.
"""

from __future__ import annotations

import errno as _errno
import os


class SpecError(ValueError):
    """A configuration that cannot work: where in the document, and why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


class StepError(Exception):
    """Raised by a step that knows a better sentence than an OSError's; `step` renames the step."""

    def __init__(self, subject: str, message: str, number: int = 0, *, step: str = "") -> None:
        super().__init__(message)
        self.subject = subject
        self.errno = number
        self.step = step


class LaunchError(Exception):
    """A container's or exec's process could not be started; nothing of it is left."""

    def __init__(self, step: str, subject: str, number: int, message: str) -> None:
        super().__init__(f"{step} {subject}: {message}" if subject else f"{step}: {message}")
        self.step = step
        self.object = subject
        self.errno = number
        self.message = message

    def encode(self) -> bytes:
        """The record as it crosses the report pipe."""
        fields = (self.step, self.object, str(self.errno), self.message)
        return b"\0".join(
            field.replace("\0", " ").encode("utf-8", "surrogateescape") for field in fields
        )

    @classmethod
    def decode(cls, record: bytes) -> LaunchError:
        """The inverse of `encode`; tolerates a torn record."""
        fields = [field.decode("utf-8", "replace") for field in record.split(b"\0", 3)]
        if len(fields) == 4 and fields[2].lstrip("-").isdigit():
            return cls(fields[0], fields[1], int(fields[2]), fields[3])
        return cls("init", "", 0, f"broken record {record!r}")


def describe_exception(error: BaseException) -> tuple[str, int, str]:
    """Object, errno and sentence of any exception, without importing anything."""
    if isinstance(error, StepError):
        return error.subject, error.errno, str(error)
    if isinstance(error, SpecError):
        return error.path, 0, error.why
    if isinstance(error, OSError):
        subject = "" if error.filename is None else str(error.filename)
        return subject, error.errno or 0, str(error.strerror or error)
    where = ""
    trace = error.__traceback__
    while trace is not None:
        where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return "", 0, f"{type(error).__name__}: {error}{where}"


def reason(number: int) -> str:
    """strerror as Go spells it, all in lower case: clients look for these words."""
    special = {_errno.ENOEXEC: "exec format error", _errno.EPERM: "operation not permitted"}
    return special.get(number) or os.strerror(number).lower()
