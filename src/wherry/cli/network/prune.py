"""wherry network prune."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.output import write_out
from wherry.cli.prune import confirmed, prune_filters
from wherry.client.document import strings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("filter", "", "filter", "", 'Provide filter values (e.g. "until=<timestamp>")'),
    ("force", "f", "bool", "", "Do not prompt for confirmation"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Removes networks that no container uses."""
    warning = "This will remove all custom networks not used by at least one container."
    if not confirmed(arguments, warning):
        return 0
    answer = session.client.networks.prune(prune_filters(session, arguments))
    names = strings_of(answer, "NetworksDeleted")
    if names:
        write_out("Deleted Networks:\n" + "".join(f"{name}\n" for name in names) + "\n")
    return 0


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
