"""wherry run: create, attach, wait, start, copy, and end with the container's exit code."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.container.create_options import CHECKS, HIDDEN, OPTIONS
from wherry.cli.container.creating import create_container, prepare_body
from wherry.cli.container.waiting import wait_for_exit
from wherry.cli.errors import CommandFailed, RunFailed, StartRefused
from wherry.cli.output import is_terminal, line_out
from wherry.client.document import flag_of
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.client import Client
    from wherry.client.document import Document

RUN_OPTIONS = (
    ("detach", "d", "bool", "", "Run container in background and print container ID"),
    (
        "detach-keys",
        "",
        "string",
        "",
        "Override the key sequence for detaching a container",
    ),
    ("help", "", "bool", "", "Print usage"),
    ("sig-proxy", "", "bool", "true", "Proxy received signals to the process"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Runs a container."""
    body = prepare_body(session, arguments, "run")
    detach = arguments.flag("detach")
    if detach:
        if arguments.many("attach"):
            raise CommandFailed("conflicting options: cannot specify both --attach and --detach")
        body.update(AttachStdin=False, AttachStdout=False, AttachStderr=False, StdinOnce=False)
    elif flag_of(body, "AttachStdin") and flag_of(body, "Tty"):
        from wherry.cli.stream import check_tty

        check_tty(stdin=True, tty=True)
    if flag_of(body, "Tty"):
        _set_console_size(body)
    try:
        container = create_container(session, arguments, body)
    except RunFailed:
        raise
    except (ClientError, CommandFailed, OSError) as exc:
        if not str(exc):  # it was told already
            raise
        raise StartRefused(exc) from exc
    if detach:
        line_out(container)
        _start(session.client, container)
        return 0
    return _run_attached(session, arguments, body, container)


def _run_attached(session: Session, arguments: Arguments, body: Document, container: str) -> int:
    from wherry.cli.stream import Attachment, Console, follow_window_size, proxy_signals, pump

    client = session.client
    stdin, stdout, stderr = (
        flag_of(body, f"Attach{name}") for name in ("Stdin", "Stdout", "Stderr")
    )
    tty = flag_of(body, "Tty")
    auto_remove = arguments.flag("rm")
    if arguments.flag("sig-proxy", default=True):
        proxy_signals(lambda name: client.containers.kill(container, name))
    detach_keys = arguments.text("detach-keys")
    if not detach_keys and session.has_config:
        detach_keys = session.config.text("detachKeys")
    stream = client.containers.attach(
        container, stdin=stdin, stdout=stdout, stderr=stderr, detach_keys=detach_keys
    )
    waiting = client.containers.wait(container, "removed" if auto_remove else "next-exit")
    attachment = Attachment(
        stdin=stdin, stdout=stdout, stderr=stderr, tty=tty, detach_keys=detach_keys
    )
    raw = stdin and tty and is_terminal(0)
    with Console(raw=raw, catches=not arguments.flag("sig-proxy", default=True)):
        try:
            client.containers.start(container)
        except ClientError as exc:
            if auto_remove:
                wait_for_exit(client, container, waiting, condition="removed")
            raise StartRefused(exc) from exc
        if tty and is_terminal(1):
            follow_window_size(
                lambda rows, columns: client.containers.resize(container, rows, columns)
            )
        detached = pump(stream, attachment)
    if detached or not (stdout or stderr):
        return 0
    return wait_for_exit(
        client, container, waiting, condition="removed" if auto_remove else "next-exit"
    )


def _start(client: Client, container: str) -> None:
    try:
        client.containers.start(container)
    except ClientError as exc:
        raise StartRefused(exc) from exc


def _set_console_size(body: Document) -> None:
    from wherry.cli.terminal import terminal_size

    host = body["HostConfig"]
    if isinstance(host, dict):
        host["ConsoleSize"] = list(terminal_size(1))


VERB = Verb(
    run,
    usage="[OPTIONS] IMAGE [COMMAND] [ARG...]",
    aliases="container run, run",
    options=(*OPTIONS, *HIDDEN, *RUN_OPTIONS),
    checks=CHECKS,
    minimum=1,
    interspersed=False,
)
