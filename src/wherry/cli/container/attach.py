"""wherry attach."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.container.waiting import wait_for_exit
from wherry.cli.errors import CommandFailed
from wherry.cli.output import is_terminal
from wherry.client.document import flag_of, mapping_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    (
        "detach-keys",
        "",
        "string",
        "",
        "Override the key sequence for detaching a container",
    ),
    ("no-stdin", "", "bool", "", "Do not attach STDIN"),
    ("sig-proxy", "", "bool", "true", "Proxy all received signals to the process"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Attaches to a running container."""
    from wherry.cli.stream import (
        Attachment,
        Console,
        Terminated,
        check_tty,
        die_of,
        follow_window_size,
        proxy_signals,
        pump,
    )
    from wherry.cli.terminal import terminal_size

    client = session.client
    container = arguments.positional[0]
    _check_state(client.containers.inspect(container))
    waiting = client.containers.wait(container)
    document = client.containers.inspect(container)
    config = mapping_of(document, "Config")
    tty = flag_of(config, "Tty")
    stdin = not arguments.flag("no-stdin")
    check_tty(stdin=stdin, tty=tty)
    stdin = stdin and flag_of(config, "OpenStdin")
    detach_keys = arguments.text("detach-keys")
    if not detach_keys and session.has_config:
        detach_keys = session.config.text("detachKeys")
    proxies = arguments.flag("sig-proxy", default=True) and not tty
    if proxies:
        proxy_signals(lambda name: client.containers.kill(container, name))
    stream = client.containers.attach(container, stdin=stdin, detach_keys=detach_keys)
    # It may have stopped between the two looks; then attach would never end.
    _check_state(client.containers.inspect(container))
    attachment = Attachment(stdin=stdin, stdout=True, stderr=True, tty=tty, detach_keys=detach_keys)
    try:
        with Console(raw=stdin and tty and is_terminal(0), catches=not proxies):
            if tty and is_terminal(1):
                # A shell shows its prompt again only when the size really changes.
                rows, columns = terminal_size(1)
                client.containers.resize(container, rows + 1, columns + 1)
                follow_window_size(
                    lambda rows, columns: client.containers.resize(container, rows, columns)
                )
            detached = pump(stream, attachment)
    except Terminated as exc:
        return die_of(exc.number)
    if detached:
        raise CommandFailed("read escape sequence")
    return wait_for_exit(client, container, waiting, condition="")


def _check_state(document: Document) -> None:
    state = mapping_of(document, "State")
    if not flag_of(state, "Running"):
        raise CommandFailed("You cannot attach to a stopped container, start it first")
    if flag_of(state, "Paused"):
        raise CommandFailed("You cannot attach to a paused container, unpause it first")
    if flag_of(state, "Restarting"):
        raise CommandFailed("You cannot attach to a restarting container, wait until it is running")


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER",
    aliases="container attach, attach",
    options=OPTIONS,
    minimum=1,
    maximum=1,
)
