"""Routes of the engine itself: ping, version, info, events, disk usage, and its own end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from wherry.api import compat
from wherry.api.convert.build import build_cache_record
from wherry.api.convert.containers import build_summary
from wherry.api.convert.images import build_summary as build_image_summary
from wherry.api.convert.system import build_event, build_info, build_version
from wherry.api.convert.volumes import build_volume
from wherry.api.message import (
    JSON_TYPE,
    NO_CONTENT,
    Answer,
    Request,
    Response,
    StreamResponse,
    encode_json,
    json_response,
)
from wherry.api.parameters import parse_filters, parse_timestamp_ns
from wherry.api.router import Route
from wherry.model.errors import InvalidArgument
from wherry.wire import system as wire

if TYPE_CHECKING:
    from wherry.engine.builder import Builder
    from wherry.engine.containers.service import Containers
    from wherry.engine.events import Events, Subscription
    from wherry.engine.images import Images
    from wherry.engine.system import System
    from wherry.engine.volumes import Volumes

_PING_HEADERS = {
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}
_USAGE_KINDS = frozenset(["container", "image", "volume", "build-cache"])


class SystemRoutes:
    """Handlers over the system and event services. `shut_down` ends the engine; containers go on."""

    def __init__(
        self,
        *,
        system: System,
        events: Events,
        images: Images,
        containers: Containers,
        volumes: Volumes,
        builder: Builder,
        shut_down: Callable[[], None],
    ) -> None:
        self._system = system
        self._events = events
        self._images = images
        self._containers = containers
        self._volumes = volumes
        self._builder = builder
        self._shut_down = shut_down

    def routes(self) -> tuple[Route, ...]:
        """The table. `/wherry/…` is this engine's own."""
        return (
            Route("GET", "/_ping", self.ping),
            Route("HEAD", "/_ping", self.ping),
            Route("GET", "/version", self.version),
            Route("GET", "/info", self.info),
            Route("GET", "/events", self.events, cancel=True),
            Route("GET", "/system/df", self.disk_usage),
            Route("POST", "/wherry/shutdown", self.shut_down),
        )

    async def ping(self, request: Request) -> Answer:
        """GET and HEAD /_ping."""
        body = b"" if request.method == "HEAD" else b"OK"
        return Response(200, body, "text/plain; charset=utf-8", _PING_HEADERS)

    async def version(self, request: Request) -> Answer:  # noqa: ARG002 - the shape of a handler
        """GET /version."""
        return json_response(build_version(self._system.version()))

    async def info(self, request: Request) -> Answer:
        """GET /info."""
        return json_response(compat.adapt_info(build_info(self._system.info()), request.version))

    async def events(self, request: Request) -> Answer:
        """GET /events."""
        query = request.query
        since, until = (
            parse_timestamp_ns(query.get("since")),
            parse_timestamp_ns(query.get("until")),
        )
        if since and until and since > until:
            raise InvalidArgument(
                f"`since` time ({query.get('since')}) cannot be after"
                f" `until` time ({query.get('until')})"
            )
        subscription = self._events.subscribe(parse_filters(query), since_ns=since, until_ns=until)
        return StreamResponse(_encode_events(subscription), JSON_TYPE, release=subscription.close)

    async def disk_usage(self, request: Request) -> Answer:
        """GET /system/df."""
        wanted = set(request.query.get_all("type")) or set(_USAGE_KINDS)
        unknown = wanted - _USAGE_KINDS
        if unknown:
            raise InvalidArgument(f"unknown object type: {min(unknown)}")
        document = wire.DiskUsage()
        if "image" in wanted:
            usages, document.layers_size = self._images.disk_usage()
            document.images = [
                build_image_summary(
                    usage.image, containers=usage.containers, shared_bytes=usage.shared_bytes
                )
                for usage in usages
            ]
        if "container" in wanted:
            rows = await self._containers.list_all(all_=True, size=True, filters={})
            document.containers = [build_summary(row) for row in rows]
        if "volume" in wanted:
            document.volumes = [
                build_volume(
                    volume,
                    (
                        len(self._volumes.users(volume.name)),
                        await self._volumes.size(volume.name),
                    ),
                )
                for volume in self._volumes.list_all()
            ]
        if "build-cache" in wanted:
            document.build_cache = [
                build_cache_record(item) for item in await self._builder.usage()
            ]
        return json_response(compat.adapt_disk_usage(document, request.version))

    async def shut_down(self, request: Request) -> Answer:  # noqa: ARG002 - the shape of a handler
        """POST /wherry/shutdown."""
        self._shut_down()
        return NO_CONTENT


async def _encode_events(subscription: Subscription) -> AsyncIterator[bytes]:
    async for event in subscription:
        yield encode_json(build_event(event)) + b"\n"
