"""Routes of builds: the classic endpoint with all its parameters, its cache, and records of finished builds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from wherry.api.convert.build import (
    build_history_item,
    parse_offer,
    parse_options,
    parse_prune,
    with_preface,
)
from wherry.api.message import (
    JSON_TYPE,
    Answer,
    Body,
    Request,
    StreamResponse,
    encode_json,
    json_response,
)
from wherry.api.router import Route
from wherry.api.stream import encode_progress
from wherry.build.errors import DockerfileError
from wherry.engine.build.classic import ClassicText, OutputLimit, cost_of
from wherry.engine.build.records import (
    BuildEvent,
    BuildOptions,
    BuildResult,
    Notice,
    Planned,
    StepDone,
    StepFailed,
    StepOutput,
    StepStarted,
)
from wherry.model.errors import EngineError, InvalidArgument, NotSupported
from wherry.model.progress import Progress
from wherry.wire import build as wire

if TYPE_CHECKING:
    from wherry.engine.builder import Builder

logger = logging.getLogger(__name__)

_NO_BUILDKIT = (
    "this engine has no BuildKit: build with the classic builder, by DOCKER_BUILDKIT=0 in the environment of"
    " docker build, or with wherry build"
)
_MAX_PREFACE = 16 << 20
_TAR = "application/x-tar"
_LASTING = ("Pulling from", "Pull complete", "Digest:", "Status:", "Already exists")


class BuildRoutes:
    """Handlers over the builder."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    def routes(self) -> tuple[Route, ...]:
        """The table."""
        return (
            Route("POST", "/build", self.build, cancel=True),
            Route("POST", "/build/prune", self.prune),
            Route("POST", "/build/cancel", _refuse_buildkit),
            Route("POST", "/session", _refuse_buildkit),
            Route("POST", "/grpc", _refuse_buildkit),
            Route("GET", "/wherry/builds", self.list_history),
            Route("POST", "/wherry/builds/context", self.offer_context),
            Route("GET", "/wherry/builds/{id}/logs", self.read_log),
            Route("GET", "/wherry/builds/output/{name}", self.read_output, cancel=True),
        )

    async def build(self, request: Request) -> Answer:
        """POST /build. Until the Dockerfile is understood an error is a status, afterwards a line."""
        query = request.query
        if query.get("version") == "2":
            raise NotSupported(_NO_BUILDKIT)
        options = parse_options(query, request.header("x-registry-config"))
        is_ours = request.header("content-type") == wire.BUILD_TYPE
        if is_ours:
            options = with_preface(options, await _read_preface(request.body))
        running = _Running(self._builder, options, request.body)
        first = await running.first()
        lines = _step_lines if is_ours else _classic_lines
        return StreamResponse(lines(running, first, options), JSON_TYPE)

    async def prune(self, request: Request) -> Answer:
        """POST /build/prune."""
        deleted, freed = await self._builder.prune(parse_prune(request.query))
        return json_response(
            wire.BuildPruned(caches_deleted=deleted or None, space_reclaimed=freed)
        )

    async def offer_context(self, request: Request) -> Answer:
        """POST /wherry/builds/context: before a build, so that only what is missing is sent."""
        offer = await request.required_json(wire.ContextOffer)
        token, missing = await self._builder.offer_context(offer.key, parse_offer(offer))
        return json_response(wire.ContextAnswer(id=token, missing=missing))

    async def list_history(self, request: Request) -> Answer:
        """GET /wherry/builds."""
        del request
        return json_response([build_history_item(record) for record in self._builder.history()])

    async def read_log(self, request: Request) -> Answer:
        """GET /wherry/builds/{id}/logs."""
        record = self._builder.get_history(request.params["id"])
        return json_response(wire.BuildLine(stream=record.log))

    async def read_output(self, request: Request) -> Answer:
        """GET /wherry/builds/output/{name}: once."""
        path = self._builder.take_output(request.params["name"])
        return StreamResponse(
            _read_and_remove(path), _TAR, release=partial(path.unlink, missing_ok=True)
        )


async def _refuse_buildkit(request: Request) -> Answer:
    del request
    raise NotSupported(_NO_BUILDKIT)


async def _read_preface(body: Body) -> wire.BuildPreface:
    """What stands before the context: its length in eight bytes, and our own parameters as JSON."""
    length = int.from_bytes(await body.read_ahead(8), "big")
    if length > _MAX_PREFACE:
        raise InvalidArgument("the preface of the build is too large")
    data = await body.read_ahead(length)
    if len(data) < max(length, 1):
        raise InvalidArgument("the body ends in its preface")
    try:
        return msgspec.json.decode(data, type=wire.BuildPreface)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"the preface of the build: {error}") from error


class _Running:
    """A build as a stream of events that ends with its result or error. Leaving it cancels the build.

    A client that does not keep up misses output of steps, and is told so: a step may be another build's too, and does
    not wait for it.
    """

    def __init__(self, builder: Builder, options: BuildOptions, body: AsyncIterator[bytes]) -> None:
        self._queue: asyncio.Queue[BuildEvent | None] = asyncio.Queue()
        self._unread = OutputLimit()
        self._task = asyncio.create_task(builder.build(options, body, self._report), name="build")
        self._task.add_done_callback(lambda _: self._queue.put_nowait(None))

    def _report(self, event: BuildEvent) -> None:
        if isinstance(event, StepOutput):
            data = self._unread.admit(event.data)
            if not data:
                return
            event = replace(event, data=data)
        self._queue.put_nowait(event)

    async def first(self) -> BuildEvent | None:
        """The first event; raises what the build raised before it."""
        try:
            event = await self._queue.get()
        except asyncio.CancelledError:
            await self.close()
            raise
        if event is None:
            await self._raise_failure()
        return event

    async def _raise_failure(self) -> None:
        try:
            await self._task
        except DockerfileError as error:
            raise InvalidArgument(f"{error}\n{error.excerpt}") from error

    async def events(self, first: BuildEvent | None) -> AsyncIterator[BuildEvent]:
        """All of them, the first again."""
        event = first
        while event is not None:
            if isinstance(event, StepOutput):
                self._unread.release(cost_of(event.data))
            yield event
            event = await self._queue.get()

    async def result(self) -> BuildResult:
        """After the events. Raises EngineError."""
        return await self._task

    async def close(self) -> None:
        """Cancels the build and waits until nothing of it is left."""
        if not self._task.done():
            self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()


def _encode(line: wire.BuildLine) -> bytes:
    return encode_json(line) + b"\r\n"


def _stream(text: str) -> bytes:
    return _encode(wire.BuildLine(stream=text))


async def _classic_lines(
    running: _Running, first: BuildEvent | None, options: BuildOptions
) -> AsyncIterator[bytes]:
    text = ClassicText(removes=options.remove)
    try:
        async for event in running.events(first):
            if isinstance(event, Progress):
                lines = [encode_progress(event)]
            else:
                lines = [_stream(line) for line in text.feed(event)]
            for line in lines:
                if not options.quiet:
                    yield line
        result = await running.result()
        if options.quiet:
            yield _stream(f"{result.image_id}\n")
            return
        last, after = text.end(result.image_id)
        yield _stream(last)
        yield _encode(wire.BuildLine(aux=wire.BuildAux(id=result.image_id)))
        for said in after:
            yield _stream(said)
        for tag in result.tags:
            yield _stream(f"Successfully tagged {tag}\n")
    except EngineError as error:
        for rest in text.finish():
            yield _stream(rest)
        if isinstance(error, StepFailed) and error.excerpt:
            yield _stream(f"{error.excerpt}\n")
        yield _encode_error(error, detailed=False)
    except Exception as error:
        logger.exception("build broken off")
        yield _encode_error(error, detailed=False)
    finally:
        await running.close()


async def _step_lines(
    running: _Running, first: BuildEvent | None, options: BuildOptions
) -> AsyncIterator[bytes]:
    del options
    steps = _StepLines()
    try:
        async for event in running.events(first):
            line = steps.line(event)
            if line is not None:
                yield _encode(line)
        result = await running.result()
        yield _encode(
            wire.BuildLine(
                aux=wire.BuildAux(
                    id=result.image_id,
                    outputs=list(result.outputs) or UNSET,
                    caches=list(result.caches) or UNSET,
                    warnings=list(result.warnings),
                    metadata=result.metadata,
                )
            )
        )
    except EngineError as error:
        yield _encode_error(error, detailed=True)
    except Exception as error:
        logger.exception("build broken off")
        yield _encode_error(error, detailed=True)
    finally:
        await running.close()


class _StepLines:
    """Events as lines. Only steps that change files are shown; their numbers are places in the plan."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._started: set[int] = set()

    def line(self, event: BuildEvent) -> wire.BuildLine | None:
        """None when the event is about a step that is not shown."""
        match event:
            case Planned():
                shown = [(at, name) for at, name in enumerate(event.names) if name]
                self._numbers = {at: number for number, (at, _) in enumerate(shown)}
                return wire.BuildLine(plan=wire.BuildPlan(names=[name for _, name in shown]))
            case Progress():
                if not event.status.startswith(_LASTING):
                    return None
                text = f"{event.id}: {event.status}\n" if event.id else f"{event.status}\n"
                return wire.BuildLine(stream=text)
            case Notice():
                return wire.BuildLine(stream=event.text)
            case StepDone(continues=True):
                return None
            case StepStarted() | StepOutput() | StepDone():
                number = self._numbers.get(event.number)
                if number is None or (isinstance(event, StepStarted) and number in self._started):
                    return None  # not shown, or a trigger of a FROM that is under way
                self._started.add(number)
                return self._step_line(event, number)

    @staticmethod
    def _step_line(event: StepStarted | StepOutput | StepDone, number: int) -> wire.BuildLine:
        match event:
            case StepStarted():
                started = wire.BuildStarted(number=number, cached=event.cached)
                return wire.BuildLine(started=started)
            case StepOutput():
                text = event.data.decode(errors="replace")
                output = wire.BuildOutput(number=number, stream=event.stream, text=text)
                return wire.BuildLine(output=output)
            case StepDone():
                done = wire.BuildDone(number=number, cached=event.cached, error=event.error)
                return wire.BuildLine(done=done)


def _encode_error(error: Exception, *, detailed: bool) -> bytes:
    detail = wire.BuildErrorDetail(message=str(error))
    if isinstance(error, StepFailed):
        if error.exit_code:
            detail.code = error.exit_code
        if detailed:
            detail.excerpt = error.excerpt or UNSET
            detail.tail = error.tail or UNSET
            detail.hint = error.hint or UNSET
    elif isinstance(error, DockerfileError):
        if detailed:
            detail.excerpt = error.excerpt
        else:
            detail.message = f"{error}\n{error.excerpt}"
    return _encode(wire.BuildLine(error_detail=detail, error=detail.message))


async def _read_and_remove(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.to_thread(path.unlink)
        while data := await asyncio.to_thread(file.read, 1 << 20):
            yield data
    finally:
        file.close()
