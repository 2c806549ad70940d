"""The error kinds, chosen by what the caller must do; each maps to one HTTP status and CLI exit code.

    EngineError
    ├── NotFound          the named thing does not exist                      404
    ├── InvalidArgument   the request can never work as it is                 400
    ├── Conflict          the thing is in a state that forbids it             409
    ├── NotModified       it is already so                                    304
    ├── Unauthorized      credentials are missing or wrong                    401
    ├── Forbidden         it is never allowed                                 403
    ├── Unavailable       try again later, or something outside is down       503
    ├── NotSupported      this engine or machine cannot do it                 501
    ├── Internal          the engine's own fault                              500
    └── StartFailed       the container's program could not be started        400 / 500

A concrete class owns its Docker-visible sentence, so that the wording exists once. Low levels raise
plain OSError; the seam that knows the meaning maps it (`raise NoSuchImage(ref) from exc`).
The mapping to statuses is one table in `wherry.api.errors`.
"""

from __future__ import annotations

import errno

FULL_DISK = frozenset((errno.ENOSPC, errno.EDQUOT))  # of a system's error


class EngineError(Exception):
    """Base of everything that the engine reports to a client; `str(error)` is the sentence."""


class NotFound(EngineError):
    """The named thing does not exist."""


class InvalidArgument(EngineError):
    """The request can never work as it is."""


class Conflict(EngineError):
    """The thing is in a state that forbids the request."""


class NotModified(EngineError):
    """The thing is already so; nothing was changed."""


class Unauthorized(EngineError):
    """Credentials are missing or wrong."""


class Forbidden(EngineError):
    """Never allowed."""


class Unavailable(EngineError):
    """Something outside is down, or the engine is busy; a later try may work."""


class NoSpace(Unavailable):
    """A full disk; of the system's error, what it adds to that."""

    def __init__(self, error: Exception) -> None:
        detail = str(error)
        if detail.startswith("[Errno "):
            detail = detail.partition(": ")[2].strip("'")
        super().__init__(
            f"no space left on device: {detail}" if detail else "no space left on device"
        )


class NotSupported(EngineError):
    """This engine or this machine cannot do it."""


class Internal(EngineError):
    """The engine's own fault."""


class StartFailed(EngineError):
    """A container's or exec's program could not be started.

    `exit_code` is 127 (not found), 126 (found, cannot be executed) or 128 (set-up failed), as Docker
    records it. The official client greps the sentence for "executable file not found",
    "no such file or directory", "permission denied" and "is a directory" to choose 127 or 126.
    """

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class NoSuchContainer(NotFound):
    """No container has this name or id."""

    def __init__(self, ref: str) -> None:
        super().__init__(f"No such container: {ref}")


class NoSuchExec(NotFound):
    """No exec has this id."""

    def __init__(self, exec_id: str) -> None:
        super().__init__(f"No such exec instance: {exec_id}")


class NoSuchImage(NotFound):
    """No image has this reference or id."""

    def __init__(self, ref: str) -> None:
        super().__init__(f"No such image: {ref}")


class NoSuchNetwork(NotFound):
    """No network has this name or id."""

    def __init__(self, ref: str) -> None:
        super().__init__(f"network {ref} not found")


class NoSuchVolume(NotFound):
    """No volume has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"get {name}: no such volume")


class NameInUse(Conflict):
    """Another container has this name."""

    def __init__(self, name: str, holder_id: str) -> None:
        super().__init__(
            f'Conflict. The container name "/{name}" is already in use by container "{holder_id}".'
            " You have to remove (or rename) that container to be able to reuse that name."
        )


class ContainerNotRunning(Conflict):
    """The request needs a running container."""

    def __init__(self, container_id: str) -> None:
        super().__init__(f"container {container_id} is not running")
