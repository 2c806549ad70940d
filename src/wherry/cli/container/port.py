"""wherry port."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.formats import natural_key
from wherry.cli.output import write_out
from wherry.client.document import documents_of, mapping_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document


def run(session: Session, arguments: Arguments) -> int:
    """Shows the published ports of a container."""
    container = arguments.positional[0]
    document = session.client.containers.inspect(container)
    ports = mapping_of(mapping_of(document, "NetworkSettings"), "Ports")
    lines = []
    if len(arguments.positional) > 1:
        wanted = arguments.positional[1]
        port, _, protocol = wanted.partition("/")
        if not port.isascii() or not port.isdecimal():
            raise CommandFailed(
                f'Error: invalid port ({port}): strconv.ParseUint: parsing "{port}": invalid syntax'
            )
        key = f"{port}/{protocol or 'tcp'}"
        lines = [_show(binding) for binding in documents_of(ports, key)]
        if not lines:
            raise CommandFailed(f"Error: No public port '{wanted}' published for {container}")
    else:
        lines = [
            f"{port} -> {_show(binding)}" for port in ports for binding in documents_of(ports, port)
        ]
    lines.sort(key=natural_key)
    write_out("".join(f"{line}\n" for line in lines))
    return 0


def _show(binding: Document) -> str:
    address = text_of(binding, "HostIp")
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{text_of(binding, 'HostPort')}"


VERB = Verb(
    run,
    usage="CONTAINER [PRIVATE_PORT[/PROTO]]",
    aliases="container port, port",
    minimum=1,
    maximum=2,
)
