"""One build: stages as a graph, solved from the target; what the cache has is not done again.

Theory of operation. Each stage that the target needs is one task; all begin at once and wait for each other where
one copies from another (a semaphore bounds the steps that work at once). Inside a stage steps
follow each other. Every step has a key (`build.cachekey`) that begins with its parent's; a key that the cache
knows gives the layers at once. COPY from a stage has two keys: one of the stage, which needs no look at files,
and one of the files' content, so that a stage that was rebuilt to the same files does not rebuild what copies
them. A step that is done although its key is known (`--no-cache`) gets a key that nobody had before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from wherry.build import cachekey
from wherry.build.errors import DockerfileError
from wherry.build.lint import Warning_, check_program, check_resolution, parse_check_options
from wherry.build.parser import parse_dockerfile
from wherry.build.plan import (
    PROXY_ARGS,
    SCRATCH,
    CopyStep,
    ImageState,
    RunStep,
    StagePlan,
    Step,
    plan_stage,
)
from wherry.build.stages import (
    Reference,
    Resolution,
    Stage,
    context_name,
    find_needed,
    parse_program,
    platform_args,
    resolve,
)
from wherry.engine.build.contexts import BuildContext
from wherry.engine.build.imports import HollowCache, ImportedCache
from wherry.engine.build.layers import Chain
from wherry.engine.build.records import (
    BuildOptions,
    Planned,
    Report,
    StepDone,
    StepFailed,
    StepOutput,
    StepStarted,
)
from wherry.engine.build.result import StageResult, make_image
from wherry.engine.build.shared import Shared
from wherry.engine.build.steps import Services, Steps
from wherry.engine.build.transfer import Source
from wherry.engine.images.catalog import WrongPlatform
from wherry.image.content import BadContent
from wherry.model.errors import EngineError, InvalidArgument, NoSuchImage
from wherry.model.image import HistoryEntry, Image, Platform
from wherry.model.platforms import format_platform, host_platform, parse_platform

COMMENT = "buildkit.dockerfile.v0"
LAYOUT_SCHEME = "oci-layout"  # of a named context: then a tag or digest
EXPORTED = "buildkit.exporter.image.v0"  # of layers that no instruction made


@dataclass(slots=True)
class StepTime:
    """For the record of the build."""

    name: str
    cached: bool = False
    seconds: float = 0.0
    error: str = ""


class Build:
    """One build for one platform."""

    def __init__(
        self,
        services: Services,
        options: BuildOptions,
        context: BuildContext,
        dockerfile: bytes,
        report: Report,
        platform: Platform | None,
        *,
        imported: ImportedCache,
    ) -> None:
        self._services = services
        self._options = options
        self._context = context
        self._report = report
        self._wanted = platform
        self._build_platform = host_platform()
        self.platform = platform or self._build_platform
        self.program = parse_program(parse_dockerfile(dockerfile, options.dockerfile))
        self.target = self.program.get_target(options.target)
        self.resolution = self._resolve()
        self.needed = find_needed(self.resolution, self.target)
        self.epoch = _parse_epoch(options.build_args.get("SOURCE_DATE_EPOCH", ""))
        self.warnings: list[Warning_] = []
        self._checks = parse_check_options(
            options.build_args.get("BUILDKIT_DOCKERFILE_CHECK")
            or self.program.dockerfile.directives.get("check", "")
        )
        self.times: dict[int, StepTime] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self._first = 0
        self._stages: Shared[int, StageResult] = Shared()
        self._plans: dict[int, StagePlan] = {}
        self._images: Shared[tuple[str, str], Image] = Shared()
        self._named: Shared[str, BuildContext] = Shared()
        self._imported = imported
        self._steps = Steps(
            services,
            options,
            report,
            epoch=self.epoch,
            imported=imported,
            find_source=self._source,
        )

    @property
    def keys(self) -> Mapping[str, None]:
        """The cache keys of all steps that were done or found."""
        return self._steps.keys

    def _resolve(self) -> Resolution:
        return resolve(
            self.program,
            build_args=self._options.build_args,
            platform_values=platform_args(
                _plain(self._build_platform), _plain(self.platform), self._options.target
            ),
            named_contexts=frozenset(map(context_name, self._options.contexts)),
        )

    def check(self) -> tuple[Warning_, ...]:
        """Lint findings, those of plans included once stages are solved."""
        found = [*check_program(self.program, self._context.ignore)]
        found += [*check_resolution(self.resolution), *self.warnings]
        unique = dict.fromkeys(found)
        shown = (finding for finding in unique if self._checks.shows(finding.rule))
        return tuple(sorted(shown, key=lambda finding: finding.start))

    def _refuse_findings(self) -> None:
        """With `# check=error=true` findings end the build. Raises InvalidArgument."""
        found = self.check() if self._checks.error else ()
        if found:
            rules = ", ".join(dict.fromkeys(finding.rule.name for finding in found))
            lines = [
                f" - {finding.rule.name}: {finding.message} (line {finding.start})"
                for finding in found
            ]
            raise InvalidArgument("\n".join([f"lint violation found for rules: {rules}", *lines]))

    async def plan_all(self) -> None:
        """Plans every stage, needed or not, without solving it: for `--check`."""
        states: dict[int, ImageState] = {}
        for index, stage in enumerate(self.program.stages):
            reference = self.resolution.bases[index]
            if reference.kind == "stage":
                state = states[reference.index]
            elif reference.kind == "image":
                try:
                    image = self._services.images.get(reference.name)
                    state = ImageState(config=image.config, author=image.author)
                except NoSuchImage:
                    state = SCRATCH
            else:
                state = SCRATCH
            plan = plan_stage(self.resolution, stage, state)
            states[index] = plan.state
            self.warnings.extend(plan.warnings)

    async def run(self) -> StageResult:
        """Solves the target, after `announce`. Raises EngineError; what was done is in the cache either way."""
        self._refuse_findings()
        for number in range(self._first, self._first + len(self.program.global_args)):
            self._report(StepStarted(number=number))
            self._report(StepDone(number=number))
        try:
            try:
                return await self._solve_all()
            except HollowCache:
                await self._stages.end()
                self._imported.drop_hollow()
                return await self._solve_all()
        finally:
            await self._stages.end()
            await self._images.end()
            for context in await self._named.end():
                self._services.contexts.discard(context)
            await self._steps.close()

    async def _solve_all(self) -> StageResult:
        stages = [self._start(index) for index in sorted(self.needed)]
        done, _ = await asyncio.wait(stages, return_when=asyncio.FIRST_EXCEPTION)
        for stage in done:
            stage.result()  # the first failure is the build's
        result = await self._solve(self.target.index)
        await self._steps.fetch(result.chain)
        await result.chain.diff_ids()
        return result

    def unused_args(self) -> list[str]:
        """Build arguments that no ARG took, as the classic builder warns of them."""
        known = {name for plan in self._plans.values() for name in plan.used_args}
        known |= self.resolution.declared_globals | PROXY_ARGS | set(self.resolution.globals)
        return sorted(
            name
            for name in (*self._options.build_args, *self._options.valueless_args)
            if name not in known and not name.startswith(("BUILDKIT_", "SOURCE_DATE_EPOCH"))
        )

    # ---- steps and their numbers

    def announce(self, first: int) -> Planned:
        """All steps; the number of the first is given. Steps of several platforms are told apart by name."""
        self._first = first
        names: list[str] = []
        classic: list[str] = []
        several = len(self._options.platforms) > 1
        prefix = f"{format_platform(self.platform)} " if several else ""
        for arg in self.program.global_args:
            names.append("")
            classic.append(_one_line(arg.source.original))
        for index in sorted(self.needed):
            stage = self.program.stages[index]
            label = prefix + stage.label
            total = 1 + sum(_shown(instruction) for instruction in stage.instructions)
            place = 1
            self._numbers[index, 0] = first + len(names)
            names.append(f"[{label} 1/{total}] {_one_line(stage.from_.source.original)}")
            classic.append(_one_line(stage.from_.source.original))
            for at, instruction in enumerate(stage.instructions, 1):
                text = _one_line(instruction.source.original)
                self._numbers[index, at] = first + len(names)
                if _shown(instruction):
                    place += 1
                    names.append(f"[{label} {place}/{total}] {text}")
                else:
                    names.append("")
                classic.append(text)
            if index == self.target.index:
                for at, (name, value) in enumerate(
                    sorted(self._options.labels.items()), len(stage.instructions) + 1
                ):
                    self._numbers[index, at] = first + len(names)
                    names.append("")
                    classic.append(f"LABEL {name}={value}")
        self.times = {number: StepTime(name) for number, name in enumerate(names, first) if name}
        return Planned(names=tuple(names), classic=tuple(classic))

    def _finish(self, number: int, started: float, shown: str, *, cached: bool) -> None:
        entry = self.times.get(number)
        if entry is not None:
            entry.cached, entry.seconds = cached, time.monotonic() - started
        self._report(StepDone(number=number, short_id=shown[:12], cached=cached))

    # ---- stages

    async def _solve(self, index: int) -> StageResult:
        return await asyncio.shield(self._start(index))

    def _start(self, index: int) -> asyncio.Task[StageResult]:
        return self._stages.begin(index, lambda: self._solve_stage(self.program.stages[index]))

    async def _solve_stage(self, stage: Stage) -> StageResult:
        number = self._numbers.get(
            (stage.index, 0), -1
        )  # one that only a trigger needs is not shown
        started = time.monotonic()
        self._report(StepStarted(number=number))
        try:
            result = await self._solve_base(self.resolution.bases[stage.index])
        except EngineError as error:
            place = stage.from_.source
            raise self._fail(number, error, started, place.start, place.end) from error
        shown = result.base.id.partition(":")[2] if result.base is not None else result.shown
        result = replace(result, shown=shown)
        plan = plan_stage(self.resolution, stage, result.state)
        self._plans[stage.index] = plan
        self.warnings.extend(plan.warnings)
        self._refuse_findings()
        no_cache = self._options.no_cache or self._has_no_cache_source()
        no_cache = no_cache or any(
            name.lower() in {stage.from_.name, str(stage.index)}
            for name in self._options.no_cache_filter
        )
        triggers, steps = plan.steps[: plan.triggers], plan.steps[plan.triggers :]
        if triggers:
            text = f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}\n"
            self._report(StepOutput(number=number, stream=1, data=text.encode()))
        for step in triggers:
            result = await self._solve_step(step, number, result, no_cache=no_cache)
        self._finish(number, started, result.shown, cached=False)
        if stage.index == self.target.index:
            steps = (*steps, *self._label_steps(stage, plan.state))
        for at, step in enumerate(steps, 1):
            number = self._numbers.get((stage.index, at), -1)
            result = await self._solve_step(step, number, result, no_cache=no_cache)
        return result

    def _label_steps(self, stage: Stage, state: ImageState) -> tuple[Step, ...]:
        """`--label`: steps of the target that only the classic builder shows, and no history."""
        steps: list[Step] = []
        for name, value in sorted(self._options.labels.items()):
            labels = {**state.config.labels, name: value}
            state = replace(state, config=replace(state.config, labels=labels))
            place = stage.from_.source
            steps.append(
                Step(
                    name=f"LABEL {name}={value}",
                    created_by="",
                    start=place.start,
                    end=place.end,
                    state=state,
                )
            )
        return tuple(steps)

    async def _solve_base(self, reference: Reference) -> StageResult:
        if reference.kind == "stage":
            result = await self._solve(reference.index)
            return replace(result, state=replace(result.state, cmd_is_set=False))
        platform = parse_platform(reference.platform) if reference.platform else None
        chosen = platform or self._wanted
        if reference.kind == "named":
            named = await self._named_image(reference.name, chosen)
            if named is None:
                return await self._solve_folder(reference, self._scratch(chosen))
            image = named
        elif reference.kind == "scratch":
            return self._scratch(chosen)
        else:
            image = await self._image(reference.name, chosen)
        return StageResult(
            chain=Chain.of(image.diff_ids, over_host=image.is_host),
            key=self._base_key(image),
            state=ImageState(config=image.config, author=image.author),
            history=image.history,
            platform=image.platform,
            base=image,
        )

    def _scratch(self, platform: Platform | None) -> StageResult:
        return StageResult(
            chain=Chain(),
            key=cachekey.base_key((), format_platform(platform or self.platform)),
            state=SCRATCH,
            platform=_plain(platform or self.platform),
        )

    async def _solve_folder(self, reference: Reference, scratch: StageResult) -> StageResult:
        """A named context that is a folder, a URL or a repository, as the root of a stage."""
        name = f"local source for {reference.name}"
        step = CopyStep(
            name=name,
            created_by=name,
            start=0,
            end=0,
            state=SCRATCH,
            source=reference,
            sources=("/",),
            destination="/",
        )
        done = await self._steps.solve(step, -1, scratch, no_cache=False)
        entry = HistoryEntry(created=done.created, created_by=name, comment=EXPORTED)
        return replace(scratch, chain=done.chain, key=done.key, shown=done.key, history=(entry,))

    def _base_key(self, image: Image) -> str:
        layers: tuple[str, ...] = image.diff_ids
        if image.is_host:
            layers = (self._services.images.host_base_of(image), *layers)
        return cachekey.base_key(layers, format_platform(image.platform))

    def _named_key(self, name: str) -> str:
        return next(key for key in self._options.contexts if context_name(key) == name)

    async def _named_image(self, name: str, platform: Platform | None) -> Image | None:
        """The image that a named context is; None when it is files."""
        key = self._named_key(name)
        scheme, _, rest = self._options.contexts[key].partition(":")
        if scheme == "docker-image":
            return await self._image(rest.removeprefix("//"), platform)
        if scheme != LAYOUT_SCHEME:
            return None

        async def load() -> Image:
            folder = self._services.contexts.named(self._context, key)
            return await self._services.layouts.load(folder, rest, platform)

        known = (f"{scheme}:{key}", format_platform(platform) if platform else "")
        try:
            return await self._images.get(known, load)
        except BadContent as error:
            raise InvalidArgument(f"build context {key}: {error}") from error

    async def _image(self, name: str, platform: Platform | None) -> Image:
        key = (name, format_platform(platform) if platform else "")
        return await self._images.get(key, lambda: self._find_image(name, platform))

    async def _find_image(self, name: str, platform: Platform | None) -> Image:
        images = self._services.images
        other: WrongPlatform | None = None
        if not self._options.pull or name in {"host", "host:latest"}:
            try:
                return images.get(name, platform)
            except NoSuchImage:
                pass
            except WrongPlatform as error:
                other = error
        try:
            await self._services.pull(name, platform, self._options, self._report)
        except EngineError as error:
            raise other or error from error
        return images.get(name, platform)

    # ---- steps

    def _has_no_cache_source(self) -> bool:
        """`--cache-from` images, none of which is here: as the classic builder, nothing is taken from elsewhere."""
        sources = self._options.classic_cache_from
        return bool(sources) and not any(map(self._is_here, sources))

    def _is_here(self, name: str) -> bool:
        try:
            return self._services.images.find_image(name) is not None
        except InvalidArgument:
            return False  # passed over, as the classic builder does

    async def _solve_step(
        self, step: Step, number: int, before: StageResult, *, no_cache: bool
    ) -> StageResult:
        started = time.monotonic()
        try:
            done = await self._steps.solve(step, number, before, no_cache=no_cache)
        except EngineError as error:
            if isinstance(error, StepFailed) and isinstance(step, RunStep):
                error.hint = await self._debug_hint(before)
            raise self._fail(number, error, started, step.start, step.end) from error
        shown = cachekey.digest_of([before.shown, done.key, step.created_by or step.name])
        if step.trigger:
            self._report(StepDone(number=number, cached=done.cached, continues=True))
        else:
            self._finish(number, started, shown, cached=done.cached)
        history = before.history
        if step.created_by:
            entry = HistoryEntry(
                created=done.created,
                created_by=step.created_by,
                comment=COMMENT,
                empty_layer=len(done.chain.layers) == len(before.chain.layers),
            )
            history = (*history, entry)
        return replace(
            before,
            chain=done.chain,
            key=done.key,
            state=step.state,
            shown=shown,
            history=history,
        )

    async def _debug_hint(self, before: StageResult) -> str:
        """How to get a shell in the state before a step; with --debug that state becomes an image."""
        if not self._options.debug:
            return "build with --debug for a shell in it"
        image = await make_image(self._services.images, before, self.epoch)
        return f"wherry run --rm -it --entrypoint sh {image.id.partition(':')[2][:12]}"

    def _fail(
        self, number: int, error: EngineError, started: float, start: int, end: int
    ) -> EngineError:
        """The error with the lines of the Dockerfile that it is about."""
        entry = self.times.get(number)
        if entry is not None and not entry.error:
            entry.error, entry.seconds = str(error), time.monotonic() - started
        self._report(StepDone(number=number, error=str(error)))
        if isinstance(error, DockerfileError):
            return error  # of a stage that this one needs
        failure = error if isinstance(error, StepFailed) else StepFailed(str(error))
        failure.place(self._options.dockerfile, start, end, self.program.dockerfile.lines)
        return failure

    # ---- sources

    async def _source(self, reference: Reference) -> Source:
        if reference.kind == "context":
            return Source(label="context", context=self._context)
        if reference.kind == "stage":
            result = await self._solve(reference.index)
            return Source(label=reference.name, chain=result.chain, key=result.key)
        if reference.kind == "named":
            return await self._named_source(reference.name)
        if reference.kind == "scratch" or reference.name == "scratch":
            return Source(label="scratch", chain=Chain(), key=cachekey.base_key((), ""))
        image = await self._image(reference.name, self._wanted)
        return Source(
            label=reference.name,
            chain=Chain.of(image.diff_ids, over_host=image.is_host),
            key=self._base_key(image),
        )

    async def _named_source(self, name: str) -> Source:
        image = await self._named_image(name, self._wanted)
        if image is not None:
            return Source(
                label=name,
                chain=Chain.of(image.diff_ids, over_host=image.is_host),
                key=self._base_key(image),
            )
        context = await self._named.get(name, lambda: self._named_context(self._named_key(name)))
        return Source(label=name, context=context)

    async def _named_context(self, key: str) -> BuildContext:
        spec = self._options.contexts[key]
        contexts = self._services.contexts
        return (
            contexts.named(self._context, key) if spec == "local" else await contexts.archive(spec)
        )


def _plain(platform: Platform) -> Platform:
    """Without the level of the processor, which is this machine's and not the image's."""
    if platform.architecture == "amd64":
        return replace(platform, variant="")
    return platform


def _one_line(text: str) -> str:
    return " ".join(text.split()) if "\n" in text else text.strip()


def _shown(instruction: object) -> bool:
    return type(instruction).__name__ in {"Run", "Copy", "Add", "Workdir"}


def _parse_epoch(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise InvalidArgument(f"invalid SOURCE_DATE_EPOCH: {text}")
    return int(text)
