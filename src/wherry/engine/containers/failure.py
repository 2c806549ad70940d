"""Why a program did not start: init's record (step, object, errno) as Docker's sentence and exit code.

The official client greps these sentences to choose its exit code (docker/cli run.go: 127 for
"executable file not found" and "no such file or directory", 126 for "permission denied" and
"is a directory", else 125), and monitoring tools read them: the words are runc's.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol

from wherry.model.errors import StartFailed

_CREATE = (
    "failed to create task for container: failed to create shim task: "
    "OCI runtime create failed: runc create failed: "
)
_INIT = "unable to start container process: error during container init: "
_EXEC = "OCI runtime exec failed: exec failed: "
_EXEC_INIT = "unable to start container process: "

NOT_FOUND = 127
NOT_EXECUTABLE = 126
SET_UP_FAILED = 128


class LaunchFailure(Protocol):
    """What a shim or init reports; `engine.shims.ShimLaunchError` is one."""

    step: str
    object: str
    errno: int
    detail: str


# What moby adds to every "not a directory" of its runtime (daemon/errors.go).
_ONTO = (
    ": Are you trying to mount a directory onto a file (or vice-versa)?"
    " Check if the specified host path exists and is the expected type"
)


def container_failure(failure: LaunchFailure) -> StartFailed:
    """For a container's start."""
    sentence, code, plain = _describe(failure)
    return StartFailed(sentence if plain else _CREATE + _INIT + sentence, code)


def exec_failure(failure: LaunchFailure) -> StartFailed:
    """For an exec's start."""
    sentence, code, plain = _describe(failure)
    return StartFailed(sentence if plain else _EXEC + _EXEC_INIT + sentence, code)


def exec_refusal(sentence: str) -> StartFailed:
    """An exec that runc refuses before it makes a process."""
    return StartFailed(_EXEC + sentence, SET_UP_FAILED)


def missing_command(program: str) -> StartFailed:
    """An empty program name, which no search can find."""
    return StartFailed(
        f'{_CREATE}{_INIT}exec: "{program}": executable file not found in $PATH', NOT_FOUND
    )


def unsupported(sentence: str) -> StartFailed:
    """A specification that runc refuses before it makes a process."""
    return StartFailed(_CREATE + sentence, SET_UP_FAILED)


def _describe(failure: LaunchFailure) -> tuple[str, int, bool]:
    """Sentence, exit code, and whether the sentence stands alone."""
    if failure.step in {"user", "workdir"}:
        # Docker resolves users itself, before its runtime is asked.
        return failure.detail, SET_UP_FAILED, True
    # A step that knows a better sentence than the kernel's has written it, in runc's words.
    bare = os.strerror(failure.errno) if failure.errno else ""
    if failure.detail and failure.detail.lower() != bare.lower():
        # runc adds the errno that the client looks for: EISDIR is none of those it knows.
        is_folder = failure.step == "exec" and failure.errno == errno.EISDIR
        also = ": permission denied" if is_folder else ""
        if failure.errno == errno.ENOTDIR:
            also = _ONTO
        return failure.detail + also, _exit_code(failure.errno), False
    what = f"{failure.step} {failure.object}".strip()
    sentence = f"{what}: {bare.lower()}" if bare else what
    return sentence, _exit_code(failure.errno), False


def _exit_code(number: int) -> int:
    if number in {errno.ENOENT, errno.ENOTDIR}:
        return NOT_FOUND
    if number in {errno.EACCES, errno.EISDIR, errno.ENOEXEC}:
        return NOT_EXECUTABLE
    return SET_UP_FAILED
