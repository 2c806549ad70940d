"""wherry volume prune."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.prune import confirmed, prune_filters, show_deleted, show_reclaimed
from wherry.client.document import number_of, strings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("all", "a", "bool", "", "Remove all unused volumes, not just anonymous ones"),
    ("filter", "", "filter", "", 'Provide filter values (e.g. "label=<label>")'),
    ("force", "f", "bool", "", "Do not prompt for confirmation"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Removes volumes that no container uses."""
    filters = prune_filters(session, arguments)
    warning = "This will remove anonymous local volumes not used by at least one container."
    if arguments.flag("all"):
        if "all" in filters:
            raise CommandFailed("conflicting options: cannot specify both --all and --filter all=1")
        filters["all"] = ["true"]
        warning = "This will remove all local volumes not used by at least one container."
    if not confirmed(arguments, warning):
        return 0
    answer = session.client.volumes.prune(filters)
    show_deleted("Deleted Volumes:", strings_of(answer, "VolumesDeleted"))
    show_reclaimed(number_of(answer, "SpaceReclaimed"))
    return 0


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
