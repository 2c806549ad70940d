"""wherry logs."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.output import write_all
from wherry.cli.timestamps import to_timestamp
from wherry.client.document import flag_of, mapping_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("details", "", "bool", "", "Show extra details provided to logs"),
    ("follow", "f", "bool", "", "Follow log output"),
    (
        "since",
        "",
        "string",
        "",
        'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
    ),
    ("tail", "n", "string", '"all"', "Number of lines to show from the end of the logs"),
    ("timestamps", "t", "bool", "", "Show timestamps"),
    (
        "until",
        "",
        "string",
        "",
        'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
    ),
)


def run(session: Session, arguments: Arguments) -> int:
    """Shows the log of a container."""
    client = session.client
    document = client.containers.inspect(arguments.positional[0])
    response = client.containers.logs(
        text_of(document, "Id"),
        since=to_timestamp(arguments.text("since"), 'invalid value for "since": '),
        until=to_timestamp(arguments.text("until"), 'invalid value for "until": '),
        timestamps=arguments.flag("timestamps"),
        follow=arguments.flag("follow"),
        tail=arguments.text("tail", "all"),
        details=arguments.flag("details"),
    )
    if flag_of(mapping_of(document, "Config"), "Tty"):
        for piece in response.chunks():
            write_all(1, piece)
        return 0
    from wherry.cli.stream import Demultiplexer

    demultiplexer = Demultiplexer(1, 2)
    for piece in response.chunks():
        demultiplexer.feed(piece)
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER",
    aliases="container logs, logs",
    options=OPTIONS,
    minimum=1,
    maximum=1,
)
