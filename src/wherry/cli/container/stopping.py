"""What `wherry stop` and `wherry restart` share: how long a container has to end, and by which signal."""

from __future__ import annotations

from wherry.cli.each import for_each
from wherry.cli.output import line_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from wherry.cli.command import Arguments

    class Stop(Protocol):
        """A call of the client."""

        def __call__(self, ref: str, *, timeout_s: int | None, signal: str) -> None: ...


OPTIONS = (
    ("signal", "s", "string", "", "Signal to send to the container"),
    ("timeout", "t", "int", "", "Seconds to wait before killing the container"),
    ("time", "", "int", "", ""),
)


def stop_each(arguments: Arguments, stop: Stop) -> int:
    """Calls `stop` for each container that is named."""
    timeout_s = arguments.number("timeout") if "timeout" in arguments.changed else None
    if "time" in arguments.changed:
        line_out("Flag --time has been deprecated, use --timeout instead")
        timeout_s = arguments.number("time")
    signal = arguments.text("signal")
    return for_each(
        arguments.positional,
        lambda container: stop(container, timeout_s=timeout_s, signal=signal),
    )
