"""wherry diff."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.output import write_out
from wherry.client.document import number_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

KINDS = "CAD"


def run(session: Session, arguments: Arguments) -> int:
    """Shows what a container changed of its image."""
    changes = session.client.containers.changes(arguments.positional[0])
    write_out(
        "".join(
            f"{KINDS[number_of(change, 'Kind')]} {text_of(change, 'Path')}\n" for change in changes
        )
    )
    return 0


VERB = Verb(run, usage="CONTAINER", aliases="container diff, diff", minimum=1, maximum=1)
