"""wherry restart."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.each import for_each
from wherry.cli.output import line_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("signal", "s", "string", "", "Signal to send to the container"),
    ("timeout", "t", "int", "", "Seconds to wait before killing the container"),
    ("time", "", "int", "", ""),
)


def run(session: Session, arguments: Arguments) -> int:
    """Restarts containers."""
    timeout_s = arguments.number("timeout") if "timeout" in arguments.changed else None
    if "time" in arguments.changed:
        line_out("Flag --time has been deprecated, use --timeout instead")
        timeout_s = arguments.number("time")
    signal = arguments.text("signal")
    containers = session.client.containers
    return for_each(
        arguments.positional,
        lambda container: containers.restart(container, timeout_s=timeout_s, signal=signal),
    )


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    aliases="container restart, restart",
    options=OPTIONS,
    minimum=1,
)
