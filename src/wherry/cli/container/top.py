"""wherry top."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.output import write_out
from wherry.client.document import list_of, strings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

CELL = 20
PADDING = 3


def run(session: Session, arguments: Arguments) -> int:
    """Shows the processes of a container."""
    answer = session.client.containers.top(
        arguments.positional[0], " ".join(arguments.positional[1:])
    )
    rows = [strings_of(answer, "Titles")]
    rows += [
        [cell for cell in process if isinstance(cell, str)]
        for process in list_of(answer, "Processes")
        if isinstance(process, list)
    ]
    columns = max(len(row) for row in rows) - 1
    widths = [
        max(CELL, *(len(row[at]) + PADDING for row in rows if len(row) > at))
        for at in range(columns)
    ]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        write_out("".join(cells) + (row[-1] if row else "") + "\n")
    return 0


VERB = Verb(
    run,
    usage="CONTAINER [ps OPTIONS]",
    aliases="container top, top",
    minimum=1,
    interspersed=False,
)
