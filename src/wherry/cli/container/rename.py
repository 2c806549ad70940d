"""wherry rename."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed, sentence_of
from wherry.cli.output import line_error
from wherry.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session


def run(session: Session, arguments: Arguments) -> int:
    """Renames a container."""
    old, new = (name.strip() for name in arguments.positional)
    if not old or not new:
        raise CommandFailed("Error: Neither old nor new names may be empty")
    try:
        session.client.containers.rename(old, new)
    except ApiError as exc:
        line_error(sentence_of(exc))
        raise CommandFailed(f"Error: failed to rename container named {old}") from exc
    return 0


VERB = Verb(
    run, usage="CONTAINER NEW_NAME", aliases="container rename, rename", minimum=2, maximum=2
)
