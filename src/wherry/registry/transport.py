"""HTTP to registries, on aiohttp: redirects, proxies, TLS, and foreign exceptions mapped at this one seam.

aiohttp is imported at the first request (it costs 0.3 s and 20 MB, and many engines never pull). Redirects are
followed here, since a registry's credentials must not reach the storage host that it redirects to.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from wherry.lib.blocking import run_blocking
from wherry.model.errors import InvalidArgument
from wherry.registry.challenge import Challenge, parse_challenges
from wherry.registry.endpoints import (
    Endpoint,
    RegistryConfig,
    build_tls_context,
    find_proxy,
    parse_url,
)
from wherry.registry.errors import (
    ConnectionFailed,
    ContentMismatch,
    ResponseError,
    build_response_error,
)
from wherry.registry.retry import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp

USER_AGENT = "wherry"
MAX_REDIRECTS = 10
_MAX_ERROR_BODY = 64 * 1024
_READ_BUFFER = 512 * 1024
_CONNECT_TIMEOUT_S = 30
_STALL_TIMEOUT_S = 60

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_HARMLESS_PARAMETERS = frozenset(
    {"account", "client_id", "digest", "from", "last", "mount", "n", "q", "scope", "service"}
)

# OpenSSL's X509_V_ERR_* that have a wording of their own in Go's crypto/x509.
_CERTIFICATE_REASONS = {
    9: "certificate has expired or is not yet valid",
    10: "certificate has expired or is not yet valid",
    18: "certificate signed by unknown authority",
    19: "certificate signed by unknown authority",
    20: "certificate signed by unknown authority",
    21: "certificate signed by unknown authority",
}


class Response:
    """One answer; its body is read at most once."""

    def __init__(self, method: str, url: str, answer: aiohttp.ClientResponse) -> None:
        self.method = method
        self.url = url
        self.status = answer.status
        self._answer = answer

    def header(self, name: str) -> str:
        """The first field of that name, or an empty string."""
        return self._answer.headers.get(name, "")

    @property
    def challenges(self) -> tuple[Challenge, ...]:
        return parse_challenges(self._answer.headers.getall("WWW-Authenticate", []))

    @property
    def content_length(self) -> int | None:
        return self._answer.content_length

    def location(self) -> str:
        """The absolute URL of the Location field; a registry's upload sessions are found by it."""
        target = self.header("Location")
        if not target:
            raise ContentMismatch(f"answer of {self.method} {redact(self.url)} has no Location")
        try:
            url = urljoin(self.url, target)
            parse_url(url)
        except (ValueError, InvalidArgument) as exc:
            shown = redact(self.url)
            raise ContentMismatch(
                f"answer of {self.method} {shown} has a malformed Location: {exc}"
            ) from exc
        return url

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises ContentMismatch when it is longer than `limit` bytes."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise ContentMismatch(
                    f"answer of {self.method} {redact(self.url)} is longer than {limit} bytes"
                )
        return bytes(body)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ConnectionFailed when it ends before its Content-Length."""
        with _mapped(self.method, self.url):
            async for chunk in self._answer.content.iter_any():
                yield chunk

    async def error(self) -> ResponseError:
        """The failure that this answer stands for."""
        try:
            body = await self.read(_MAX_ERROR_BODY)
        except (ConnectionFailed, ContentMismatch):
            body = b""
        retry_after = parse_retry_after(self.header("Retry-After"), datetime.now(UTC))
        return build_response_error(self.status, body, self.challenges, retry_after)


class Transport:
    """One connection pool for all registries. `close()` when the engine stops."""

    def __init__(
        self, config: RegistryConfig, environment: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self._environment = os.environ if environment is None else environment
        self._session: aiohttp.ClientSession | None = None
        self._tls: dict[tuple[str, bool], ssl.SSLContext | bool] = {}

    async def close(self) -> None:
        """Closes all connections. Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def request(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] | None = None,
        body_size: int | None = None,
        authorization: str = "",
    ) -> AsyncIterator[Response]:
        """Sends one request and follows redirects; any final status is an answer, not an exception.

        `authorization` goes to hosts of `url`'s origin only. A streamed body is never sent twice: a redirect
        of such a request is returned as it is.
        """
        session = await self._open_session()
        first = url
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        sent.update(headers or {})
        if body_size is not None:
            sent["Content-Length"] = str(body_size)
        for _ in range(MAX_REDIRECTS + 1):
            allowed = {"Authorization": authorization} if authorization else {}
            if not same_origin(first, url):
                allowed = {}
            answer = await self._send(session, endpoint, method, url, {**sent, **allowed}, body)
            try:
                response = Response(method, url, answer)
                if answer.status not in _REDIRECTS or not _can_follow(method, body):
                    yield response
                    await _drain(answer)
                    return
                target = response.location()
                await _drain(answer)
            finally:
                # No effect on a drained answer, whose connection is back in the pool by now.
                answer.close()
            if urlsplit(target).scheme not in {"http", "https"}:
                raise ContentMismatch(f"redirect of {redact(url)} to {redact(target)} refused")
            url = target
        raise ContentMismatch(
            f'{method.capitalize()} "{redact(first)}": stopped after {MAX_REDIRECTS} redirects'
        )

    async def _send(
        self,
        session: aiohttp.ClientSession,
        endpoint: Endpoint,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes] | None,
    ) -> aiohttp.ClientResponse:
        from yarl import URL

        tls = await self._tls_for(endpoint, url)
        with _mapped(method, url):
            return await session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=body,
                ssl=tls,
                proxy=find_proxy(url, self._environment),
                allow_redirects=False,
            )

    async def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=0),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_STALL_TIMEOUT_S
                ),
                auto_decompress=False,
                read_bufsize=_READ_BUFFER,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _tls_for(self, endpoint: Endpoint, url: str) -> ssl.SSLContext | bool:
        if urlsplit(url).scheme != "https":
            return True
        # Certificates of a registry are for that registry: a storage or token host has its own folder.
        host = urlsplit(url).netloc
        same = host == endpoint.host
        verify = endpoint.verify_tls if same else not self.config.is_insecure(host)
        key = (host, verify)
        if key not in self._tls:
            target = Endpoint(url=f"https://{host}", verify_tls=verify)
            self._tls[key] = await run_blocking(
                build_tls_context, target, self.config.certificate_folders
            )
        return self._tls[key]


async def _drain(answer: aiohttp.ClientResponse) -> None:
    """Reads what is left of a short body, so that the connection can be used again."""
    import aiohttp

    length = answer.content_length
    if answer.content.at_eof() or (length is not None and length <= _MAX_ERROR_BODY):
        with suppress(aiohttp.ClientError, OSError):
            await answer.read()


def _can_follow(method: str, body: bytes | AsyncIterable[bytes] | None) -> bool:
    return method in {"GET", "HEAD"} and body is None


def same_origin(one: str, other: str) -> bool:
    """Whether both URLs have the same scheme, host and port."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str, int]:
    try:
        parts = parse_url(url)
    except InvalidArgument:
        return url, "", 0  # that of nothing else
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname or "", parts.port or default


def redact(url: str) -> str:
    """As messages may show it: without user and password, and without what presigned URLs carry."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a malformed URL"
    host = parts.netloc.rpartition("@")[2]
    shown = [
        (name, value if name in _HARMLESS_PARAMETERS else "REDACTED")
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    query = f"?{urlencode(shown, safe=':/')}" if shown else ""
    return f"{parts.scheme}://{host}{parts.path}{query}"


def name_server() -> str:
    """The first resolver of this machine, which Go names when a look-up fails; empty when there is none."""
    try:
        text = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE)
    if found is None:
        return ""
    return f"[{found[1]}]:53" if ":" in found[1] else f"{found[1]}:53"


@contextmanager
def _mapped(method: str, url: str) -> Iterator[None]:
    import aiohttp

    shown = redact(url)
    try:
        yield
    except aiohttp.ClientConnectorDNSError as exc:
        server = name_server()
        asked = f" on {server}" if server else ""
        reason = f"dial tcp: lookup {exc.host}{asked}: no such host"
        raise ConnectionFailed(method, shown, reason, refused=True) from exc
    except aiohttp.ClientConnectorCertificateError as exc:
        reason = describe_tls_error(exc.certificate_error, exc.host)
        raise ConnectionFailed(method, shown, reason, refused=True) from exc
    except aiohttp.ClientConnectorSSLError as exc:
        reason = describe_tls_error(exc.os_error, exc.host)
        raise ConnectionFailed(method, shown, reason, refused=True) from exc
    except aiohttp.ClientProxyConnectionError as exc:
        reason = f"proxyconnect tcp: {_describe_dial(exc)}"
        raise ConnectionFailed(method, shown, reason, refused=True) from exc
    except aiohttp.ClientConnectorError as exc:
        raise ConnectionFailed(method, shown, _describe_dial(exc), refused=True) from exc
    except aiohttp.ConnectionTimeoutError as exc:
        raise ConnectionFailed(method, shown, "dial tcp: i/o timeout", refused=True) from exc
    except TimeoutError as exc:
        raise ConnectionFailed(method, shown, "i/o timeout", refused=False) from exc
    except aiohttp.ClientPayloadError as exc:
        raise ConnectionFailed(method, shown, "unexpected EOF", refused=False) from exc
    except aiohttp.ServerDisconnectedError as exc:
        raise ConnectionFailed(method, shown, "EOF", refused=False) from exc
    except aiohttp.ClientResponseError as exc:
        reason = f"malformed HTTP response: {exc.message}"
        raise ConnectionFailed(method, shown, reason, refused=False) from exc
    except aiohttp.ClientOSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise ConnectionFailed(method, shown, reason, refused=False) from exc
    except (aiohttp.InvalidURL, ValueError) as exc:
        raise ConnectionFailed(method, shown, f"invalid URL: {exc}", refused=True) from exc
    except aiohttp.ClientError as exc:
        raise ConnectionFailed(method, shown, str(exc), refused=False) from exc


def _describe_dial(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    text = os.strerror(cause.errno).lower() if cause.errno and cause.errno > 0 else str(cause)
    host = f"[{error.host}]" if ":" in error.host else error.host
    return f"dial tcp {host}:{error.port}: connect: {text}"


def describe_tls_error(error: BaseException, host: str) -> str:
    """Go's wording of a failed handshake; people search for these sentences."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in {62, 64}:
            return f"tls: failed to verify certificate: x509: certificate is not valid for {host}"
        reason = _CERTIFICATE_REASONS.get(error.verify_code, error.verify_message)
        return f"tls: failed to verify certificate: x509: {reason}"
    if isinstance(error, ssl.SSLError) and error.reason in {
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
        "PACKET_LENGTH_TOO_LONG",
    }:
        return "http: server gave HTTP response to HTTPS client"
    return f"remote error: tls: {error}"
