"""wherry start."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.container.waiting import wait_for_exit
from wherry.cli.errors import CommandFailed, sentence_of
from wherry.cli.output import is_terminal, line_error, line_out
from wherry.client.document import flag_of, mapping_of, text_of
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("attach", "a", "bool", "", "Attach STDOUT/STDERR and forward signals"),
    (
        "detach-keys",
        "",
        "string",
        "",
        "Override the key sequence for detaching a container",
    ),
    ("interactive", "i", "bool", "", "Attach container's STDIN"),
    ("checkpoint", "", "string", "", ""),
    ("checkpoint-dir", "", "string", "", ""),
)


def run(session: Session, arguments: Arguments) -> int:
    """Starts containers."""
    if arguments.flag("attach") or arguments.flag("interactive"):
        if len(arguments.positional) > 1:
            raise CommandFailed("you cannot start and attach multiple containers at once")
        return _start_attached(session, arguments)
    failed = []
    for container in arguments.positional:
        try:
            session.client.containers.start(container)
        except ClientError as exc:
            line_error(sentence_of(exc))
            failed.append(container)
        else:
            line_out(container)
    if failed:
        raise CommandFailed(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_attached(session: Session, arguments: Arguments) -> int:
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

    client = session.client
    document = client.containers.inspect(arguments.positional[0])
    container = text_of(document, "Id")
    config = mapping_of(document, "Config")
    tty = flag_of(config, "Tty")
    stdin = arguments.flag("interactive") and flag_of(config, "OpenStdin")
    check_tty(stdin=stdin, tty=tty)
    if not tty:
        proxy_signals(lambda name: client.containers.kill(container, name))
    detach_keys = arguments.text("detach-keys")
    if not detach_keys and session.has_config:
        detach_keys = session.config.text("detachKeys")
    removed = flag_of(mapping_of(document, "HostConfig"), "AutoRemove")
    stream = client.containers.attach(container, stdin=stdin, detach_keys=detach_keys)
    waiting = client.containers.wait(container, "removed" if removed else "next-exit")
    attachment = Attachment(stdin=stdin, stdout=True, stderr=True, tty=tty, detach_keys=detach_keys)
    try:
        with Console(raw=stdin and tty and is_terminal(0), catches=tty):
            client.containers.start(container)
            if tty and is_terminal(1):
                follow_window_size(
                    lambda rows, columns: client.containers.resize(container, rows, columns)
                )
            detached = pump(stream, attachment)
    except Terminated as exc:
        return die_of(exc.number)
    if detached:
        return 0
    return wait_for_exit(
        client, container, waiting, condition="removed" if removed else "next-exit"
    )


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    aliases="container start, start",
    options=OPTIONS,
    minimum=1,
)
