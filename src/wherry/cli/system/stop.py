"""wherry system stop: ends the engine that serves the socket; its containers go on."""

from __future__ import annotations

import os

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.output import line_out
from wherry.client.client import Client
from wherry.client.errors import CannotConnect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (("timeout", "t", "int", "30", "Seconds to wait for the end of the engine"),)


def run(session: Session, arguments: Arguments) -> int:
    """Stops the engine."""
    import select

    address = session.address
    path = address.removeprefix("unix://")
    if path == address:
        raise CommandFailed("only an engine behind a unix socket of this machine can be stopped")
    # A client of its own: this one must not start an engine only to stop it.
    client = Client(address)
    try:
        headers = client.system.ping()
    except CannotConnect as exc:
        if exc.reason is not None and exc.reason.errno == 13:
            raise
        line_out("The wherry daemon is not running")
        return 0
    if "wherry" not in headers.get("server", "").lower():
        raise CommandFailed(f"{address} is not served by wherry; it is left alone")
    pidfd = _open_peer(path)
    client.system.shut_down()
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if not poller.poll(arguments.number("timeout", 30) * 1000):
        raise CommandFailed("the wherry daemon has not ended yet")
    return 0


def _open_peer(path: str) -> int:
    """A pidfd of the process that listens on a socket."""
    import _socket
    import struct

    from wherry.client.transport import connect_unix

    connection = connect_unix(path)
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    connection.close()
    pid, _, _ = struct.unpack("iii", credentials)
    return os.pidfd_open(pid)


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
