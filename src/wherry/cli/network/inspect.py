"""wherry network inspect."""

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
    ("verbose", "v", "bool", "", "Verbose output for diagnostics"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Shows everything known about networks."""
    verbose = arguments.flag("verbose")
    return inspect_all(
        arguments.positional,
        arguments.text("format"),
        lambda ref: session.client.networks.inspect(ref, verbose=verbose),
    )


VERB = Verb(run, usage="[OPTIONS] NETWORK [NETWORK...]", options=OPTIONS, minimum=1)
