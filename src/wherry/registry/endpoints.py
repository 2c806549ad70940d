"""Where a registry is reached: mirrors, insecure registries, certificate folders, proxies. No requests here.

Rules are dockerd's: loopback is insecure by default; an insecure registry is tried by https without
verification, then by http; `certs.d/<host[:port]>/` holds `*.crt` (CAs) and `*.cert` + `*.key` (client certificates).
Beyond Docker, a mirror may serve another registry than docker.io: `--registry-mirror ghcr.io=https://cache`.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from wherry.model.errors import InvalidArgument

DOCKER_HUB = "docker.io"
_HUB_HOST = "registry-1.docker.io"
_HUB_ALIASES = frozenset({"docker.io", "index.docker.io", _HUB_HOST})

CERTIFICATE_FOLDERS = (Path("/etc/wherry/certs.d"), Path("/etc/docker/certs.d"))

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place to ask: `url` without a trailing slash. `verify_tls` is false for insecure registries."""

    url: str
    verify_tls: bool = True
    is_mirror: bool = False

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryConfig:
    """The engine's options about registries, parsed."""

    mirrors: Mapping[str, tuple[str, ...]]  # registry -> URLs, in order
    insecure_hosts: frozenset[str] = frozenset()  # host or host:port
    insecure_networks: tuple[_Network, ...] = ()
    certificate_folders: tuple[Path, ...] = CERTIFICATE_FOLDERS

    def endpoints_for(self, domain: str, addresses: Iterable[str] = ()) -> tuple[Endpoint, ...]:
        """Mirrors first, then the registry itself. `addresses` are what its name resolves to."""
        insecure = self.is_insecure(domain, addresses)
        mirrors = [
            endpoint
            for url in self.mirrors.get(domain, ())
            for endpoint in self._mirror_endpoints(url)
        ]
        return (*mirrors, *_origin_endpoints(domain, insecure=insecure))

    def _mirror_endpoints(self, url: str) -> tuple[Endpoint, ...]:
        host = urlsplit(url).netloc
        verify = not self.is_insecure(host, ())
        return (Endpoint(url=url, verify_tls=verify, is_mirror=True),)

    def is_insecure(self, domain: str, addresses: Iterable[str] = ()) -> bool:
        """Whether TLS may be missing or unverified: named so, or any of its addresses in an insecure network."""
        if domain in _HUB_ALIASES:
            return False
        host = split_host_port(domain)[0]
        if domain in self.insecure_hosts or host in self.insecure_hosts or host == "localhost":
            return True
        candidates = [parse_address(host), *(parse_address(address) for address in addresses)]
        return any(
            address in network
            for address in candidates
            if address is not None
            for network in (*_LOOPBACK, *self.insecure_networks)
            if network.version == address.version
        )


_LOOPBACK: tuple[_Network, ...] = (
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv6Network("::1/128"),
)


def build_registry_config(
    mirrors: Iterable[str] = (),
    insecure: Iterable[str] = (),
    certificate_folders: tuple[Path, ...] = CERTIFICATE_FOLDERS,
) -> RegistryConfig:
    """From the options' texts. Raises InvalidArgument with Docker's sentence."""
    mirrors_of: dict[str, list[str]] = {}
    for text in mirrors:
        registry, url = _parse_mirror(text)
        mirrors_of.setdefault(registry, []).append(url)
    hosts, networks = set(), []
    for text in insecure:
        entry = text.removeprefix("http://").removeprefix("https://").rstrip("/")
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            if not entry or "/" in entry:
                raise InvalidArgument(f"insecure registry {text} is not valid") from None
            hosts.add(entry.lower())
    return RegistryConfig(
        mirrors={registry: tuple(urls) for registry, urls in mirrors_of.items()},
        insecure_hosts=frozenset(hosts),
        insecure_networks=tuple(networks),
        certificate_folders=certificate_folders,
    )


def _parse_mirror(text: str) -> tuple[str, str]:
    registry, separator, rest = text.partition("=")
    if not separator or "/" in registry:
        registry, rest = DOCKER_HUB, text
    if registry in _HUB_ALIASES:
        registry = DOCKER_HUB
    parts = urlsplit(rest)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidArgument(
            f'invalid mirror: "{rest}" is not a valid URI: scheme must be http or https'
        )
    if parts.query or parts.fragment:
        raise InvalidArgument(f'invalid mirror: query or fragment at end of the URI "{rest}"')
    if parts.username is not None:
        raise InvalidArgument("invalid mirror: username/password not allowed in URI")
    return registry, rest.rstrip("/")


def _origin_endpoints(domain: str, *, insecure: bool) -> tuple[Endpoint, ...]:
    if domain in _HUB_ALIASES:
        return (Endpoint(url=f"https://{_HUB_HOST}"),)
    secure = Endpoint(url=f"https://{domain}", verify_tls=not insecure)
    return (secure, Endpoint(url=f"http://{domain}", verify_tls=False)) if insecure else (secure,)


def parse_url(url: str) -> SplitResult:
    """A URL of a person or a registry, whose host and port can be read. Raises InvalidArgument."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # both are read only now, and may raise
        if not host:
            raise ValueError("no host")
    except ValueError as exc:
        shown = url.partition("?")[0].rpartition("@")[2]
        raise InvalidArgument(f'parse "{shown}": {exc}') from exc
    return parts


def split_host_port(text: str) -> tuple[str, str]:
    """`[::1]:5000` → (`::1`, `5000`); the port may be empty."""
    parts = urlsplit(f"//{text}")
    host = parts.hostname or ""
    port = text.rpartition(":")[2] if text.rpartition(":")[2].isdecimal() else ""
    return host, "" if text.count(":") > 1 and not text.startswith("[") else port


def parse_address(text: str) -> _Address | None:
    """The IP address that `text` spells, IPv4 in IPv6 unwrapped; None for a name."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_loopback(host: str) -> bool:
    """Whether a host name or address without port means this machine."""
    address = parse_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def find_proxy(url: str, environment: Mapping[str, str]) -> str | None:
    """The proxy for a URL by Go's rules (httpproxy): HTTPS_PROXY or HTTP_PROXY, unless NO_PROXY excludes it."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if not host or is_loopback(host):
        return None
    name = "https_proxy" if parts.scheme == "https" else "http_proxy"
    proxy = environment.get(name.upper()) or environment.get(name)
    if not proxy:
        return None
    excluded = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if any(_excludes(entry.strip().lower(), host, port) for entry in excluded.split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _excludes(entry: str, host: str, port: int) -> bool:
    if entry in {"", "*"}:
        return entry == "*"
    address = parse_address(host)
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    else:
        return address is not None and address.version == network.version and address in network
    name, entry_port = split_host_port(entry)
    if entry_port and int(entry_port) != port:
        return False
    if parse_address(name) is not None:
        return parse_address(name) == address
    bare = name.removeprefix("*").removeprefix(".")
    exact_allowed = not name.startswith((".", "*."))
    return host.endswith(f".{bare}") or (exact_allowed and host == bare)


def build_tls_context(endpoint: Endpoint, folders: Iterable[Path]) -> ssl.SSLContext | bool:
    """How to speak TLS to an endpoint: True = the system's trust alone. Blocking: reads files.

    Raises InvalidArgument when a certificate folder holds a client certificate without its key.
    """
    found = [folder / endpoint.host for folder in folders]
    files = sorted(
        file for folder in found if folder.is_dir() for file in folder.iterdir() if file.is_file()
    )
    if endpoint.verify_tls and not files:
        return True
    context = ssl.create_default_context()
    if not endpoint.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for file in files:
        if file.suffix == ".crt":
            context.load_verify_locations(cafile=file)
        elif file.suffix == ".cert":
            key = file.with_suffix(".key")
            if not key.is_file():
                raise InvalidArgument(
                    f"missing key {key.name} for client certificate {file.name}."
                    " CA certificates must use the extension .crt"
                )
            context.load_cert_chain(file, key)
        elif file.suffix == ".key" and not file.with_suffix(".cert").is_file():
            raise InvalidArgument(
                f"missing client certificate {file.with_suffix('.cert').name} for key {file.name}"
            )
    return context
