"""wherry create."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.container.create_options import CHECKS, HIDDEN, OPTIONS
from wherry.cli.container.creating import create_container, prepare_body
from wherry.cli.output import line_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session


def run(session: Session, arguments: Arguments) -> int:
    """Makes a container and prints its id."""
    line_out(create_container(session, arguments, prepare_body(session, arguments, "create")))
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] IMAGE [COMMAND] [ARG...]",
    aliases="container create, create",
    options=(*OPTIONS, *HIDDEN, ("help", "", "bool", "", "Print usage")),
    checks=CHECKS,
    minimum=1,
    interspersed=False,
)
