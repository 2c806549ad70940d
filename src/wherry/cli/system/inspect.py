"""wherry inspect: whatever has that name."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.formats import INSPECT_FORMAT_HELP
from wherry.cli.inspecting import inspect_all
from wherry.cli.output import line_error
from wherry.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("format", "f", "string", "", INSPECT_FORMAT_HELP),
    ("size", "s", "bool", "", "Display total file sizes if the type is container"),
    ("type", "", "string", "", "Only inspect objects of the given type"),
)
SWARM_KINDS = frozenset({"config", "node", "plugin", "secret", "service", "task"})


def run(session: Session, arguments: Arguments) -> int:
    """Shows everything known about what has the names."""
    client = session.client
    kind = arguments.text("type")
    size = arguments.flag("size")
    finders: dict[str, Callable[[str], Document]] = {
        "container": lambda ref: client.containers.inspect(ref, size=size),
        "image": client.images.inspect,
        "network": client.networks.inspect,
        "volume": client.volumes.inspect,
    }
    if kind in SWARM_KINDS:
        raise CommandFailed(f"{kind}: this engine has none of this type")
    if kind and kind not in finders:
        raise CommandFailed(
            f'unknown type: "{kind}": must be one of "config", "container", "image", "network", '
            '"node", "plugin", "secret", "service", "task", "volume"'
        )
    if "type" in arguments.changed and not kind:
        raise CommandFailed(
            'type is empty: must be one of "config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume"'
        )

    def find(ref: str) -> Document:
        for name, finder in finders.items():
            if kind and name != kind:
                continue
            try:
                found = finder(ref)
            except ApiError as exc:
                if kind:
                    raise
                # An invalid reference of one kind may be a good one of the next.
                if exc.status not in {400, 404} and not (exc.status == 500 and "/" in ref):
                    raise
            else:
                if size and name != "container":
                    line_error(f"WARNING: --size ignored for {name}")
                return found
        raise CommandFailed(f"Error: No such object: {ref}")

    return inspect_all(arguments.positional, arguments.text("format"), find)


VERB = Verb(run, usage="[OPTIONS] NAME|ID [NAME|ID...]", options=OPTIONS, minimum=1)
