"""What can go wrong between a client and the engine.

    ClientError
    ├── ApiError          the engine answered with an error status
    ├── CannotConnect     nothing answers at the address
    ├── ConnectionLost    the connection ended in the middle of an answer
    └── InvalidAddress    the address of the engine cannot be understood

`str(error)` is the sentence that Docker's client prints for the same case, without its prefix.
"""

from __future__ import annotations

# ENOENT, ECONNREFUSED
NOBODY_THERE = frozenset({2, 111})


class ClientError(Exception):
    """Base of all errors of this package."""


class ApiError(ClientError):
    """The engine answered with an error status; the message is the engine's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class CannotConnect(ClientError):
    """Nothing answers at the address."""

    def __init__(self, address: str, reason: OSError | None = None) -> None:
        self.address = address
        self.reason = reason
        if reason is not None and reason.errno == 13:
            path = address.removeprefix("unix://")
            sentence = (
                "permission denied while trying to connect to the wherry daemon socket at "
                f"{address}: dial unix {path}: connect: permission denied"
            )
        elif reason is not None and reason.errno not in NOBODY_THERE:
            sentence = f"error during connect: {address}: {reason.strerror or reason}"
        else:
            sentence = (
                f"Cannot connect to the wherry daemon at {address}. Is the wherry daemon running?"
            )
        super().__init__(sentence)


class ConnectionLost(ClientError):
    """The connection ended in the middle of an answer."""


class InvalidAddress(ClientError):
    """The address of the engine cannot be understood."""
