"""What a verb works with: the engine's client, made when first used, and the user's configuration.

The engine's address is -H, WHERRY_HOST, DOCKER_HOST, or the default socket, where an engine is
started if none answers.
"""

from __future__ import annotations

import os

from wherry.client.client import DEFAULT_ADDRESS, Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.config import UserConfig


class Session:
    """Global options and what follows from them."""

    __slots__ = (
        "_client",
        "_config",
        "ca",
        "cert",
        "config_dir",
        "debug",
        "host",
        "key",
        "tls",
        "verify",
    )

    def __init__(self) -> None:
        self.host = ""
        self.debug = False
        self.tls = False
        self.verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
        self.ca = ""
        self.cert = ""
        self.key = ""
        self.config_dir = os.environ.get("DOCKER_CONFIG", "")
        self._client: Client | None = None
        self._config: UserConfig | None = None

    @property
    def client(self) -> Client:
        """The client of the engine."""
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def close(self) -> None:
        """Ends idle connections."""
        if self._client is not None:
            self._client.close()

    @property
    def config(self) -> UserConfig:
        """The user's config.json."""
        if self._config is None:
            from wherry.cli.config import UserConfig

            self._config = UserConfig(self.config_path)
        return self._config

    @property
    def config_path(self) -> str:
        """Where the user's config.json is."""
        folder = self.config_dir or os.path.join(os.environ.get("HOME", "/root"), ".docker")
        return os.path.join(folder, "config.json")

    @property
    def has_config(self) -> bool:
        """True if the user has a config.json; asking is cheaper than reading it."""
        return os.path.exists(self.config_path)

    @property
    def address(self) -> str:
        """The address of the engine."""
        host = (
            self.host or os.environ.get("WHERRY_HOST") or os.environ.get("DOCKER_HOST") or ""
        ).strip()
        if not host:
            return DEFAULT_ADDRESS
        if "://" not in host:
            host = "tcp://" + ("localhost" if host.startswith(":") else "") + host
        return host

    def _make_client(self) -> Client:
        address = self.address
        if address == DEFAULT_ADDRESS:
            from wherry.cli.autostart import start_engine

            return Client(address, on_absent=start_engine)
        tls = None
        if address.startswith("tcp://") and (self.tls or self.verify):
            from wherry.client.transport import TlsFiles

            folder = os.environ.get("DOCKER_CERT_PATH") or os.path.dirname(self.config_path)
            authority = self.ca or os.path.join(folder, "ca.pem")
            certificate = self.cert or os.path.join(folder, "cert.pem")
            tls = TlsFiles(
                authority if os.path.exists(authority) else "",
                certificate if os.path.exists(certificate) else "",
                self.key or os.path.join(folder, "key.pem"),
                verify=self.verify,
            )
        client = Client(address, tls=tls)
        if self.has_config:
            client.transport.headers.update(self.config.http_headers())
        return client
