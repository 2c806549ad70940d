"""The builder: what the API asks for. Takes a context and options, gives progress and an image.

Composition of the parts in `engine.build`. One instance per engine; builds run side by side and share steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from wherry.build.errors import Span, format_excerpt
from wherry.engine.build.cache import BuildCache
from wherry.engine.build.contexts import Contexts
from wherry.engine.build.execution import Runner
from wherry.engine.build.exports import CacheExporter
from wherry.engine.build.fetch import DOWNLOADS, Fetcher
from wherry.engine.build.flights import Flights
from wherry.engine.build.imports import CacheImporter, ImportedCache
from wherry.engine.build.kept import KeptContexts, Listed
from wherry.engine.build.layers import Packer, Workspace
from wherry.engine.build.layouts import Layouts
from wherry.engine.build.log import BuildLog, readable
from wherry.engine.build.outputs import Outputs, Results, check_outputs, keeps_image, needs_image
from wherry.engine.build.prune import PruneOptions, choose
from wherry.engine.build.records import (
    CANCELLED,
    BuildOptions,
    BuildResult,
    CacheItem,
    HistoryRecord,
    HistoryStep,
    Notice,
    Planned,
    Report,
)
from wherry.engine.build.recovery import keep_promises
from wherry.engine.build.remotes import CacheRegistry
from wherry.engine.build.result import StageResult, make_image
from wherry.engine.build.solver import Build
from wherry.engine.build.steps import Pull, Services
from wherry.engine.build.transfer import Transfers
from wherry.engine.clock import now
from wherry.engine.containers.seams import Launcher, NetworkAttacher
from wherry.engine.images import Images
from wherry.engine.resolvers import Resolvers
from wherry.engine.settings import EngineSettings
from wherry.engine.store import Store, Table
from wherry.engine.tasks import run_together
from wherry.image.config import descriptor_json
from wherry.image.reference import Reference, parse_reference
from wherry.lib.jsonvalue import JsonObject, JsonValue
from wherry.model.errors import FULL_DISK, EngineError, Internal, InvalidArgument, NoSpace, NotFound
from wherry.model.image import Descriptor, Image

logger = logging.getLogger(__name__)

MAX_HISTORY = 50


class Builder:
    """Builds images."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        store: Store,
        images: Images,
        networks: NetworkAttacher,
        shims: Launcher,
        resolvers: Resolvers,
        pull: Pull,
        registry: CacheRegistry,
        cgroup_version: int,
        publish: Callable[[str, str, str, Mapping[str, str]], None],
    ) -> None:
        self._images = images
        self._publish = publish
        workspace = Workspace(settings.root, images)
        fetcher = Fetcher(settings.root)
        self._workspace = workspace
        self._runner = Runner(
            settings=settings,
            store=store,
            networks=networks,
            shims=shims,
            resolvers=resolvers,
            workspace=workspace,
            cgroup_version=cgroup_version,
        )
        self._cache = BuildCache(store, images)
        images.set_cached_layers(self._cache.layers)
        self._history = Table(store, "build_history", HistoryRecord)
        self._kept_contexts = KeptContexts(settings.root)
        self._services = Services(
            images=images,
            pull=pull,
            runner=self._runner,
            transfers=Transfers(workspace, fetcher, images),
            workspace=workspace,
            packer=Packer(images),
            cache=self._cache,
            flights=Flights(workspace.drop),
            contexts=Contexts(workspace, fetcher, self._kept_contexts),
            fetcher=fetcher,
            layouts=Layouts(images),
            working=asyncio.Semaphore(max(2, (os.cpu_count() or 1))),
        )
        self._outputs = Outputs(images, workspace)
        self._importer = CacheImporter(images, registry, self._services.layouts)
        self._exporter = CacheExporter(images, self._cache, registry, self._outputs)
        self._remembered: list[str] | None = None  # ids, oldest first; read when first needed
        self._recovery: asyncio.Task[None] | None = None
        self._going_on: set[Build] = set()
        self._building = 0  # builds, also those whose context is not here yet

    async def start(self) -> None:
        """Ends what an earlier engine left of its builds."""
        await self._runner.start()
        self._recovery = asyncio.get_running_loop().create_task(
            self._recover(), name="recover builds"
        )

    async def _recover(self) -> None:
        folders = sorted(self._workspace.folder.iterdir())
        with self._images.building():
            await keep_promises(self._cache, self._workspace, self._services.packer, self._images)
        for folder in folders:
            self._workspace.discard(folder)

    async def close(self) -> None:
        """Waits for steps that are being freed and layers that are being packed."""
        await self._runner.settle()
        if self._recovery is not None:
            await asyncio.wait([self._recovery])
        await self._services.packer.close()
        await self._services.transfers.close()

    # ---- building

    async def build(
        self, options: BuildOptions, body: AsyncIterator[bytes], report: Report
    ) -> BuildResult:
        """Builds. Raises DockerfileError, StepFailed, EngineError; cancelling it leaves nothing behind.

        `report` is called on the loop, in the order of what happens.
        """
        if self._recovery is not None:
            await asyncio.wait([self._recovery])
        log = BuildLog(report, tuple(options.secrets.values()))
        started, created = time.monotonic(), now()
        builds: list[Build] = []
        self._building += 1
        status, error_text = "error", ""
        result = BuildResult()
        try:
            result = await self._build(options, body, log.report, builds)
            status = "completed"
        except asyncio.CancelledError:
            status, error_text = "cancelled", CANCELLED
            raise
        except OSError as error:
            failure = NoSpace(error) if error.errno in FULL_DISK else Internal(str(error))
            error_text = str(failure)
            raise failure from error
        except EngineError as error:
            error_text = str(error)
            raise
        finally:
            self._building -= 1
            if not options.check:
                self._remember(
                    HistoryRecord(
                        id=secrets.token_hex(12),
                        created=created,
                        seconds=time.monotonic() - started,
                        status=status,
                        dockerfile=options.dockerfile,
                        target=options.target,
                        tags=options.tags,
                        image=result.image_id,
                        error=readable(error_text),
                        steps=tuple(
                            HistoryStep(
                                name=step.name,
                                cached=step.cached,
                                seconds=step.seconds,
                                error=readable(step.error),
                            )
                            for build in builds
                            for step in build.times.values()
                        ),
                        log=log.text(),
                    )
                )
        return result

    async def _build(
        self,
        options: BuildOptions,
        body: AsyncIterator[bytes],
        report: Report,
        builds: list[Build],
    ) -> BuildResult:
        tags = tuple(parse_reference(tag).with_default_tag().familiar() for tag in options.tags)
        for name in options.tags:
            if parse_reference(name).digest:
                raise InvalidArgument("build tag cannot contain a digest")
        check_outputs(options.outputs)
        context, options, dockerfile = await self._services.contexts.receive(options, body)
        try:
            with self._images.building():
                imported = ImportedCache(self._images)
                builds += (
                    Build(
                        self._services,
                        options,
                        context,
                        dockerfile,
                        report,
                        platform,
                        imported=imported,
                    )
                    for platform in options.platforms or (None,)
                )
                self._going_on.update(builds)
                if options.check:
                    for build in builds:
                        await build.plan_all()
                    return BuildResult(warnings=self._warnings(builds, options, report))
                await self._importer.load(
                    imported, options, context, lambda text: report(Notice(text=text))
                )
                solved = await _solve(builds, report)
                warnings = self._warnings(builds, options, report)
                with contextlib.ExitStack() as undo:
                    result = await self._deliver(builds, solved, options, tags, undo)
                    caches = await self._export_cache(builds, solved, options, report)
                    undo.pop_all()
                return replace(result, caches=caches, warnings=warnings)
        finally:
            self._going_on.difference_update(builds)
            self._services.contexts.discard(context)
            self._images.collect()

    async def _deliver(
        self,
        builds: Sequence[Build],
        solved: Sequence[StageResult],
        options: BuildOptions,
        tags: tuple[str, ...],
        undo: contextlib.ExitStack,
    ) -> BuildResult:
        """Images, tags and outputs. An image that is only asked for as a file does not stay.

        `undo` gets what must not stay when something after it fails.
        """
        images: list[Image] = []
        keeps = keeps_image(options.outputs)
        if needs_image(options.outputs):
            for build, stage in zip(builds, solved, strict=True):
                cache: JsonObject = {}
                if any(option.type == "inline" for option in options.cache_to):
                    cache = self._exporter.inline(build.keys, await stage.chain.diff_ids())
                image = await make_image(self._images, stage, build.epoch, cache, keep=keeps)
                for output in options.outputs:
                    if output.type == "image" and output.compression is not None:
                        image = await self._images.recompressed(
                            image, output.compression, keep=True
                        )
                images.append(image)
        target = await self._outputs.make_target(images)
        names = tuple(parse_reference(tag).with_default_tag() for tag in tags)
        if keeps:
            self._tag(images, target, names)
        results = Results(
            roots=tuple((stage.chain, stage.platform) for stage in solved),
            images=tuple(images),
            target=target,
            names=names,
        )
        outputs: list[str] = []
        for output in options.outputs:
            if output.type != "image":
                outputs.append(await self._outputs.write(output, results))
                undo.callback(self._outputs.forget, outputs[-1])
        return BuildResult(
            image_id=images[0].id if images else "",
            tags=tags if keeps else (),
            outputs=tuple(outputs),
            metadata=_metadata(images, target, options.tags),
        )

    async def _export_cache(
        self,
        builds: Sequence[Build],
        solved: Sequence[StageResult],
        options: BuildOptions,
        report: Report,
    ) -> tuple[str, ...]:
        """To every `--cache-to`; answers the names of what the client fetches."""
        caches: list[str] = []
        keys = dict.fromkeys(key for build in builds for key in build.keys)
        results = [await stage.chain.diff_ids() for stage in solved]
        for option in options.cache_to:
            if option.type == "inline":
                continue
            report(Notice(text=f"exporting cache to {option.shown()}\n"))
            try:
                name = await self._exporter.export(option, keys, results, options.credentials)
            except EngineError as error:
                if not option.ignores_errors:
                    raise
                name = ""
                report(Notice(text=f"[Warning] no cache to {option.shown()}: {error}\n"))
            if option.type == "local":
                caches.append(name)
        return tuple(caches)

    def _warnings(
        self, builds: Sequence[Build], options: BuildOptions, report: Report
    ) -> tuple[str, ...]:
        found = dict.fromkeys(warning for build in builds for warning in build.check())
        lines = builds[0].program.dockerfile.lines
        texts: list[str] = []
        for warning in found:
            place = format_excerpt(
                options.dockerfile,
                Span(warning.start, warning.end, warning.start, 1),
                lines,
            )
            texts.append(
                f"{warning.rule.name}: {warning.message} (line {warning.start})"
                if not options.check
                else f"WARNING: {warning.rule.name} - {warning.rule.url}\n{warning.message}\n{place}"
            )
        unused = sorted({name for build in builds for name in build.unused_args()})
        if unused and not options.check:
            names = " ".join(unused)
            report(Notice(text=f"[Warning] One or more build-args [{names}] were not consumed\n"))
        return tuple(texts)

    def _tag(
        self, images: Sequence[Image], target: Descriptor | None, names: Sequence[Reference]
    ) -> None:
        for name in names:
            if len(images) == 1:
                self._images.tag(images[0].id, name.familiar())
                continue
            for image in reversed(images):
                self._images.point(name.canonical(), image.id, target)

    # ---- outputs

    async def offer_context(self, key: str, entries: Iterable[Listed]) -> tuple[str, list[int]]:
        """Before a build: a token for it, and the places of the files that must be sent."""
        return await self._kept_contexts.offer(key, entries)

    def take_output(self, name: str) -> Path:
        """The file of a build's output; the caller removes it. Raises NotFound."""
        return self._outputs.take(name)

    # ---- cache and history

    async def usage(self) -> list[CacheItem]:
        """What the cache holds."""
        folders = [
            replace(item, in_use=True) if item.key == DOWNLOADS and self._building else item
            for item in await self._runner.caches.items()
        ]
        in_use = {key for build in self._going_on for key in build.keys}
        return [*self._cache.items(in_use), *folders]

    async def prune(self, options: PruneOptions) -> tuple[list[str], int]:
        """Forgets what the options choose; answers ids and bytes."""
        status = os.statvfs(self._workspace.folder)
        chosen = choose(await self.usage(), options, status.f_bavail * status.f_frsize)
        folders = [item for item in chosen if item.is_folder]
        self._cache.forget({item.key for item in chosen})
        for item in folders:
            place = self._runner.caches.folder / item.key
            self._workspace.discard(place)
            place.with_name(f"{item.key}.id").unlink(missing_ok=True)
        if options.is_everything:
            self._cache.forget_configs()
        freed = sum(item.size_bytes for item in chosen if not item.shared)
        self._images.collect()
        self._publish("builder", "prune", "", {"reclaimed": str(freed)})
        return [item.id for item in chosen], freed

    def history(self) -> tuple[HistoryRecord, ...]:
        """Finished builds, the newest first."""
        records = [record for _, record in self._history.items()]
        return tuple(sorted(records, key=lambda record: record.created, reverse=True))

    def get_history(self, ref: str) -> HistoryRecord:
        """One of them, by a prefix of its id. Raises NotFound."""
        found = [record for record in self.history() if record.id.startswith(ref)]
        if len(found) != 1:
            raise NotFound(f"no such build: {ref}")
        return found[0]

    def _remember(self, record: HistoryRecord) -> None:
        """Keeps the record of a build; without room for it the build is what it was all the same."""
        try:
            if self._remembered is None:
                self._remembered = [known.id for known in reversed(self.history())]
            self._history.put(record.id, record)
            self._remembered.append(record.id)
            while len(self._remembered) > MAX_HISTORY:
                self._history.delete(self._remembered.pop(0))
        except EngineError as error:
            logger.warning("the record of a build is lost: %s", error)


async def _solve(builds: Sequence[Build], report: Report) -> list[StageResult]:
    """All platforms side by side; the first failure ends the others."""
    names: list[str] = []
    classic: list[str] = []
    for build in builds:
        planned = build.announce(len(names))
        names += planned.names
        classic += planned.classic
    report(Planned(names=tuple(names), classic=tuple(classic)))
    return await run_together(build.run() for build in builds)


def _metadata(
    images: Sequence[Image], target: Descriptor | None, tags: Sequence[str]
) -> JsonObject:
    """The facts of `--metadata-file`, with BuildKit's names."""
    if target is None:
        return {}
    facts: dict[str, JsonValue] = {
        "containerimage.descriptor": descriptor_json(target),
        "containerimage.digest": target.digest,
    }
    if len(images) == 1:
        facts["containerimage.config.digest"] = images[0].id
    if tags:
        facts["image.name"] = ",".join(parse_reference(tag).canonical() for tag in tags)
    return dict(sorted(facts.items()))
