"""What only this engine tells of its store: layers and their changes, and a check of everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from wherry.api.message import (
    JSON_TYPE,
    Answer,
    Request,
    Response,
    StreamResponse,
    json_response,
)
from wherry.api.router import Route
from wherry.image.reference import parse_reference
from wherry.lib.jsonvalue import JsonValue
from wherry.wire import store as wire

if TYPE_CHECKING:
    from wherry.engine.distribution import Distribution
    from wherry.engine.images import Images


_KINDS = {"C": 0, "A": 1, "D": 2}


class StoreRoutes:
    """Handlers over the image store."""

    def __init__(self, images: Images, distribution: Distribution) -> None:
        self._images = images
        self._distribution = distribution

    def routes(self) -> tuple[Route, ...]:
        """The table."""
        return (
            Route("GET", "/wherry/images/{name:path}/layers", self.layers),
            Route("GET", "/wherry/manifests/{name:path}", self.manifest),
            Route("POST", "/wherry/check", self.check, cancel=True),
        )

    async def layers(self, request: Request) -> Answer:
        """GET /wherry/images/{name}/layers, the lowest first."""
        layers = await self._images.layer_changes(request.params["name"])
        return json_response(
            [
                wire.LayerItem(
                    id=layer.diff_id,
                    created_by=layer.created_by,
                    size=layer.size_bytes,
                    changes=[
                        wire.LayerChange(
                            kind=_KINDS[change.kind], path=change.path, size=change.size_bytes
                        )
                        for change in layer.changes
                    ],
                )
                for layer in layers
            ]
        )

    async def manifest(self, request: Request) -> Answer:
        """GET /wherry/manifests/{name}: as it is in the registry."""
        from wherry.registry.auth import decode_registry_auth

        reference = parse_reference(request.params["name"]).with_default_tag()
        credentials = decode_registry_auth(request.header("x-registry-auth"))
        body = await self._distribution.get_manifest(reference, credentials)
        return Response(200, body, JSON_TYPE)

    async def check(self, request: Request) -> Answer:
        """POST /wherry/check: what is being looked at, line by line, and at last what is wrong."""
        del request
        return StreamResponse(self._check(), JSON_TYPE)

    async def _check(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[wire.CheckLine | None] = asyncio.Queue()

        def report(progress: JsonValue) -> None:
            if isinstance(progress, dict):
                queue.put_nowait(wire.CheckLine(checking=str(progress.get("checking", ""))))

        task = asyncio.create_task(self._images.check(report), name="check")
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (line := await queue.get()) is not None:
                yield msgspec.json.encode(line) + b"\n"
            yield msgspec.json.encode(wire.CheckLine(problems=await task)) + b"\n"
        finally:
            task.cancel()
