"""wherry volume create."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.flags import parse_pairs
from wherry.cli.output import line_out
from wherry.client.document import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Json

OPTIONS = (
    ("driver", "d", "string", '"local"', "Specify volume driver name"),
    ("label", "", "list", "", "Set metadata for a volume"),
    ("name", "", "string", "", ""),
    ("opt", "o", "map", "map[]", "Set driver specific options"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Makes a volume and prints its name."""
    name = arguments.text("name")
    if arguments.positional:
        if name:
            raise CommandFailed(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
            )
        name = arguments.positional[0]
    options: dict[str, Json] = dict(parse_pairs(arguments.many("opt")))
    labels: dict[str, Json] = dict(parse_pairs(arguments.many("label")))
    answer = session.client.volumes.create(
        {
            "Name": name,
            "Driver": arguments.text("driver", "local"),
            "DriverOpts": options,
            "Labels": labels,
        }
    )
    line_out(text_of(answer, "Name"))
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] [VOLUME]",
    options=OPTIONS,
    checks={"label": "check_label"},
    maximum=1,
)
