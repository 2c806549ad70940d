"""wherry history."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.formats import FORMAT_HELP, ellipsis, rfc3339, short_id, since
from wherry.cli.table import Columns, show
from wherry.cli.units import human_size
from wherry.client.document import number_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("format", "", "string", "", FORMAT_HELP),
    ("human", "H", "bool", "true", "Print sizes and dates in human readable format"),
    ("no-trunc", "", "bool", "", "Don't truncate output"),
    (
        "platform",
        "",
        "string",
        "",
        'Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
    ),
    ("quiet", "q", "bool", "", "Only show image IDs"),
)
COMMAND_WIDTH = 45


def run(session: Session, arguments: Arguments) -> int:
    """Shows the layers of an image and what made them."""
    from wherry.cli.platform import encode_platform

    truncate = not arguments.flag("no-trunc")
    human = arguments.flag("human", default=True)

    def command(layer: Document) -> str:
        text = text_of(layer, "CreatedBy").replace("\t", " ")
        return ellipsis(text, COMMAND_WIDTH) if truncate else text

    columns = Columns(
        "*image.historyContext",
        {
            "Comment": lambda h: text_of(h, "Comment"),
            "CreatedAt": lambda h: rfc3339(number_of(h, "Created")),
            "CreatedBy": command,
            "CreatedSince": lambda h: (
                since(number_of(h, "Created")) if human else rfc3339(number_of(h, "Created"))
            ),
            "ID": lambda h: short_id(text_of(h, "Id"), truncate=truncate),
            "Size": lambda h: (
                human_size(number_of(h, "Size"), 3) if human else str(number_of(h, "Size"))
            ),
        },
        {
            "ID": "IMAGE",
            "CreatedAt": "CREATED AT",
            "CreatedSince": "CREATED" if human else "CREATED AT",
            "CreatedBy": "CREATED BY",
            "Size": "SIZE",
            "Comment": "COMMENT",
        },
    )
    layout = arguments.text("format")
    if arguments.flag("quiet") and layout in {"", "table"}:
        layout = "{{.ID}}"
    history = session.client.images.history(
        arguments.positional[0], platform=encode_platform(arguments.text("platform"))
    )
    show(
        columns,
        history,
        layout,
        default="{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    )
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] IMAGE",
    aliases="image history, history",
    options=OPTIONS,
    minimum=1,
    maximum=1,
)
