"""wherry exec: another process in a running container."""

from __future__ import annotations

from wherry.cli.command import ValueRefused, Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.output import is_terminal, line_error
from wherry.client.document import number_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document, Json

OPTIONS = (
    ("detach", "d", "bool", "", "Detached mode: run command in the background"),
    (
        "detach-keys",
        "",
        "string",
        "",
        "Override the key sequence for detaching a container",
    ),
    ("env", "e", "list", "", "Set environment variables"),
    ("env-file", "", "list", "", "Read in a file of environment variables"),
    ("interactive", "i", "bool", "", "Keep STDIN open even if not attached"),
    ("privileged", "", "bool", "", "Give extended privileges to the command"),
    ("tty", "t", "bool", "", "Allocate a pseudo-TTY"),
    ("user", "u", "string", "", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
    ("workdir", "w", "string", "", "Working directory inside the container"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Runs a command in a container."""
    from wherry.cli.stream import check_tty

    client = session.client
    container, *command = arguments.positional
    detach = arguments.flag("detach")
    interactive, tty = arguments.flag("interactive"), arguments.flag("tty")
    detach_keys = arguments.text("detach-keys")
    if not detach_keys and session.has_config:
        detach_keys = session.config.text("detachKeys")
    config: Document = {
        "User": arguments.text("user"),
        "Privileged": arguments.flag("privileged"),
        "Tty": tty,
        "AttachStdin": interactive and not detach,
        "AttachStderr": not detach,
        "AttachStdout": not detach,
        "DetachKeys": detach_keys,
        "Env": _read_env(arguments),
        "WorkingDir": arguments.text("workdir"),
        "Cmd": list(command),
    }
    if not detach and interactive and tty and not is_terminal(0):
        # Docker looks for the container first, and names the missing one.
        client.containers.inspect(container)
        check_tty(stdin=True, tty=True)
    size = _console_size() if tty else None
    if size is not None and not detach:
        config["ConsoleSize"] = list(size)
    exec_id = text_of(client.execs.create(container, config), "Id")
    if not exec_id:
        raise CommandFailed("exec ID empty")
    if detach:
        client.execs.start_detached(exec_id, tty=tty)
        return 0
    return _run_attached(session, exec_id, interactive=interactive, tty=tty, keys=detach_keys)


def _run_attached(
    session: Session, exec_id: str, *, interactive: bool, tty: bool, keys: str
) -> int:
    from wherry.cli.stream import (
        Attachment,
        Console,
        Terminated,
        die_of,
        follow_window_size,
        pump,
    )

    client = session.client
    attachment = Attachment(stdin=interactive, stdout=True, stderr=True, tty=tty, detach_keys=keys)
    try:
        with Console(raw=interactive and tty and is_terminal(0), catches=True):
            stream = client.execs.start(
                exec_id, tty=tty, console_size=_console_size() if tty else None
            )
            if tty and is_terminal(0):
                follow_window_size(
                    lambda rows, columns: client.execs.resize(exec_id, rows, columns)
                )
            detached = pump(stream, attachment)
    except Terminated as exc:
        return die_of(exc.number)
    if detached:
        line_error("read escape sequence")
        return 1
    return number_of(client.execs.inspect(exec_id), "ExitCode")


def _console_size() -> tuple[int, int] | None:
    from wherry.cli.terminal import terminal_size

    size = terminal_size(1)
    return size if size != (0, 0) else None


def _read_env(arguments: Arguments) -> Json:
    if not arguments.changed & {"env", "env-file"}:
        return None
    from wherry.cli.flags import complete_env, read_env_file

    variables: list[Json] = []
    try:
        for path in arguments.many("env-file"):
            variables += read_env_file(path)
    except ValueRefused as exc:
        raise CommandFailed(str(exc)) from exc
    return [*variables, *(complete_env(variable) for variable in arguments.many("env"))]


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER COMMAND [ARG...]",
    aliases="container exec, exec",
    options=OPTIONS,
    checks={"env": "complete_env"},
    minimum=2,
    interspersed=False,
)
