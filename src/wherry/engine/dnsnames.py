"""What a container is called on networks with names; `engine.resolvers` answers to these names. Pure."""

from __future__ import annotations

from dataclasses import replace

from wherry.model.container import Container, Endpoint, EndpointConfig


def build_dns_names(container: Container, config: EndpointConfig) -> tuple[str, ...]:
    """In Docker's order: the name, aliases, the short id, the host name."""
    names = [container.name, *(config.aliases or ()), container.id[:12]]
    if container.config.hostname:
        names.append(container.config.hostname)
    return tuple(dict.fromkeys(names))


def rename_endpoint(container: Container, endpoint: Endpoint) -> Endpoint:
    """An endpoint of a container that has a new name."""
    if endpoint.dns_names is None:
        return endpoint
    return replace(endpoint, dns_names=build_dns_names(container, endpoint.config))
