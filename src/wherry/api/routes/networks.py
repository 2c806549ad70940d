"""Routes of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.convert.networks import build_network, parse_endpoint, parse_ipam
from wherry.api.matching import match_networks, match_pruned_networks
from wherry.api.message import NO_CONTENT, Answer, Request, Response, json_response
from wherry.api.parameters import parse_filters
from wherry.api.router import Route
from wherry.model.errors import InvalidArgument, NotSupported
from wherry.wire import networks as wire

if TYPE_CHECKING:
    from wherry.engine.connections import Connections
    from wherry.engine.networks import Networks


class NetworkRoutes:
    """Handlers over the network service."""

    def __init__(self, networks: Networks, connections: Connections) -> None:
        self._networks = networks
        self._connections = connections

    def routes(self) -> tuple[Route, ...]:
        """The table."""
        return (
            Route("GET", "/networks", self.list_all),
            Route("GET", "/networks/", self.list_all),
            Route("POST", "/networks/create", self.create),
            Route("POST", "/networks/prune", self.prune),
            Route("GET", "/networks/{id}", self.inspect),
            Route("DELETE", "/networks/{id}", self.remove),
            Route("POST", "/networks/{id}/connect", self.connect),
            Route("POST", "/networks/{id}/disconnect", self.disconnect),
        )

    async def list_all(self, request: Request) -> Answer:
        """GET /networks."""
        matches = match_networks(
            parse_filters(request.query), lambda network: bool(self._networks.members(network.id))
        )
        return json_response(
            [build_network(network) for network in self._networks.list_all() if matches(network)]
        )

    async def inspect(self, request: Request) -> Answer:
        """GET /networks/{id}."""
        network = self._networks.get(request.params["id"])
        return json_response(build_network(network, self._networks.members(network.id)))

    async def create(self, request: Request) -> Answer:
        """POST /networks/create."""
        body = await request.required_json(wire.CreateRequest)
        if not body.name.strip():
            raise InvalidArgument("invalid name: name is empty")
        if body.scope == "swarm" or body.ingress or body.config_only:
            raise NotSupported("this engine has no swarm networks")
        if body.enable_ipv4 is False and not body.enable_ipv6:
            raise InvalidArgument("IPv4 or IPv6 must be enabled")
        network, warning = await self._networks.create(
            body.name,
            driver=body.driver or "bridge",
            internal=body.internal,
            attachable=body.attachable,
            enable_ipv6=bool(body.enable_ipv6),
            ipam=parse_ipam(body.ipam),
            options=body.options,
            labels=body.labels,
        )
        return json_response(wire.CreateResponse(id=network.id, warning=warning), 201)

    async def remove(self, request: Request) -> Answer:
        """DELETE /networks/{id}."""
        await self._networks.remove(request.params["id"])
        return NO_CONTENT

    async def connect(self, request: Request) -> Answer:
        """POST /networks/{id}/connect."""
        body = await request.required_json(wire.ConnectRequest)
        _check_named(body.container)
        await self._connections.connect(
            request.params["id"],
            body.container,
            parse_endpoint(body.endpoint_config or wire.EndpointSettings()),
        )
        return Response(200)

    async def disconnect(self, request: Request) -> Answer:
        """POST /networks/{id}/disconnect."""
        body = await request.required_json(wire.DisconnectRequest)
        _check_named(body.container)
        await self._connections.disconnect(request.params["id"], body.container, force=body.force)
        return Response(200)

    async def prune(self, request: Request) -> Answer:
        """POST /networks/prune."""
        names = await self._networks.prune(
            match_pruned_networks(parse_filters(request.query)), lambda _: False
        )
        return json_response(wire.PruneReport(networks_deleted=names or None))


def _check_named(container: str) -> None:
    if not container:
        raise InvalidArgument('invalid name or ID supplied: ""')
