"""Who we are to a registry: credentials as clients send them, and the answers to challenges.

Implements distribution's token flows (docs/spec/auth/token: GET with basic authentication; docs/spec/auth/oauth:
POST with a refresh token or a password) and HTTP basic. Tokens are kept per scope until they expire.
Secrets have a redacting `repr` and are sent only to the registry itself and to the realm that it names.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from wherry.lib.jsonvalue import JsonError, JsonObject, JsonValue, get_object, get_str
from wherry.model.errors import InvalidArgument
from wherry.registry.challenge import Challenge, merge_scopes
from wherry.registry.endpoints import DOCKER_HUB, Endpoint, parse_url
from wherry.registry.errors import ContentMismatch, NoCredentials, ResponseError, TokenRefused
from wherry.registry.transport import Response, Transport, redact

CLIENT_ID = "wherry"
_MAX_TOKEN_BODY = 1024 * 1024
_DEFAULT_EXPIRY_S = 60  # docs/spec/auth/token: "if omitted, this defaults to 60 seconds"
_EXPIRY_MARGIN_S = 10
_TOKEN_USER = "<token>"  # docker/cli stores identity tokens under this user name


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Docker's AuthConfig. At most one way is used: registry token, identity token, user and password."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server_address: str = ""

    @property
    def basic(self) -> str:
        """The Authorization field of HTTP basic, or an empty string."""
        if not self.username or self.username == _TOKEN_USER:
            return ""
        return encode_basic(self.username, self.password)


ANONYMOUS = Credentials()


def encode_basic(username: str, password: str) -> str:
    """RFC 7617, UTF-8."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


def _decode_header(header: str) -> JsonObject:
    text = header.strip().replace("+", "-").replace("/", "_").rstrip("=")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        document: JsonValue = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def parse_credentials(document: JsonObject) -> Credentials:
    """From the JSON of an AuthConfig (X-Registry-Auth, POST /auth). Raises JsonError."""
    username, password = get_str(document, "username"), get_str(document, "password")
    if not username and get_str(document, "auth"):
        try:
            pair = base64.b64decode(get_str(document, "auth")).decode()
        except ValueError as exc:
            raise JsonError("auth: expected base64 of user:password") from exc
        username, _, password = pair.partition(":")
    return Credentials(
        username=username,
        password=password.rstrip("\0"),
        identity_token=get_str(document, "identitytoken"),
        registry_token=get_str(document, "registrytoken"),
        server_address=get_str(document, "serveraddress"),
    )


def decode_registry_auth(header: str) -> Credentials:
    """`X-Registry-Auth`: base64url of JSON. Garbage means anonymous, as in dockerd."""
    try:
        return parse_credentials(_decode_header(header))
    except JsonError:
        return ANONYMOUS


def decode_registry_config(header: str) -> dict[str, Credentials]:
    """`X-Registry-Config` of a build: credentials by registry."""
    document = _decode_header(header)
    found = {}
    for registry in document:
        try:
            found[normalize_server(registry)] = parse_credentials(get_object(document, registry))
        except JsonError:
            continue
    return found


def normalize_server(address: str) -> str:
    """The registry of a server address: `https://index.docker.io/v1/` is docker.io."""
    host = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DOCKER_HUB if host in {"", "index.docker.io", "registry-1.docker.io"} else host


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    text: str = field(repr=False)
    expires_at: float


class Authorizer:
    """Answers one endpoint's challenges for one user. Learns the scheme from the first 401.

    With `offline` (a login) the token server is asked for a refresh token, found in `refresh_token` after.
    """

    def __init__(
        self,
        transport: Transport,
        endpoint: Endpoint,
        credentials: Credentials = ANONYMOUS,
        clock: Callable[[], float] = time.monotonic,
        *,
        offline: bool = False,
    ) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._credentials = credentials
        self._clock = clock
        self._offline = offline
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self.refresh_token = credentials.identity_token

    async def authorization(self, scopes: Iterable[str]) -> str:
        """The Authorization field for a request; empty while no challenge has come."""
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        if self._challenge is None:
            return ""
        if self._challenge.scheme == "basic":
            return self._credentials.basic
        key = merge_scopes(scopes)
        token = self._tokens.get(key)
        if token is None or token.expires_at <= self._clock():
            token = await self._fetch_token(self._challenge, key)
            self._tokens[key] = token
        return f"Bearer {token.text}"

    async def learn(self, response: Response, scopes: Iterable[str]) -> bool:
        """After a 401: whether another try with `authorization()` may succeed.

        Raises NoCredentials when the registry wants a password and there is none.
        """
        by_scheme = {challenge.scheme: challenge for challenge in reversed(response.challenges)}
        chosen = by_scheme.get("bearer") or by_scheme.get("basic")
        if chosen is None or self._credentials.registry_token:
            return False
        if chosen.scheme == "basic" and not self._credentials.basic:
            raise NoCredentials(_docker_method(response), redact(response.url))
        forgotten = self._tokens.pop(merge_scopes(scopes), None)
        again = self._challenge is None or forgotten is not None
        self._challenge = chosen
        return again

    async def _fetch_token(self, challenge: Challenge, scopes: tuple[str, ...]) -> _Token:
        realm = challenge.parameters.get("realm", "")
        self._check_realm(realm)
        service = challenge.parameters.get("service", "")
        if self.refresh_token:
            return await self._post_token(realm, service, scopes)
        try:
            return await self._get_token(realm, service, scopes)
        except ResponseError as exc:
            if exc.status not in {404, 405} or not self._credentials.basic:
                raise
        return await self._post_token(realm, service, scopes)

    def _check_realm(self, realm: str) -> None:
        try:
            parts = parse_url(realm)
        except InvalidArgument as exc:
            raise ContentMismatch(f"registry names no usable token realm: {exc}") from exc
        if parts.scheme not in {"http", "https"}:
            raise ContentMismatch(f'registry names no usable token realm: "{redact(realm)}"')
        secret = self._credentials.basic or self.refresh_token
        downgrade = parts.scheme == "http" and self._endpoint.url.startswith("https:")
        if secret and downgrade and self._endpoint.verify_tls:
            raise ContentMismatch(
                f"registry asks to send the password in the clear, to {redact(realm)}: refused"
            )

    async def _get_token(self, realm: str, service: str, scopes: tuple[str, ...]) -> _Token:
        query = [("scope", scope) for scope in scopes]
        if service:
            query.append(("service", service))
        if self._credentials.basic:
            query.append(("account", self._credentials.username))
            query.append(("client_id", CLIENT_ID))
            if self._offline:
                query.append(("offline_token", "true"))
        separator = "&" if urlsplit(realm).query else "?"
        url = f"{realm}{separator}{urlencode(query)}" if query else realm
        async with self._transport.request(
            self._endpoint, "GET", url, authorization=self._credentials.basic
        ) as response:
            return await self._read_token(response)

    async def _post_token(self, realm: str, service: str, scopes: tuple[str, ...]) -> _Token:
        form = [("service", service), ("client_id", CLIENT_ID)]
        if scopes:
            form.append(("scope", " ".join(scopes)))
        if self.refresh_token:
            form += [("grant_type", "refresh_token"), ("refresh_token", self.refresh_token)]
        else:
            form += [
                ("grant_type", "password"),
                ("username", self._credentials.username),
                ("password", self._credentials.password),
                ("access_type", "offline"),
            ]
        async with self._transport.request(
            self._endpoint,
            "POST",
            realm,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode("ascii"),
        ) as response:
            return await self._read_token(response)

    async def _read_token(self, response: Response) -> _Token:
        if response.status >= 300:
            raise TokenRefused.of(await response.error())
        body = await response.read(_MAX_TOKEN_BODY)
        try:
            document: JsonValue = json.loads(body)
            if not isinstance(document, dict):
                raise JsonError("expected an object")
            text = get_str(document, "token") or get_str(document, "access_token")
            expires_in = document.get("expires_in")
            refresh = get_str(document, "refresh_token")
        except (ValueError, RecursionError) as exc:
            raise ContentMismatch(f"unable to decode token response: {exc}") from exc
        if not text:
            raise ContentMismatch("authorization server did not include a token in the response")
        if refresh:
            self.refresh_token = refresh
        seconds = expires_in if isinstance(expires_in, (int, float)) else 0
        lifetime = max(seconds, _DEFAULT_EXPIRY_S) - _EXPIRY_MARGIN_S
        return _Token(text=text, expires_at=self._clock() + lifetime)


def _docker_method(response: Response) -> str:
    """Docker asks for a tag with HEAD first, and so it says in its messages."""
    _, found, reference = response.url.partition("/manifests/")
    return "HEAD" if found and ":" not in reference else response.method
