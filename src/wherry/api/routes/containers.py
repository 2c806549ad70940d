"""Routes of containers, and of the execs in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from wherry.api import compat
from wherry.api.convert import containers as convert
from wherry.api.convert.system import build_stats
from wherry.api.message import (
    HIJACKED,
    JSON_TYPE,
    MULTIPLEXED_STREAM,
    NO_CONTENT,
    RAW_STREAM,
    Answer,
    Request,
    Response,
    StreamResponse,
    encode_json,
    json_response,
    parse_go_int,
)
from wherry.api.parameters import (
    parse_filters,
    parse_platform_parameter,
    parse_terminal_size,
    parse_timestamp_ns,
)
from wherry.api.router import Route
from wherry.api.stream import make_hijack
from wherry.api.websocket import accept_websocket
from wherry.engine.containers.requests import AttachOptions, LogOptions, WaitCondition
from wherry.model.errors import InvalidArgument
from wherry.model.views import ContainerStats
from wherry.wire import containers as wire

if TYPE_CHECKING:
    from wherry.engine.containers.service import Containers
    from wherry.engine.containers.wait import Waiter
    from wherry.engine.execs import Execs

_TAR = "application/x-tar"
_CONDITIONS: dict[str, WaitCondition] = {
    "": "not-running",
    "not-running": "not-running",
    "next-exit": "next-exit",
    "removed": "removed",
}


class ContainerRoutes:
    """Handlers over the container and exec services."""

    def __init__(self, containers: Containers, execs: Execs, common_head: bytes) -> None:
        self._containers = containers
        self._execs = execs
        self._common_head = common_head

    def routes(self) -> tuple[Route, ...]:
        """The table."""
        one = "/containers/{id}"
        return (
            Route("GET", "/containers/json", self.list_all),
            Route("POST", "/containers/create", self.create),
            Route("POST", "/containers/prune", self.prune),
            Route("GET", f"{one}/json", self.inspect),
            Route("GET", f"{one}/top", self.top),
            Route("GET", f"{one}/logs", self.logs, cancel=True),
            Route("GET", f"{one}/changes", self.changes),
            Route("GET", f"{one}/export", self.export, cancel=True),
            Route("GET", f"{one}/stats", self.stats, cancel=True),
            Route("GET", f"{one}/archive", self.get_archive, cancel=True),
            Route("HEAD", f"{one}/archive", self.stat_archive),
            Route("PUT", f"{one}/archive", self.put_archive),
            Route("GET", f"{one}/attach/ws", self.attach_websocket),
            Route("POST", f"{one}/attach", self.attach),
            Route("POST", f"{one}/start", self.start),
            Route("POST", f"{one}/stop", self.stop),
            Route("POST", f"{one}/restart", self.restart),
            Route("POST", f"{one}/kill", self.kill),
            Route("POST", f"{one}/pause", self.pause),
            Route("POST", f"{one}/unpause", self.unpause),
            Route("POST", f"{one}/wait", self.wait, cancel=True),
            Route("POST", f"{one}/resize", self.resize),
            Route("POST", f"{one}/rename", self.rename),
            Route("POST", f"{one}/update", self.update),
            # A link's name has a slash.
            Route("DELETE", "/containers/{id:path}", self.remove),
            Route("POST", f"{one}/exec", self.create_exec),
            Route("POST", "/exec/{id}/start", self.start_exec),
            Route("POST", "/exec/{id}/resize", self.resize_exec),
            Route("GET", "/exec/{id}/json", self.inspect_exec),
        )

    async def list_all(self, request: Request) -> Answer:
        """GET /containers/json."""
        query = request.query
        rows = await self._containers.list_all(
            all_=query.flag("all"),
            limit=query.number("limit") or 0,
            size=query.flag("size"),
            filters=parse_filters(query),
        )
        return json_response(
            [
                compat.adapt_container_summary(convert.build_summary(row), request.version)
                for row in rows
            ]
        )

    async def create(self, request: Request) -> Answer:
        """POST /containers/create."""
        body = await request.required_json(wire.CreateRequest)
        if not convert.names_anything(body):
            raise InvalidArgument("config cannot be empty in order to create a container")
        compat.adapt_create(body, request.version)
        config = convert.parse_config(body)
        identity, warnings = await self._containers.create(
            request.query.get("name").removeprefix("/"),
            config,
            replace(
                convert.parse_host_config(body.host_config or wire.HostConfig()),
                shallow_read_only=compat.reads_only_the_top(request.version),
            ),
            convert.parse_networks(body.networking_config),
            parse_platform_parameter(request.query),
        )
        return json_response(wire.CreateResponse(id=identity, warnings=list(warnings)), 201)

    async def inspect(self, request: Request) -> Answer:
        """GET /containers/{id}/json."""
        details = await self._containers.inspect(
            request.params["id"], size=request.query.flag("size")
        )
        return json_response(
            compat.adapt_container(convert.build_inspect(details), request.version)
        )

    async def start(self, request: Request) -> Answer:
        """POST /containers/{id}/start."""
        if request.head.content_length > 2 or request.head.chunked:
            raise InvalidArgument(
                "starting container with non-empty request body was deprecated since API v1.22"
                " and removed in v1.24"
            )
        await self._containers.start(request.params["id"])
        return NO_CONTENT

    async def stop(self, request: Request) -> Answer:
        """POST /containers/{id}/stop."""
        signal, timeout_s = _ending(request)
        await self._containers.stop(request.params["id"], signal, timeout_s)
        return NO_CONTENT

    async def restart(self, request: Request) -> Answer:
        """POST /containers/{id}/restart."""
        signal, timeout_s = _ending(request)
        await self._containers.restart(request.params["id"], signal, timeout_s)
        return NO_CONTENT

    async def kill(self, request: Request) -> Answer:
        """POST /containers/{id}/kill."""
        await self._containers.kill(request.params["id"], request.query.get("signal"))
        return NO_CONTENT

    async def pause(self, request: Request) -> Answer:
        """POST /containers/{id}/pause."""
        await self._containers.pause(request.params["id"])
        return NO_CONTENT

    async def unpause(self, request: Request) -> Answer:
        """POST /containers/{id}/unpause."""
        await self._containers.unpause(request.params["id"])
        return NO_CONTENT

    async def rename(self, request: Request) -> Answer:
        """POST /containers/{id}/rename."""
        await self._containers.rename(
            request.params["id"], request.query.get("name").removeprefix("/")
        )
        return NO_CONTENT

    async def update(self, request: Request) -> Answer:
        """POST /containers/{id}/update."""
        body = await request.json(wire.HostConfig)
        if not compat.takes_pids_limit(request.version):
            body.pids_limit = None
        resources, policy = convert.parse_update(body)
        warnings = await self._containers.update(request.params["id"], resources, policy)
        return json_response(wire.UpdateResponse(warnings=list(warnings) or None))

    async def resize(self, request: Request) -> Answer:
        """POST /containers/{id}/resize."""
        rows, columns = parse_terminal_size(request.query)
        await self._containers.resize(request.params["id"], rows, columns)
        return Response(200)

    async def remove(self, request: Request) -> Answer:
        """DELETE /containers/{id}."""
        query = request.query
        await self._containers.remove(
            request.params["id"],
            force=query.flag("force"),
            volumes=query.flag("v"),
            link=query.flag("link"),
        )
        return NO_CONTENT

    async def prune(self, request: Request) -> Answer:
        """POST /containers/prune."""
        report = await self._containers.prune(parse_filters(request.query))
        return json_response(
            wire.PruneReport(
                containers_deleted=list(report.deleted) or None,
                space_reclaimed=report.reclaimed_bytes,
            )
        )

    async def wait(self, request: Request) -> Answer:
        """POST /containers/{id}/wait: the head now, the answer when the condition is met."""
        waits = compat.takes_wait_condition(request.version)
        name = request.query.get("condition") if waits else ""
        condition = _CONDITIONS.get(name)
        if condition is None:
            raise InvalidArgument(f'invalid condition: "{name}"')
        ref = request.params["id"]
        self._containers.get(ref)
        waiter = await self._containers.begin_wait(ref, condition, request.dup_connection())
        return StreamResponse(_wait_for(waiter), JSON_TYPE, release=waiter.close)

    async def attach(self, request: Request) -> Answer:
        """POST /containers/{id}/attach."""
        await self._containers.attach(
            request.params["id"],
            _attach_options(request),
            make_hijack(request, self._common_head),
        )
        return HIJACKED

    async def attach_websocket(self, request: Request) -> Answer:
        """GET /containers/{id}/attach/ws."""
        self._containers.get(request.params["id"])
        await self._containers.attach(
            request.params["id"],
            _attach_options(request),
            accept_websocket(request, self._common_head),
        )
        return HIJACKED

    async def logs(self, request: Request) -> Answer:
        """GET /containers/{id}/logs."""
        query = request.query
        stdout, stderr = query.flag("stdout"), query.flag("stderr")
        if not stdout and not stderr:
            raise InvalidArgument("Bad parameters: you must choose at least one stream")
        stream = await self._containers.logs(
            request.params["id"],
            LogOptions(
                stdout=stdout,
                stderr=stderr,
                since_ns=parse_timestamp_ns(query.get("since")),
                until_ns=parse_timestamp_ns(query.get("until")),
                timestamps=query.flag("timestamps"),
                follow=query.flag("follow"),
                tail=_parse_tail(query.get("tail")),
                details=query.flag("details"),
            ),
        )
        framed = stream.multiplexed and compat.labels_multiplexed(request.version)
        return StreamResponse(stream.frames, MULTIPLEXED_STREAM if framed else RAW_STREAM)

    async def top(self, request: Request) -> Answer:
        """GET /containers/{id}/top."""
        table = await self._containers.top(
            request.params["id"], request.query.get("ps_args") or "-ef"
        )
        return json_response(
            wire.TopResponse(
                processes=[list(row) for row in table.processes], titles=list(table.titles)
            )
        )

    async def stats(self, request: Request) -> Answer:
        """GET /containers/{id}/stats."""
        stream = request.query.flag("stream", default=True)
        one_shot = compat.takes_one_shot(request.version) and request.query.flag("one-shot")
        if stream and one_shot:
            raise InvalidArgument("cannot have stream=true and one-shot=true")
        samples = self._containers.stats(request.params["id"], stream=stream, one_shot=one_shot)
        if not stream:
            async for sample in samples:
                return json_response(build_stats(sample, one_shot=one_shot))
        return StreamResponse(_encode_stats(samples), JSON_TYPE)

    async def changes(self, request: Request) -> Answer:
        """GET /containers/{id}/changes."""
        changes = await self._containers.changes(request.params["id"])
        return json_response([convert.build_change(change) for change in changes] or None)

    async def export(self, request: Request) -> Answer:
        """GET /containers/{id}/export."""
        chunks = await self._containers.export(request.params["id"])
        return StreamResponse(chunks, "application/octet-stream")

    async def stat_archive(self, request: Request) -> Answer:
        """HEAD /containers/{id}/archive."""
        stat = await self._containers.archive_stat(request.params["id"], _archive_path(request))
        return Response(headers={"X-Docker-Container-Path-Stat": convert.encode_path_stat(stat)})

    async def get_archive(self, request: Request) -> Answer:
        """GET /containers/{id}/archive."""
        stat, chunks = await self._containers.archive_get(
            request.params["id"], _archive_path(request)
        )
        return StreamResponse(
            chunks,
            _TAR,
            headers={"X-Docker-Container-Path-Stat": convert.encode_path_stat(stat)},
        )

    async def put_archive(self, request: Request) -> Answer:
        """PUT /containers/{id}/archive."""
        query = request.query
        await self._containers.archive_put(
            request.params["id"],
            _archive_path(request),
            request.body,
            no_overwrite_dir_non_dir=query.flag("noOverwriteDirNonDir"),
            copy_uid_gid=query.flag("copyUIDGID"),
        )
        return Response(200)

    async def create_exec(self, request: Request) -> Answer:
        """POST /containers/{id}/exec."""
        body = await request.json(wire.ExecCreateRequest)
        if not body.cmd:
            raise InvalidArgument("No exec command specified")
        identity = await self._execs.create(request.params["id"], convert.parse_exec(body))
        return json_response(wire.IdResponse(id=identity), 201)

    async def start_exec(self, request: Request) -> Answer:
        """POST /exec/{id}/start."""
        body = await request.json(wire.ExecStartRequest)
        hijack = None if body.detach else make_hijack(request, self._common_head)
        await self._execs.start(
            request.params["id"],
            detach=body.detach,
            tty=body.tty,
            console_size=body.console_size or (0, 0),
            hijack=hijack,
        )
        return Response(200) if body.detach else HIJACKED

    async def resize_exec(self, request: Request) -> Answer:
        """POST /exec/{id}/resize."""
        rows, columns = parse_terminal_size(request.query)
        await self._execs.resize(request.params["id"], rows, columns)
        return Response(200)

    async def inspect_exec(self, request: Request) -> Answer:
        """GET /exec/{id}/json."""
        return json_response(convert.build_exec(self._execs.get(request.params["id"])))


def _ending(request: Request) -> tuple[str | None, int | None]:
    signal = request.query.get("signal") if compat.takes_signal(request.version) else ""
    return signal or None, request.query.number("t")


def _attach_options(request: Request) -> AttachOptions:
    query = request.query
    return AttachOptions(
        stream=query.flag("stream"),
        stdin=query.flag("stdin"),
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        logs=query.flag("logs"),
        detach_keys=query.get("detachKeys"),
    )


def _archive_path(request: Request) -> str:
    path = request.query.get_path("path")
    if not path:
        raise InvalidArgument("bad parameter: pathcannot be empty")
    return path


def _parse_tail(text: str) -> int:
    try:
        return parse_go_int(text) if text else -1
    except Exception:  # noqa: BLE001 - dockerd takes any word for "all"
        return -1


async def _wait_for(waiter: Waiter) -> AsyncIterator[bytes]:
    result = await waiter.result()
    yield encode_json(convert.build_wait(result)) + b"\n"


async def _encode_stats(samples: AsyncIterator[ContainerStats]) -> AsyncIterator[bytes]:
    async for sample in samples:
        yield msgspec.json.encode(build_stats(sample)) + b"\n"
