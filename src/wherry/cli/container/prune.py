"""wherry container prune."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.prune import confirmed, prune_filters, show_deleted, show_reclaimed
from wherry.client.document import number_of, strings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("filter", "", "filter", "", 'Provide filter values (e.g. "until=<timestamp>")'),
    ("force", "f", "bool", "", "Do not prompt for confirmation"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Removes all stopped containers."""
    if not confirmed(arguments, "This will remove all stopped containers."):
        return 0
    answer = session.client.containers.prune(prune_filters(session, arguments))
    show_deleted("Deleted Containers:", strings_of(answer, "ContainersDeleted"))
    show_reclaimed(number_of(answer, "SpaceReclaimed"))
    return 0


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
