"""wherry volume ls."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.formats import FORMAT_HELP, natural_key, read_filters
from wherry.cli.output import line_error
from wherry.cli.table import show
from wherry.cli.volume.columns import DEFAULT, volume_columns
from wherry.client.document import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("filter", "f", "filter", "", 'Provide filter values (e.g. "dangling=true")'),
    ("format", "", "string", "", FORMAT_HELP),
    ("quiet", "q", "bool", "", "Only display volume names"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Lists volumes."""
    volumes, warnings = session.client.volumes.list_all(read_filters(arguments))
    volumes.sort(key=lambda volume: natural_key(text_of(volume, "Name")))
    layout = arguments.text("format")
    if not layout and not arguments.flag("quiet") and session.has_config:
        layout = session.config.text("volumesFormat")
    if arguments.flag("quiet") and layout in {"", "table"}:
        layout = "{{.Name}}"
    show(volume_columns(), volumes, layout, default=DEFAULT)
    for warning in warnings:
        line_error(f"WARNING: {warning}")
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS]",
    aliases="volume ls, volume list",
    options=OPTIONS,
    maximum=0,
)
