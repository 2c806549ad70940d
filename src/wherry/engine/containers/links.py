"""`--link` on the default bridge: who is linked under which name, in /etc/hosts, variables and lists.

On a network that users made a link is the resolver's business (`engine.networks`); nothing here looks at it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from wherry.engine.containers.handle import ContainerHandle, Roster
from wherry.engine.containers.state import ALIVE
from wherry.model.container import Container, HostConfig
from wherry.model.errors import Internal, InvalidArgument
from wherry.network.ports import parse_container_port

HOST_MODE = (
    "conflicting options: host type networking can't be used with links. "
    "This would result in undefined behavior"
)
_BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Link:
    """One linked container, as its `parent` calls it."""

    parent: Container
    alias: str
    child: Container

    @property
    def path(self) -> str:
        """The name that the child has besides its own."""
        return f"/{self.parent.name}/{self.alias}"

    @property
    def hosts_line(self) -> str:
        """The line of the parent's /etc/hosts; "" for a child without an address."""
        names = dict.fromkeys((self.alias, self.child.config.hostname, self.child.name))
        address = _address(self.child)
        return f"{address}\t{' '.join(names)}\n" if address else ""

    def owns(self, line: str) -> bool:
        """Whether that is such a line, also one that was written before the child was renamed."""
        return line.split()[1:2] == [self.alias]


def pin_links(roster: Roster, host_config: HostConfig) -> HostConfig:
    """Links by id, which a new name does not change. Raises Internal, InvalidArgument."""
    pinned = []
    for text in host_config.links:
        ref, alias = _parse(text)
        child = _find_network_owner(roster, ref)
        if child is None:
            raise InvalidArgument(f"could not get container for {ref}: No such container: {ref}")
        if child.record.host_config.network_mode == "host":
            raise InvalidArgument(HOST_MODE)
        pinned.append(f"{child.id}:{alias}")
    return replace(host_config, links=tuple(pinned)) if pinned else host_config


def _find_network_owner(roster: Roster, ref: str) -> ContainerHandle | None:
    """A container, or that in whose network it is."""
    found = roster.find(ref)
    while found is not None and found.record.host_config.network_mode.startswith("container:"):
        found = roster.find(found.record.host_config.network_mode.partition(":")[2])
    return found


def _parse(text: str) -> tuple[str, str]:
    if not text:
        raise Internal("empty string specified for links")
    ref, *rest = text.split(":")
    if len(rest) > 1:
        raise Internal(f"bad format for links: {text}")
    alias = rest[0] if rest else ref
    if ref.startswith("/"):  # as an inspect shows it: /child:/parent/alias
        return ref[1:], alias.rpartition("/")[2]
    return ref, alias


def find_links(roster: Roster, parent: Container) -> list[Link]:
    """Those whose containers are there."""
    if parent.host_config.network_mode != _BRIDGE:
        return []
    found = []
    for text in parent.host_config.links:
        ref, alias = _parse(text)
        child = roster.find(ref)
        if child is not None:
            found.append(Link(parent, alias, child.record))
    return found


def drop_link(parent: Container, alias: str) -> HostConfig | None:
    """Without the link of that name; None when there is none."""
    kept = tuple(text for text in parent.host_config.links if _parse(text)[1] != alias)
    if kept == parent.host_config.links:
        return None
    return replace(parent.host_config, links=kept)


def check_links(roster: Roster, parent: Container) -> None:
    """Raises Internal when a linked container does not run, or not on the default bridge."""
    for link in find_links(roster, parent):
        if link.child.state.status not in ALIVE:
            raise Internal(
                f"Cannot link to a non running container: /{link.child.name} AS {link.path}"
            )
        if _BRIDGE not in link.child.endpoints:
            raise Internal(f"container {link.child.id} not attached to default bridge network")


def find_parents(roster: Roster, child: Container) -> list[Link]:
    """All links to a container."""
    return [
        link
        for handle in roster
        if handle.record.host_config.links
        for link in find_links(roster, handle.record)
        if link.child.id == child.id
    ]


def find_paths(roster: Roster) -> Mapping[str, Sequence[str]]:
    """The further names of all linked containers, by id."""
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for handle in roster:
        if handle.record.host_config.links:
            for link in find_links(roster, handle.record):
                paths[link.child.id].append(link.path)
    return paths


def with_link_environment(roster: Roster, parent: Container) -> Container:
    """Where the linked containers are, as variables before the container's own."""
    found: list[str] = []
    for link in find_links(roster, parent):
        address = _address(link.child)
        if address:
            found += describe_link(parent.name, link.alias, link.child, address)
    if not found:
        return parent
    return replace(parent, config=replace(parent.config, env=(*found, *parent.config.env)))


def _address(child: Container) -> str:
    endpoint = child.endpoints.get(_BRIDGE)
    return endpoint.ip_address if endpoint is not None else ""


def describe_link(name: str, alias: str, other: Container, address: str) -> list[str]:
    """Docker's variables of one link (libnetwork's predecessor, daemon/links/links.go)."""
    prefix = re.sub(r"[^A-Z0-9_]", "_", alias.upper())
    found = [f"{prefix}_NAME=/{name}/{alias}"]
    ports = sorted(parse_container_port(port) for port in other.config.exposed_ports)
    for position, (number, protocol) in enumerate(ports):
        url = f"{protocol}://{address}:{number}"
        if position == 0:
            found.append(f"{prefix}_PORT={url}")
        port = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found += [
            f"{port}={url}",
            f"{port}_ADDR={address}",
            f"{port}_PORT={number}",
            f"{port}_PROTO={protocol}",
        ]
    for entry in other.config.env:
        variable, separator, value = entry.partition("=")
        if separator and variable not in {"HOME", "PATH"}:
            found.append(f"{prefix}_ENV_{variable}={value}")
    return found
