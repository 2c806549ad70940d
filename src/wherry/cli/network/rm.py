"""wherry network rm."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import sentence_of
from wherry.cli.output import line_error, line_out
from wherry.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (("force", "f", "bool", "", "Do not error if the network does not exist"),)


def run(session: Session, arguments: Arguments) -> int:
    """Removes networks."""
    failed = False
    for network in arguments.positional:
        try:
            session.client.networks.remove(network)
        except ApiError as exc:
            if not (arguments.flag("force") and exc.status == 404):
                failed = True
            line_error(sentence_of(exc))
        else:
            line_out(network)
    if failed:
        line_error("exit status 1")
    return 1 if failed else 0


VERB = Verb(
    run,
    usage="NETWORK [NETWORK...]",
    aliases="network rm, network remove",
    options=OPTIONS,
    minimum=1,
)
