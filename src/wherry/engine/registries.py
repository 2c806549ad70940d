"""Registries as the engine reaches them: clients by registry and user, login, search.

Owns the connection pool and the options; knows nothing of images. Credentials of a registry are never given to
its mirrors.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from wherry.lib.jsonvalue import JsonObject
from wherry.model.errors import (
    EngineError,
    Forbidden,
    Internal,
    NotFound,
    Unauthorized,
    Unavailable,
)
from wherry.registry.auth import ANONYMOUS, Credentials, normalize_server
from wherry.registry.client import RegistryClient
from wherry.registry.endpoints import (
    DOCKER_HUB,
    Endpoint,
    RegistryConfig,
    parse_address,
    parse_url,
    split_host_port,
)
from wherry.registry.errors import (
    ConnectionFailed,
    NoCredentials,
    RegistryFailure,
    ResponseError,
    TokenRefused,
    format_status,
)
from wherry.registry.retry import RetryPolicy
from wherry.registry.transport import Transport

Answer = TypeVar("Answer")

_SEARCH_HOST = "https://index.docker.io"
_LOOKUP_TIMEOUT_S = 5

# distribution's errcode table (HTTPStatusCode), as kinds.
_KINDS: dict[str, type[EngineError]] = {
    "UNAUTHORIZED": Unauthorized,
    "DENIED": Forbidden,
    "MANIFEST_UNKNOWN": NotFound,
    "NAME_UNKNOWN": NotFound,
    "BLOB_UNKNOWN": NotFound,
    "TOOMANYREQUESTS": Unavailable,
    "UNAVAILABLE": Unavailable,
}


def translate_failure(failure: RegistryFailure) -> EngineError:
    """A failure whose wording needs no reference, as a kind."""
    kind = _KINDS.get(failure.code, Internal) if isinstance(failure, ResponseError) else Internal
    sentence = (
        str(failure.errors[0]) if isinstance(failure, ResponseError) and failure.errors else ""
    )
    return kind(sentence or str(failure))


class Registries:
    """One engine's way to all registries. `close()` when the engine stops."""

    def __init__(
        self,
        config: RegistryConfig,
        policy: RetryPolicy | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` says which proxies to use; the process's own by default."""
        self.config = config
        self.policy = policy or RetryPolicy()
        self._transport = Transport(config, environment)

    def use(self, config: RegistryConfig) -> None:
        """From now on; what is under way goes on as it began."""
        self.config = self._transport.config = config

    async def close(self) -> None:
        """Closes all connections. Idempotent."""
        await self._transport.close()

    async def clients(
        self, domain: str, credentials: Credentials = ANONYMOUS, *, mirrors: bool = True
    ) -> list[RegistryClient]:
        """Whom to ask for a registry, in order: mirrors (only for reading), then the registry itself."""
        parse_url(f"https://{domain}")
        endpoints = self.config.endpoints_for(domain, await self._resolve(domain))
        return [
            RegistryClient(
                self._transport, endpoint, ANONYMOUS if endpoint.is_mirror else credentials
            )
            for endpoint in endpoints
            if mirrors or not endpoint.is_mirror
        ]

    async def _resolve(self, domain: str) -> tuple[str, ...]:
        host, _ = split_host_port(domain)
        if (
            domain == DOCKER_HUB
            or parse_address(host) is not None
            or self.config.is_insecure(domain)
        ):
            return ()
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
                found = await asyncio.get_running_loop().getaddrinfo(
                    host, None, type=socket.SOCK_STREAM
                )
        except (OSError, TimeoutError, UnicodeError):  # UnicodeError: no name that DNS could know
            return ()  # a proxy may know the name; the request itself says so otherwise
        return tuple(str(entry[4][0]) for entry in found)

    async def first_that_answers(
        self,
        clients: list[RegistryClient],
        ask: Callable[[RegistryClient], Awaitable[Answer]],
    ) -> tuple[RegistryClient, Answer]:
        """The first client whose answer is not a failure, and that answer.

        When all fail, the last one's failure counts, as in Docker; but what a mirror answered is worth more
        than that the registry behind it cannot be reached (an engine without a way out has nothing else).
        """
        failures: list[RegistryFailure] = []
        for client in clients:
            try:
                return client, await ask(client)
            except RegistryFailure as failure:
                failures.append(_as_ping(client, failure))
                if not _may_go_on(client, failure):
                    break
        answered = [failure for failure in failures if not isinstance(failure, ConnectionFailed)]
        raise (answered or failures)[-1]

    @asynccontextmanager
    async def open_url(self, url: str) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """The whole URL and its content, for `docker import URL`. Raises EngineError, in the block too."""
        whole = url if "://" in url else f"http://{url}"
        if whole in {"http://", "https://"}:
            raise Internal(f'Get "{whole.rstrip("/")}": http: no Host in request URL')
        scheme = whole.partition("://")[0].lower()
        if scheme not in {"http", "https"}:
            raise Internal(f'Get "{whole}": unsupported protocol scheme "{scheme}"')
        parts = parse_url(whole)
        endpoint = Endpoint(url=f"{parts.scheme}://{parts.netloc}")
        try:
            async with self._transport.request(endpoint, "GET", whole) as response:
                if response.status >= 400:
                    status = format_status(response.status)
                    kind = NotFound if response.status == 404 else Internal
                    raise kind(f"failed to GET {whole} with status {status}")
                yield whole, response.chunks()
        except RegistryFailure as failure:
            raise translate_failure(failure) from failure

    async def login(self, credentials: Credentials) -> str:
        """Whether the registry takes these credentials; returns an identity token or an empty string."""
        domain = normalize_server(credentials.server_address)
        parse_url(f"https://{domain}")
        last: RegistryFailure | None = None
        for endpoint in self.config.endpoints_for(domain, await self._resolve(domain)):
            if endpoint.is_mirror:
                continue
            client = RegistryClient(self._transport, endpoint, credentials, offline=True)
            try:
                await client.ping()
            except ConnectionFailed as failure:
                last = failure
            except RegistryFailure as failure:
                raise _login_error(endpoint, failure) from failure
            else:
                return client.refresh_token
        raise Internal(str(last)) from last

    async def search(
        self, term: str, limit: int, credentials: Credentials = ANONYMOUS
    ) -> JsonObject:
        """What the registry named by `host/term`, or Docker Hub, finds. Raises EngineError."""
        domain, slash, rest = term.partition("/")
        named = bool(slash) and ("." in domain or ":" in domain or domain == "localhost")
        if named:
            clients = await self.clients(domain, credentials, mirrors=False)
        else:
            hub = Endpoint(url=_SEARCH_HOST)
            clients = [RegistryClient(self._transport, hub, credentials)]
        query = rest if named else term.removeprefix("library/")
        try:
            _, answer = await self.first_that_answers(
                clients, lambda client: client.search(query, limit)
            )
        except RegistryFailure as failure:
            raise translate_failure(failure) from failure
        return answer


def _as_ping(client: RegistryClient, failure: RegistryFailure) -> RegistryFailure:
    """Docker asks for /v2/ before anything else, so that is what it could not get."""
    if (
        isinstance(failure, ConnectionFailed)
        and failure.refused
        and failure.url.startswith(f"{client.endpoint.url}/v2/")
    ):
        return ConnectionFailed("GET", f"{client.endpoint.url}/v2/", failure.reason, refused=True)
    return failure


def _may_go_on(client: RegistryClient, failure: RegistryFailure) -> bool:
    if client.endpoint.is_mirror:
        return True
    # From https to http of an insecure registry only when there is no TLS to speak to: an answer is an answer.
    return isinstance(failure, ConnectionFailed)


def _login_error(endpoint: Endpoint, failure: RegistryFailure) -> EngineError:
    url = f"{endpoint.url}/v2/"
    if isinstance(failure, NoCredentials):
        return Internal(str(failure))
    if isinstance(failure, TokenRefused):
        return Unauthorized(f'Get "{url}": {failure}')
    if isinstance(failure, ResponseError):
        status = format_status(failure.status)
        return Internal(f"login attempt to {url} failed with status: {status}")
    return Internal(str(failure))
