"""The sockets that wherryd listens on: unix with mode and group, TCP, TCP with TLS, and inherited ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from wherry.api.server import Application, HttpConnection
from wherry.api.tls import TlsProtocol
from wherry.daemon.config import Listen, OptionError, Options, find_group, parse_host

logger = logging.getLogger(__name__)

_BACKLOG = 1024
_FIRST_INHERITED_FD = 3  # sd_listen_fds(3)


@dataclass(slots=True)
class Listener:
    """A listening socket and, for a unix one, the file that goes with it."""

    server: asyncio.Server
    path: str = ""
    inode: int = 0

    def close(self) -> None:
        """Stops listening; removes the socket's file unless another engine has replaced it."""
        self.server.close()
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self.path).st_ino == self.inode:
                    os.unlink(self.path)


async def open_listeners(options: Options, application: Application) -> list[Listener]:
    """Opens all of them or none. Raises OptionError, OSError."""
    hosts = options.host or (f"unix://{options.exec_root}/wherry.sock",)
    tls = options.tls or options.tlsverify
    listens = [parse_host(host, tls=tls) for host in hosts]
    context = build_tls_context(options) if tls else None
    listeners: list[Listener] = []
    try:
        for listen in listens:
            listeners += await _open(listen, options, application, context)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


async def _open(
    listen: Listen, options: Options, application: Application, context: ssl.SSLContext | None
) -> list[Listener]:
    loop = asyncio.get_running_loop()

    def plain() -> HttpConnection:
        return HttpConnection(application)

    if listen.kind == "unix":
        bound = bind_unix(listen.address, find_group(options.group))
        server = await loop.create_unix_server(plain, sock=bound, backlog=_BACKLOG)
        return [Listener(server, listen.address, os.stat(listen.address).st_ino)]
    if listen.kind == "fd":
        return [
            Listener(await loop.create_unix_server(plain, sock=inherited, backlog=_BACKLOG))
            for inherited in inherit_sockets()
        ]
    if context is None:
        logger.warning(
            "the API on tcp://%s:%d is not encrypted: whoever reaches it is root on this machine",
            listen.address,
            listen.port,
        )
        server = await loop.create_server(plain, listen.address, listen.port, backlog=_BACKLOG)
    else:
        encrypted = context

        def secure() -> TlsProtocol:
            return TlsProtocol(encrypted, plain)

        server = await loop.create_server(secure, listen.address, listen.port, backlog=_BACKLOG)
    return [Listener(server)]


def bind_unix(path: str, group: int | None) -> socket.socket:
    """A bound unix socket, mode 0660. Raises OSError; EADDRINUSE when somebody answers there."""
    Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX)
    try:
        before = os.umask(0o117)  # nobody may connect before mode and group are right
        try:
            bound.bind(path)
        finally:
            os.umask(before)
        if group is not None:
            os.chown(path, -1, group)
        os.chmod(path, 0o660)
    except BaseException:
        bound.close()
        raise
    bound.settimeout(0)
    return bound


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OptionError(f"{path} is there and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OptionError(f"another program listens on {path}")


def inherit_sockets() -> list[socket.socket]:
    """The sockets that systemd passed (sd_listen_fds). Raises OptionError."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise OptionError(
            "no sockets found via socket activation: make sure the service was started by systemd"
        )
    count = int(os.environ.get("LISTEN_FDS", "0"))
    sockets = []
    for fd in range(_FIRST_INHERITED_FD, _FIRST_INHERITED_FD + count):
        os.set_inheritable(fd, False)  # noqa: FBT003 - positional only
        inherited = socket.socket(fileno=fd)
        inherited.settimeout(0)
        sockets.append(inherited)
    return sockets


def build_tls_context(options: Options) -> ssl.SSLContext:
    """The server's context; files default to dockerd's places. Raises OptionError."""
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate = options.tlscert or str(folder / "cert.pem")
    key = options.tlskey or str(folder / "key.pem")
    authority = options.tlscacert or str(folder / "ca.pem")
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as exc:
        raise OptionError(
            f"could not load X509 key pair (cert: {certificate!r}, key: {key!r}): {exc}"
        ) from exc
    if options.tlsverify:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as exc:
            raise OptionError(f"could not read CA certificate {authority!r}: {exc}") from exc
    return context
