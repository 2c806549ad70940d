"""wherry login."""

from __future__ import annotations

import os

from wherry.cli.command import Verb
from wherry.cli.credentials import HUB, find_account, server_key, store_account
from wherry.cli.errors import CommandFailed
from wherry.cli.output import is_terminal, line_error, line_out, write_out
from wherry.client.document import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("password", "p", "string", "", "Password or Personal Access Token (PAT)"),
    (
        "password-stdin",
        "",
        "bool",
        "",
        "Take the Password or Personal Access Token (PAT) from stdin",
    ),
    ("username", "u", "string", "", "Username"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Checks an account at a registry and keeps it."""
    user, password = arguments.text("username"), arguments.text("password")
    if arguments.flag("password-stdin"):
        if password:
            raise CommandFailed(
                "conflicting options: cannot specify both --password and --password-stdin"
            )
        if not user:
            raise CommandFailed("the --password-stdin option requires --username to be set")
        password = _read_all().removesuffix("\n").removesuffix("\r")
    elif "password" in arguments.changed:
        line_error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    for name, value in (("username", user), ("password", password)):
        if name in arguments.changed and not value:
            raise CommandFailed(f"{name} is empty")
    server = arguments.positional[0] if arguments.positional else ""
    server = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    key = server_key(server) if server and server != "docker.io" else HUB
    account: Document = {}
    if not user or not password:
        account = find_account(session, key)
    if not user and not password and account:
        line_out("Authenticating with existing credentials...")
    else:
        user, password = _ask_account(user or "", password, text_of(account, "username"))
        account = {"username": user, "password": password, "serveraddress": key}
    answer = session.client.system.authenticate(account)
    token = text_of(answer, "IdentityToken")
    if token:
        account["password"] = ""
        account["identitytoken"] = token
    try:
        plain = store_account(session, key, account)
    except (OSError, CommandFailed) as exc:
        raise CommandFailed(f"Error saving credentials: {exc}") from exc
    if plain:
        line_error(
            f"\nWARNING! Your credentials are stored unencrypted in '{session.config_path}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n"
        )
    line_out(text_of(answer, "Status") or "Login Succeeded")
    return 0


def _ask_account(user: str, password: str, known_user: str) -> tuple[str, str]:
    if not is_terminal(0) and not (user and password):
        raise CommandFailed("Error: Cannot perform an interactive login from a non TTY device")
    if not user:
        write_out(f"Username ({known_user}): " if known_user else "Username: ")
        user = _read_line().strip() or known_user
        if not user:
            raise CommandFailed("Error: Non-null Username Required")
    if not password:
        password = _read_secret("Password: ")
        line_out()
        if not password:
            raise CommandFailed("Error: Password Required")
    return user, password


def _read_secret(question: str) -> str:
    import termios

    attributes = termios.tcgetattr(0)
    silent = [*attributes]
    silent[3] &= ~termios.ECHO
    # Silent before the question is seen: what is typed at once must not show, nor be lost.
    termios.tcsetattr(0, termios.TCSANOW, silent)
    try:
        write_out(question)
        return _read_line()
    finally:
        termios.tcsetattr(0, termios.TCSANOW, attributes)


def _read_line() -> str:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            break
        line += piece
    return str(line, "utf-8", "surrogateescape").rstrip("\r\n")


def _read_all() -> str:
    content = b""
    while piece := os.read(0, 65536):
        content += piece
    return str(content, "utf-8", "surrogateescape")


VERB = Verb(
    run,
    usage="[OPTIONS] [SERVER]",
    description="Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    options=OPTIONS,
    maximum=1,
)
