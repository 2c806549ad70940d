"""wherry builder prune."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.flags import parse_size
from wherry.cli.output import ask
from wherry.cli.prune import prune_filters, show_deleted, show_reclaimed
from wherry.client.document import number_of, strings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("all", "a", "bool", "", "Remove all unused build cache, not just dangling ones"),
    ("filter", "", "filter", "", 'Provide filter values (e.g. "until=24h")'),
    ("force", "f", "bool", "", "Do not prompt for confirmation"),
    ("keep-storage", "", "bytes", "", "Amount of disk space to keep for cache"),
    ("max-used-space", "", "bytes", "", "Maximum amount of disk space allowed to keep for cache"),
    ("min-free-space", "", "bytes", "", "Target amount of free disk space after pruning"),
    ("reserved-space", "", "bytes", "", "Amount of disk space always allowed to keep for cache"),
)
SIZES = ("keep-storage", "max-used-space", "min-free-space", "reserved-space")


def run(session: Session, arguments: Arguments) -> int:
    """Removes build cache."""
    all_cache = arguments.flag("all")
    kind = "all build cache" if all_cache else "all dangling build cache"
    question = f"WARNING! This will remove {kind}. Are you sure you want to continue?"
    if not arguments.flag("force") and not ask(question):
        return 0
    sizes = {name: parse_size(arguments.text(name, "0")) for name in SIZES}
    answer = session.client.builder.prune(
        all_=all_cache,
        reserved_space=sizes["reserved-space"] or sizes["keep-storage"],
        max_used_space=sizes["max-used-space"],
        min_free_space=sizes["min-free-space"],
        filters=prune_filters(session, arguments),
    )
    show_deleted("Deleted build cache objects:", strings_of(answer, "CachesDeleted"))
    show_reclaimed(number_of(answer, "SpaceReclaimed"))
    return 0


VERB = Verb(
    run,
    usage="",
    options=OPTIONS,
    checks=dict.fromkeys(SIZES, "parse_size"),
    maximum=0,
)
