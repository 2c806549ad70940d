"""Routes of volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api import compat
from wherry.api.convert.volumes import build_volume
from wherry.api.matching import match_pruned_volumes, match_volumes
from wherry.api.message import NO_CONTENT, Answer, Request, json_response
from wherry.api.parameters import parse_filters
from wherry.api.router import Route
from wherry.wire import volumes as wire

if TYPE_CHECKING:
    from wherry.engine.volumes import Volumes


class VolumeRoutes:
    """Handlers over the volume service."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def routes(self) -> tuple[Route, ...]:
        """The table."""
        return (
            Route("GET", "/volumes", self.list_all),
            Route("POST", "/volumes/create", self.create),
            Route("POST", "/volumes/prune", self.prune),
            Route("GET", "/volumes/{name}", self.inspect),
            Route("DELETE", "/volumes/{name}", self.remove),
        )

    async def list_all(self, request: Request) -> Answer:
        """GET /volumes."""
        matches = match_volumes(parse_filters(request.query), self._volumes.users)
        volumes = [build_volume(volume) for volume in self._volumes.list_all() if matches(volume)]
        return json_response(wire.ListResponse(volumes=volumes))

    async def inspect(self, request: Request) -> Answer:
        """GET /volumes/{name}."""
        return json_response(build_volume(self._volumes.get(request.params["name"])))

    async def create(self, request: Request) -> Answer:
        """POST /volumes/create."""
        body = await request.json(wire.CreateRequest)
        volume = await self._volumes.ensure(
            body.name,
            driver=body.driver or "local",
            options=body.driver_opts,
            labels=body.labels,
        )
        return json_response(build_volume(volume), 201)

    async def remove(self, request: Request) -> Answer:
        """DELETE /volumes/{name}."""
        await self._volumes.remove(request.params["name"], force=request.query.flag("force"))
        return NO_CONTENT

    async def prune(self, request: Request) -> Answer:
        """POST /volumes/prune."""
        matches, all_ = match_pruned_volumes(parse_filters(request.query))
        names, reclaimed = await self._volumes.prune(
            matches, all_=all_ or compat.prunes_named_volumes(request.version)
        )
        return json_response(wire.PruneReport(volumes_deleted=names, space_reclaimed=reclaimed))
