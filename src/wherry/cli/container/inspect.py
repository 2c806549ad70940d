"""wherry container inspect."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.formats import INSPECT_FORMAT_HELP
from wherry.cli.inspecting import inspect_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("format", "f", "string", "", INSPECT_FORMAT_HELP),
    ("size", "s", "bool", "", "Display total file sizes"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Shows everything known about containers."""
    size = arguments.flag("size")
    return inspect_all(
        arguments.positional,
        arguments.text("format"),
        lambda ref: session.client.containers.inspect(ref, size=size),
    )


VERB = Verb(run, usage="[OPTIONS] CONTAINER [CONTAINER...]", options=OPTIONS, minimum=1)
