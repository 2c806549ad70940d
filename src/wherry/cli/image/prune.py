"""wherry image prune."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.prune import confirmed, prune_filters, show_deleted, show_reclaimed
from wherry.client.document import documents_of, number_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("all", "a", "bool", "", "Remove all unused images, not just dangling ones"),
    ("filter", "", "filter", "", 'Provide filter values (e.g. "until=<timestamp>")'),
    ("force", "f", "bool", "", "Do not prompt for confirmation"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Removes images that nothing uses."""
    all_images = arguments.flag("all")
    warning = (
        "This will remove all images without at least one container associated to them."
        if all_images
        else "This will remove all dangling images."
    )
    if not confirmed(arguments, warning):
        return 0
    filters = prune_filters(session, arguments)
    filters["dangling"] = ["false" if all_images else "true"]
    answer = session.client.images.prune(filters)
    show_deleted("Deleted Images:", deleted_lines(answer))
    show_reclaimed(number_of(answer, "SpaceReclaimed"))
    return 0


def deleted_lines(answer: Document) -> list[str]:
    """`untagged: x` and `deleted: sha256:…` of a prune's answer."""
    lines = []
    for record in documents_of(answer, "ImagesDeleted"):
        untagged = text_of(record, "Untagged")
        if untagged:
            lines.append(f"untagged: {untagged}")
        else:
            lines.append(f"deleted: {text_of(record, 'Deleted')}")
    return lines


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
