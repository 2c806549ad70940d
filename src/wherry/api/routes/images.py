"""Routes of images: the local ones, archives of them, and those in registries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from wherry.api import compat
from wherry.api.convert.containers import parse_config, parse_unix_time
from wherry.api.convert.images import (
    build_descriptor,
    build_inspect,
    build_platform,
    build_summary,
)
from wherry.api.message import (
    JSON_TYPE,
    Answer,
    Query,
    Request,
    Response,
    StreamResponse,
    json_response,
)
from wherry.api.parameters import parse_filters, parse_platform_list, parse_platform_parameter
from wherry.api.router import Route
from wherry.api.stream import prefetch, stream_progress
from wherry.image.reference import Reference, parse_reference, parse_tagged
from wherry.lib.jsonvalue import JsonError, JsonValue
from wherry.model.errors import InvalidArgument
from wherry.model.progress import Progress
from wherry.wire import containers as container_wire
from wherry.wire import images as wire

if TYPE_CHECKING:
    from wherry.engine.commits import Commits
    from wherry.engine.distribution import Distribution
    from wherry.engine.images import Images
    from wherry.engine.images.removal import Deleted
    from wherry.engine.pull import Pulls
    from wherry.engine.push import Pushes
    from wherry.engine.registries import Registries
    from wherry.model.image import Platform
    from wherry.registry.auth import Credentials

_TAR = "application/x-tar"


class ImageRoutes:
    """Handlers over the image services."""

    def __init__(
        self,
        *,
        images: Images,
        commits: Commits,
        pulls: Pulls,
        pushes: Pushes,
        distribution: Distribution,
        registries: Registries,
    ) -> None:
        self._images = images
        self._commits = commits
        self._pulls = pulls
        self._pushes = pushes
        self._distribution = distribution
        self._registries = registries

    def routes(self) -> tuple[Route, ...]:
        """The table. Names hold slashes, so that fixed paths come first."""
        one = "/images/{name:path}"
        return (
            Route("GET", "/images/json", self.list_all),
            Route("GET", "/images/search", self.search),
            Route("GET", "/images/get", self.save, cancel=True),
            Route("POST", "/images/create", self.create, cancel=True),
            Route("POST", "/images/load", self.load),
            Route("POST", "/images/prune", self.prune),
            Route("GET", f"{one}/json", self.inspect),
            Route("GET", f"{one}/history", self.history),
            Route("GET", f"{one}/get", self.save, cancel=True),
            Route("POST", f"{one}/push", self.push, cancel=True),
            Route("POST", f"{one}/tag", self.tag),
            Route("DELETE", one, self.remove),
            Route("POST", "/commit", self.commit),
            Route("GET", "/distribution/{name:path}/json", self.inspect_distribution),
            Route("POST", "/auth", self.login),
        )

    async def list_all(self, request: Request) -> Answer:
        """GET /images/json."""
        query = request.query
        filters = dict(parse_filters(query))
        if request.version < (1, 41) and query.get("filter"):
            filters["reference"] = [query.get("filter")]
        chosen = self._images.list_all(filters, all_=query.flag("all"))
        usages = {}
        if query.flag("shared-size"):
            usages = {usage.image.id: usage for usage in self._images.disk_usage()[0]}
        rows = []
        counted = query.flag("manifests")
        for image in chosen:
            usage = usages.get(image.id)
            row = build_summary(
                image,
                containers=self._images.count_users(image.id) if counted else -1,
                shared_bytes=-1 if usage is None else usage.shared_bytes,
            )
            rows.append(compat.adapt_image_summary(row, request.version))
        return json_response(rows)

    async def inspect(self, request: Request) -> Answer:
        """GET /images/{name}/json."""
        image = self._images.get(request.params["name"], parse_platform_parameter(request.query))
        document = build_inspect(
            image, self._images.driver, full_config=compat.shows_full_image_config(request.version)
        )
        return json_response(compat.adapt_image(document, request.version))

    async def history(self, request: Request) -> Answer:
        """GET /images/{name}/history."""
        return json_response(
            [
                wire.HistoryItem(
                    comment=line.comment,
                    created=parse_unix_time(line.created),
                    created_by=line.created_by,
                    id=line.id,
                    size=line.size_bytes,
                    tags=list(line.tags) or None,
                )
                for line in self._images.history(
                    request.params["name"], parse_platform_parameter(request.query)
                )
            ]
        )

    async def tag(self, request: Request) -> Answer:
        """POST /images/{name}/tag."""
        query = request.query
        self._images.tag(request.params["name"], query.get("repo"), query.get("tag"))
        return Response(201)

    async def remove(self, request: Request) -> Answer:
        """DELETE /images/{name}."""
        name = request.params["name"]
        if not name.strip():
            raise InvalidArgument("image name cannot be blank")
        query = request.query
        deleted = await self._images.remove(
            name,
            force=query.flag("force"),
            prune=not query.flag("noprune"),
            platforms=parse_platform_list(query),
        )
        return json_response([_build_deleted(entry) for entry in deleted])

    async def prune(self, request: Request) -> Answer:
        """POST /images/prune."""
        deleted, reclaimed = await self._images.prune(parse_filters(request.query))
        return json_response(
            wire.PruneReport(
                images_deleted=[_build_deleted(entry) for entry in deleted] or None,
                space_reclaimed=reclaimed,
            )
        )

    async def load(self, request: Request) -> Answer:
        """POST /images/load."""
        progress = self._images.load(
            request.body,
            quiet=request.query.flag("quiet"),
            platform=_only_platform(request.query),
        )
        # The head comes with the first line: docker-py takes it for the end of the load and reads no further.
        return StreamResponse(await prefetch(stream_progress(progress)), JSON_TYPE)

    async def save(self, request: Request) -> Answer:
        """GET /images/get and /images/{name}/get."""
        name = request.params.get("name")
        names = [name] if name else list(request.query.get_all("names"))
        if not names:
            raise InvalidArgument("no image names given")
        return StreamResponse(self._images.save(names, _only_platform(request.query)), _TAR)

    async def create(self, request: Request) -> Answer:
        """POST /images/create: a pull with `fromImage`, an import with `fromSrc`."""
        name = request.query.get("fromImage")
        if name:
            return await self._pull(request, name)
        source = request.query.get("fromSrc")
        if source == "-":
            progress = self._import(request, request.body, source)
        else:
            progress = self._import_url(request, source)
        return StreamResponse(stream_progress(await prefetch(progress)), JSON_TYPE)

    async def _pull(self, request: Request, name: str) -> Answer:
        from wherry.engine.pull import PullRequest

        reference = _parse_pulled(name, request.query.get("tag"))
        progress = self._pulls.pull(
            PullRequest(
                reference=reference,
                # The clients name `latest` themselves: no tag at all means every tag.
                all_tags=not (reference.tag or reference.digest),
                platform=parse_platform_parameter(request.query),
                credentials=_credentials(request),
            )
        )
        return StreamResponse(stream_progress(await prefetch(progress)), JSON_TYPE)

    async def _import_url(self, request: Request, url: str) -> AsyncIterator[Progress]:
        async with self._registries.open_url(url) as (source, content):
            yield Progress(status=f"Downloading from {source}")
            async for line in self._import(request, content, source):
                yield line

    async def _import(
        self, request: Request, content: AsyncIterator[bytes], source: str
    ) -> AsyncIterator[Progress]:
        query = request.query
        image = await self._images.import_(
            content,
            repository=query.get("repo"),
            tag=query.get("tag"),
            source=source,
            message=query.get("message"),
            changes=query.get_all("changes"),
            platform=parse_platform_parameter(query),
        )
        yield Progress(status=image.id)

    async def push(self, request: Request) -> Answer:
        """POST /images/{name}/push."""
        from wherry.engine.push import PushRequest

        tag = request.query.get("tag")
        name = request.params["name"]
        reference = parse_tagged(name, tag) if tag else parse_reference(name)
        platform = parse_platform_parameter(request.query)
        if platform is not None:  # a status says at once that it is not here
            self._images.get(reference.with_default_tag().canonical(), platform)
        progress = self._pushes.push(
            PushRequest(
                reference=reference,
                platform=platform,
                credentials=_credentials(request),
            )
        )
        return StreamResponse(stream_progress(progress), JSON_TYPE)

    async def search(self, request: Request) -> Answer:
        """GET /images/search."""
        query = request.query
        found = await self._distribution.search(
            query.get("term"),
            limit=query.number("limit") or 0,
            filters=parse_filters(query),
            credentials=_credentials(request),
        )
        return json_response(
            [
                wire.SearchResult(
                    star_count=result.star_count,
                    is_official=result.is_official,
                    name=result.name,
                    is_automated=result.is_automated,
                    description=result.description,
                )
                for result in found
            ]
        )

    async def inspect_distribution(self, request: Request) -> Answer:
        """GET /distribution/{name}/json."""
        reference = parse_reference(request.params["name"]).with_default_tag()
        found = await self._distribution.inspect(reference, _credentials(request))
        return json_response(
            wire.Distribution(
                descriptor=build_descriptor(found.descriptor),
                platforms=[build_platform(platform) for platform in found.platforms],
            )
        )

    async def login(self, request: Request) -> Answer:
        """POST /auth."""
        from wherry.registry.auth import parse_credentials

        try:
            document: JsonValue = msgspec.json.decode(await request.body.read() or b"{}")
            if not isinstance(document, dict):
                raise JsonError("expected an object")
            credentials = parse_credentials(document)
        except (msgspec.DecodeError, JsonError, RecursionError) as exc:
            raise InvalidArgument(f"invalid JSON: {exc}") from exc
        token = await self._registries.login(credentials)
        return json_response(wire.AuthResponse(identity_token=token, status="Login Succeeded"))

    async def commit(self, request: Request) -> Answer:
        """POST /commit."""
        query = request.query
        body = await request.json(container_wire.ContainerConfig)
        identity = await self._commits.commit(
            query.get("container"),
            repository=query.get("repo"),
            tag=query.get("tag"),
            author=query.get("author"),
            comment=query.get("comment"),
            changes=query.get_all("changes"),
            pause=query.flag("pause", default=True),
            overrides=parse_config(body),
        )
        return json_response(container_wire.IdResponse(id=identity), 201)


def _build_deleted(entry: Deleted) -> wire.Deleted:
    return wire.Deleted(deleted=entry.deleted or UNSET, untagged=entry.untagged or UNSET)


def _only_platform(query: Query) -> Platform | None:
    if len(query.get_all("platform")) > 1:
        raise InvalidArgument("multiple platform parameters not supported")
    return parse_platform_parameter(query)


def _parse_pulled(name: str, tag: str) -> Reference:
    if not tag:
        return parse_reference(name)
    if ":" in tag:  # a digest travels in `tag` too
        return parse_reference(f"{name}@{tag}")
    return parse_tagged(name, tag)


def _credentials(request: Request) -> Credentials:
    from wherry.registry.auth import decode_registry_auth

    return decode_registry_auth(request.header("x-registry-auth"))
