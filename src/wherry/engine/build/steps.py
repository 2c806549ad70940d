"""One step: its key, what the cache has for it, else doing it; and the record of what was done.

A step is done once however many builds want it (`flights`), and remembered as soon as its layer is durable. It
knows nothing of stages: who asks gives the state before the step, and a way to the sources that it copies from.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.build import cachekey
from wherry.build.plan import CopyStep, RunStep, Step, WorkdirStep
from wherry.build.stages import Reference
from wherry.engine.build.cache import BuildCache
from wherry.engine.build.contexts import Contexts
from wherry.engine.build.execution import Runner
from wherry.engine.build.fetch import Fetcher
from wherry.engine.build.flights import Done, Flights, Listener
from wherry.engine.build.imports import HOLLOW, ImportedCache
from wherry.engine.build.layers import Chain, Layer, Packer, Solved, Workspace
from wherry.engine.build.layouts import Layouts
from wherry.engine.build.records import (
    NETWORK_HOST,
    SECURITY_INSECURE,
    BuildOptions,
    CacheRecord,
    Report,
    StepOutput,
    StepStarted,
)
from wherry.engine.build.result import StageResult
from wherry.engine.build.transfer import PreparedCopy, Source, Transfers
from wherry.engine.clock import format_time, now
from wherry.engine.images import Images
from wherry.lib.ids import new_id
from wherry.model.errors import Forbidden
from wherry.model.image import Digest, Platform
from wherry.model.progress import Progress

Pull = Callable[[str, Platform | None, BuildOptions, Callable[[Progress], None]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What builds share."""

    images: Images
    pull: Pull
    runner: Runner
    transfers: Transfers
    workspace: Workspace
    packer: Packer
    cache: BuildCache
    flights: Flights
    contexts: Contexts
    fetcher: Fetcher
    layouts: Layouts
    working: asyncio.Semaphore


class Steps:
    """Those of one build for one platform."""

    def __init__(
        self,
        services: Services,
        options: BuildOptions,
        report: Report,
        *,
        epoch: int | None,
        imported: ImportedCache,
        find_source: Callable[[Reference], Awaitable[Source]],
    ) -> None:
        self._services = services
        self._options = options
        self._report = report
        self._imported = imported
        self._find_source = find_source
        self.epoch = epoch
        self.keys: dict[str, None] = {}  # of all steps, as far as they were done or found
        self._recording: set[asyncio.Task[None]] = set()
        self._held: list[Layer] = []

    async def solve(
        self, step: Step, number: int, before: StageResult, *, no_cache: bool
    ) -> Solved:
        """The step, from the cache or done. Raises StepFailed, EngineError."""
        if isinstance(step, RunStep):
            return await self._solve_run(step, number, before, no_cache=no_cache)
        if isinstance(step, CopyStep):
            return await self._solve_copy(step, number, before, no_cache=no_cache)
        if isinstance(step, WorkdirStep):
            return await self._solve_workdir(step, number, before, no_cache=no_cache)
        solved = self._solve_config(step, before, no_cache=no_cache)
        self._report_plain(number, cached=solved.cached)
        return solved

    async def close(self) -> None:
        """After the last step: waits for its traces to go and for the records, keeps what came from elsewhere, lets layers go."""
        await self._services.runner.settle()
        if self._recording:
            await asyncio.wait(self._recording)
        self._imported.keep(self.keys, self._services.cache)
        self._services.cache.save_uses(self.keys)
        self._let_go()

    def _report_plain(self, number: int, *, cached: bool) -> None:
        """A step that needs no container; the classic builder shows one for it all the same."""
        container = "" if cached else new_id()
        self._report(StepStarted(number=number, cached=cached, container=container))

    def _now(self, moment: str = "") -> str:
        """The time to write down: this moment, another one, or SOURCE_DATE_EPOCH."""
        if self.epoch is not None:
            return format_time(self.epoch * 1_000_000_000)
        return moment or now()

    def _solve_config(self, step: Step, before: StageResult, *, no_cache: bool) -> Solved:
        """A step that only changes the config: the cache knows when it was first done."""
        key = cachekey.digest_of(["config", before.shown, before.key, step.created_by or step.name])
        record = None if no_cache else self._find(key)
        if record is not None and self.epoch is None:
            return Solved(chain=before.chain, key=before.key, cached=True, created=record.created)
        created = self._now()
        self.keys[key] = None
        self._services.cache.put(
            key, CacheRecord(result=key, kind="internal", created=created, last_used=now())
        )
        return Solved(
            chain=before.chain, key=before.key, cached=record is not None, created=created
        )

    async def _solve_run(
        self, step: RunStep, number: int, before: StageResult, *, no_cache: bool
    ) -> Solved:
        _check_entitlements(step, self._options.entitlements)
        sources: dict[int, Chain | Path] = {}
        keys: list[str] = []
        unpack: list[int] = []
        for at, (mount, reference) in enumerate(zip(step.mounts, step.mount_sources, strict=True)):
            if reference is None:
                keys.append("")
                continue
            source = await self._find_source(reference)
            keys.append(source.key_of((mount.source or "/",), "RUN"))
            if source.chain is not None:
                sources[at] = source.chain
            else:
                unpack.append(at)
        key = cachekey.run_key(before.key, step, tuple(keys), self._settings_key())
        found = self._lookup(key, before, no_cache=no_cache)
        if found is not None:
            self._report(StepStarted(number=number, cached=True))
            return found
        # One that has to wait for others keeps no slot from them.
        is_late = self._services.working.locked()
        container = new_id() if is_late else self._services.runner.reserve_id(step, self._options)
        for at in unpack:
            reference = step.mount_sources[at]
            if reference is not None:
                source = await self._find_source(reference)
                if source.context is not None:
                    sources[at] = await source.context.unpacked()
        self._report(StepStarted(number=number, container=container))
        trees = [source for source in sources.values() if isinstance(source, Chain)]
        await self.fetch(before.chain, *trees)

        async def do(output: Listener) -> Done:
            async with self._services.working:
                layer = await self._services.runner.run(
                    step,
                    before.chain,
                    options=self._options,
                    sources=sources,
                    output=output,
                    container_id=container,
                )
            return Done(layer=layer)

        return await self._do(step, number, before, key, do, no_cache=no_cache)

    def _settings_key(self) -> tuple[str, ...]:
        """What else decides what a RUN sees, as BuildKit has it in the key."""
        options = self._options
        parts = [f"host={host}" for host in options.extra_hosts]
        parts += [f"ulimit={u.name}={u.soft}:{u.hard}" for u in options.ulimits]
        if options.network_mode not in {"", "default"}:
            parts.append(f"network={options.network_mode}")
        if options.shm_size:
            parts.append(f"shm={options.shm_size}")
        if self.epoch is not None:
            parts.append(f"epoch={self.epoch}")
        return tuple(parts)

    async def _solve_copy(
        self, step: CopyStep, number: int, before: StageResult, *, no_cache: bool
    ) -> Solved:
        source = await self._find_source(step.source)
        prepared = await self._services.transfers.prepare(step, source, self.epoch)
        if step.link:
            return await self._solve_link(step, number, before, prepared, no_cache=no_cache)
        key = cachekey.copy_key(before.key, step, prepared.key)
        found = self._lookup(key, before, no_cache=no_cache)
        if found is not None:
            self._report(StepStarted(number=number, cached=True))
            return found
        self._report(StepStarted(number=number))
        await self.fetch(before.chain, prepared.tree or Chain())

        async def do(output: Listener) -> Done:
            del output
            async with self._services.working:
                return await self._services.transfers.copy(step, before.chain, prepared, self.epoch)

        if not prepared.has_tree or no_cache:
            return await self._do(step, number, before, key, do, no_cache=no_cache)
        return await self._do_by_content(step, number, before, key, do)

    async def _solve_link(
        self,
        step: CopyStep,
        number: int,
        before: StageResult,
        prepared: PreparedCopy,
        *,
        no_cache: bool,
    ) -> Solved:
        """COPY --link: the layer is made on nothing, and is good on every base."""
        cache = self._services.cache
        key = cachekey.copy_key("", step, prepared.key)
        record = None if no_cache else self._find(key)
        self._report(StepStarted(number=number, cached=record is not None))
        cached = record is not None
        if record is None:
            await self.fetch(prepared.tree or Chain())

            async def do(output: Listener) -> Done:
                del output
                async with self._services.working:
                    return await self._copy_apart(step, prepared)

            done, _ = await self._services.flights.join(key, do, lambda *_: None)
            own = done.layer.diff_id if done.layer is not None else None
            result = key
            if no_cache:
                result = cachekey.fresh_key(key, secrets.token_hex(16))
            elif prepared.has_tree:
                result = cachekey.copy_key("", step, f"content:{done.content}")
            same = self._find(result)
            if same is not None and not same.hollow:
                record, cached = same, True
            else:
                record = CacheRecord(
                    result=result,
                    layers=(own,) if own else (),
                    description=step.name,
                    kind="source.local",
                    size_bytes=self._services.images.layers.get(own).size_bytes if own else 0,
                    created=self._now(done.created),
                    last_used=now(),
                    use_count=1,
                )
            for name in {key, record.result}:
                self.keys[name] = None
                cache.put(name, record)
        linked = (HOLLOW,) if record.hollow else tuple(map(Digest, record.layers))
        chain = before.chain
        for diff_id in linked:
            chain = chain.add(Layer(diff_id))
        return Solved(
            chain=chain,
            key=cachekey.linked_key(before.key, record.result),
            cached=cached,
            created=self._now(record.created),
        )

    async def _copy_apart(self, step: CopyStep, prepared: PreparedCopy) -> Done:
        """A copy onto nothing, packed at once: many chains may have it, and none waits for it."""
        done = await self._services.transfers.copy(step, None, prepared, self.epoch)
        layer = done.layer
        if layer is None or layer.upper is None:
            return done
        try:
            self._services.packer.add(layer, -1 if self.epoch is None else self.epoch)
            diff_id = await layer.wait()
        finally:
            self._services.workspace.drop(layer)
        return replace(done, layer=None if diff_id is None else Layer(diff_id))

    async def _do_by_content(
        self,
        step: CopyStep,
        number: int,
        before: StageResult,
        key: str,
        do: Callable[[Listener], Awaitable[Done]],
    ) -> Solved:
        """COPY from a tree: after the copy the content is known, and may be what another copy gave."""
        done, began = await self._services.flights.join(key, do, lambda *_: None)
        content = cachekey.copy_key(before.key, step, f"content:{done.content}")
        found = self._lookup(content, before, no_cache=False)
        if found is not None and HOLLOW not in {layer.diff_id for layer in found.chain.layers}:
            if began and done.layer is not None:
                self._services.workspace.drop(done.layer)
            record = self._find(content)
            if record is not None:
                self._services.cache.put(key, record)
            return found
        chain = self._take(done.layer, before)
        created = self._now(done.created)
        solved = Solved(chain=chain, key=content, cached=False, created=created)
        self._record(content, solved, step, done.layer)
        self._record(key, solved, step, done.layer)
        del number
        return solved

    async def _solve_workdir(
        self, step: WorkdirStep, number: int, before: StageResult, *, no_cache: bool
    ) -> Solved:
        key = cachekey.workdir_key(before.key, step)
        if self.epoch is not None:
            key = cachekey.digest_of([key, self.epoch])
        found = self._lookup(key, before, no_cache=no_cache)
        if found is not None:
            self._report(StepStarted(number=number, cached=True))
            return found
        self._report_plain(number, cached=False)
        await self.fetch(before.chain)

        async def do(output: Listener) -> Done:
            del output
            return await self._services.transfers.make_folder(step, before.chain, self.epoch)

        # The result is a function of the parent alone, so that doing it again changes no key.
        return await self._do(step, number, before, key, do, no_cache=False)

    async def _do(
        self,
        step: Step,
        number: int,
        before: StageResult,
        key: str,
        do: Callable[[Listener], Awaitable[Done]],
        *,
        no_cache: bool,
    ) -> Solved:
        def listen(stream: int, data: bytes) -> None:
            self._report(StepOutput(number=number, stream=stream, data=data))

        done, _ = await self._services.flights.join(key, do, listen)
        chain = self._take(done.layer, before)
        result = key
        if no_cache and done.layer is not None:
            # Not told apart by what came out: that is known only when the layer is packed.
            result = cachekey.fresh_key(key, secrets.token_hex(16))
        created = self._now(done.created)
        solved = Solved(chain=chain, key=result, cached=False, created=created)
        self._record(key, solved, step, done.layer)
        return solved

    def _take(self, layer: Layer | None, before: StageResult) -> Chain:
        if layer is None:
            return before.chain
        if layer.packed is None and layer.upper is not None:
            self._services.packer.add(layer, -1 if self.epoch is None else self.epoch)
        layer.users += 1
        self._held.append(layer)
        return before.chain.add(layer)

    def _lookup(self, key: str, before: StageResult, *, no_cache: bool) -> Solved | None:
        if no_cache:
            return None
        fresh = self._services.cache.fresh.get(key)
        if fresh is not None:
            self.keys[key] = None
            for layer in fresh.chain.layers:
                if layer.upper is not None:
                    layer.users += 1
                    self._held.append(layer)
            return replace(fresh, cached=True)
        record = self._find(key)
        if record is None:
            return None
        chain = before.chain
        if record.hollow:
            chain = Chain.of((HOLLOW,))
        elif list(record.layers) != [layer.diff_id for layer in chain.layers]:
            chain = Chain.of(record.layers, over_host=chain.over_host)
        created = self._now(record.created)
        return Solved(chain=chain, key=record.result, cached=True, created=created)

    def _find(self, key: str) -> CacheRecord | None:
        """What this store's cache knows of a step, or what `--cache-from` gave."""
        record = self._services.cache.find(key) or self._imported.find(key)
        if record is not None:
            self.keys[key] = None
        return record

    async def fetch(self, *chains: Chain) -> None:
        """Has the layers here that the cache of another store promised."""
        layers = [layer.diff_id for chain in chains for layer in chain.layers]
        await self._imported.fetch(dict.fromkeys(d for d in layers if d is not None))

    def _record(self, key: str, solved: Solved, step: Step, layer: Layer | None) -> None:
        """Remembers the step as soon as its layers are durable."""
        cache = self._services.cache
        cache.fresh[key] = solved
        self.keys[key] = None
        promised = CacheRecord(
            result=solved.key,
            description=step.name,
            kind="regular" if isinstance(step, RunStep) else "source.local",
            created=solved.created,
            last_used=now(),
            use_count=1,
        )
        epoch = -1 if self.epoch is None else self.epoch
        cache.promise(key, promised, solved.chain, layer, epoch)

        async def record() -> None:
            try:
                diff_ids = await solved.chain.diff_ids()
                own = await layer.wait() if layer is not None else None
                size = self._services.images.layers.get(own).size_bytes if own else 0
                cache.put(key, replace(promised, layers=diff_ids, size_bytes=size))
            finally:
                if cache.fresh.get(key) is solved:
                    del cache.fresh[key]

        task = asyncio.get_running_loop().create_task(record(), name="record build step")
        self._recording.add(task)
        task.add_done_callback(_see)

    def _let_go(self) -> None:
        for layer in self._held:
            layer.users -= 1
            upper = layer.upper
            if layer.users == 0 and upper is not None:
                layer.upper = None if layer.diff_id is not None else upper
                self._services.workspace.discard(upper.parent)
        self._held.clear()


def _see(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # the build itself waits for its layers and reports it


def _check_entitlements(step: RunStep, granted: frozenset[str]) -> None:
    """A Dockerfile does not get out of its container by itself: who builds it allows that. Raises Forbidden."""
    wanted = set()
    if step.security == "insecure":
        wanted.add(SECURITY_INSECURE)
    if step.network == "host":
        wanted.add(NETWORK_HOST)
    for name in sorted(wanted - granted):
        raise Forbidden(f"{name} is not allowed: build with --allow {name}")
