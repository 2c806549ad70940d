"""TLS with half-close and hijack, spoken by the standard library's client over a real connection."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.api.dialogue import DEADLINE_S, build_application
from wherry.api.message import HIJACKED, Answer, Request, Response
from wherry.api.router import Route
from wherry.api.server import Application, HttpConnection
from wherry.api.stream import make_hijack
from wherry.api.tls import TlsProtocol
from wherry.daemon.config import OptionError, Options
from wherry.daemon.listeners import build_tls_context
from wherry.engine.streams import ClientStream


def make_certificate(folder: Path) -> None:
    """A self-signed certificate that is its own authority: cert.pem, key.pem, ca.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    (folder / "ca.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


class Shim:
    """Stands for a shim: a blocking thread at the other end of a hijack."""

    def __init__(self) -> None:
        self.application: Application = build_application(
            [Route("GET", "/_ping", self.ping), Route("POST", "/attach", self.attach)]
        )
        self.talk: Callable[[socket.socket, bytes], None] = lambda _stream, _early: None
        self.threads: list[threading.Thread] = []

    async def ping(self, request: Request) -> Answer:
        return Response(200, b"OK" * 100_000, "text/plain")

    async def attach(self, request: Request) -> Answer:
        stream = await make_hijack(request, self.application.common_head)(True)
        thread = threading.Thread(target=self._run, args=(stream,))
        thread.start()
        self.threads.append(thread)
        return HIJACKED

    def _run(self, stream: ClientStream) -> None:
        with socket.socket(fileno=stream.fd) as connection:
            connection.settimeout(DEADLINE_S)
            self.talk(connection, stream.early)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder


def serve(
    certificates: Path, shim: Shim, client: Callable[[socket.socket], None], *, verify: bool = True
) -> None:
    """Runs the server, and a blocking client of it in a thread."""
    options = Options(
        tlsverify=verify,
        tlscert=str(certificates / "cert.pem"),
        tlskey=str(certificates / "key.pem"),
        tlscacert=str(certificates / "ca.pem"),
    )
    context = build_tls_context(options)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE_S)
        theirs.settimeout(0)
        await loop.connect_accepted_socket(
            lambda: TlsProtocol(context, lambda: HttpConnection(shim.application)), theirs
        )
        try:
            await asyncio.to_thread(client, ours)
        finally:
            ours.close()
            for thread in shim.threads:
                await asyncio.to_thread(thread.join)
            await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


class TlsClient:
    """A client that can half-close: ssl.SSLSocket closes both ways, so it works on MemoryBIO too."""

    def __init__(
        self, connection: socket.socket, certificates: Path, *, certificate: bool = True
    ) -> None:
        context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        if certificate:
            context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
        self._socket = connection
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._do(self._tls.do_handshake)

    def _do(self, step: Callable[[], object]) -> object:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._socket.recv(1 << 16)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._out.pending:
            self._socket.sendall(self._out.read())

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def half_close(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._flush()

    def read_to_end(self) -> bytes:
        pieces = []
        while True:
            try:
                piece = self._do(lambda: self._tls.read(1 << 16))
            except ssl.SSLError:
                break
            if not piece:
                break
            assert isinstance(piece, bytes)
            pieces.append(piece)
        return b"".join(pieces)

    def read_until(self, mark: bytes) -> bytes:
        data = b""
        while mark not in data:
            piece = self._do(lambda: self._tls.read(1))
            assert isinstance(piece, bytes)
            assert piece
            data += piece
        return data


def test_output_after_the_end_of_input_arrives(certificates: Path) -> None:
    shim = Shim()
    payload = b"x" * 3_000_000

    def container(stream: socket.socket, early: bytes) -> None:
        received = bytearray(early)
        while data := stream.recv(1 << 16):
            received += data
        stream.sendall(b"got %d\n" % len(received))
        stream.sendall(bytes(received))

    def client(connection: socket.socket) -> None:
        tls = TlsClient(connection, certificates)
        tls.send(b"POST /attach HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nEARLY")
        assert tls.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 UPGRADED\r\n")
        tls.send(payload)
        tls.half_close()
        assert tls.read_to_end() == b"got %d\n" % (len(payload) + 5) + b"EARLY" + payload

    shim.talk = container
    serve(certificates, shim, client)


def test_the_container_may_end_its_output_first(certificates: Path) -> None:
    shim = Shim()
    received = bytearray()

    def container(stream: socket.socket, early: bytes) -> None:
        stream.sendall(b"bye")
        stream.shutdown(socket.SHUT_WR)
        while data := stream.recv(1 << 16):
            received.extend(data)

    def client(connection: socket.socket) -> None:
        tls = TlsClient(connection, certificates)
        tls.send(b"POST /attach HTTP/1.1\r\n\r\n")
        tls.read_until(b"\r\n\r\n")
        assert tls.read_to_end() == b"bye"
        tls.send(b"more input")
        tls.half_close()

    shim.talk = container
    serve(certificates, shim, client)
    assert received == b"more input"


def test_ordinary_requests(certificates: Path) -> None:
    def client(connection: socket.socket) -> None:
        tls = TlsClient(connection, certificates)
        tls.send(b"GET /_ping HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert tls.read_to_end().endswith(b"\r\n\r\n" + b"OK" * 100_000)

    serve(certificates, Shim(), client)


def test_a_client_without_a_certificate_is_refused(certificates: Path) -> None:
    def client(connection: socket.socket) -> None:
        tls = TlsClient(connection, certificates, certificate=False)
        with contextlib.suppress(ConnectionError):
            tls.send(b"GET /_ping HTTP/1.1\r\n\r\n")
        with pytest.raises((ssl.SSLError, ConnectionError)):  # TLS 1.3 says so at the first read
            tls.read_until(b"\r\n")

    serve(certificates, Shim(), client)


def test_plain_http_on_a_tls_port_does_not_disturb(certificates: Path) -> None:
    def client(connection: socket.socket) -> None:
        connection.sendall(b"GET /_ping HTTP/1.1\r\n\r\n")
        while connection.recv(1 << 16):
            pass

    serve(certificates, Shim(), client, verify=False)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="could not load X509 key pair"):
        build_tls_context(Options(tls=True, tlscert=str(tmp_path / "no"), tlskey="x"))
