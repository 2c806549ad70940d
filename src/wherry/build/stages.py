"""Instructions to stages, and what each stage starts from and takes from others.

Pure: names, arguments and platforms in; for every stage its base (another stage, an image, a named
context, or nothing) and the stages that a target needs out. Images are looked up elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wherry.build.errors import SyntaxProblem, suggest
from wherry.build.expand import expand_word
from wherry.build.instructions import parse_instruction
from wherry.build.instructions.arg import Arg
from wherry.build.instructions.base import Instruction
from wherry.build.instructions.copy import Copy
from wherry.build.instructions.from_ import From
from wherry.build.instructions.run import Run
from wherry.build.instructions.run_mount import parse_mount
from wherry.build.parser import Dockerfile
from wherry.build.words import quote_go
from wherry.model.errors import InvalidArgument
from wherry.model.image import Platform

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One FROM and what follows it."""

    index: int
    from_: From
    instructions: tuple[Instruction, ...]

    @property
    def label(self) -> str:
        """How progress names the stage."""
        return self.from_.name or f"stage-{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A whole Dockerfile, understood."""

    dockerfile: Dockerfile
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]

    def find_stage(self, name: str) -> Stage | None:
        """The stage with this name (the last one, as in BuildKit) or index."""
        lowered = name.lower()
        for stage in reversed(self.stages):
            if stage.from_.name and stage.from_.name == lowered:
                return stage
        if name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(self.stages):
            return self.stages[int(name)]
        return None

    def get_target(self, name: str) -> Stage:
        """The target stage; the last one without a name. Raises InvalidArgument."""
        if not name:
            return self.stages[-1]
        stage = self.find_stage(name)
        if stage is None:
            names = [stage.from_.name for stage in self.stages if stage.from_.name]
            raise InvalidArgument(
                f"target stage {quote_go(name)} could not be found" + suggest(name, names)
            )
        return stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where files come from: `name` is an image's or a named context's, `index` a stage's."""

    kind: Literal["stage", "image", "scratch", "context", "named"]
    name: str = ""
    index: int = -1
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The program with arguments known: globals, and every stage's base."""

    program: Program
    globals: Mapping[str, str]
    declared_globals: frozenset[str]
    build_args: Mapping[str, str]
    named_contexts: frozenset[str]
    bases: tuple[Reference, ...]
    undefined_in_from: Mapping[int, frozenset[str]] = field(default_factory=dict)

    def source(self, name: str, stage: Stage) -> Reference:
        """What `--from=name` in this stage means. Raises SyntaxProblem."""
        if context_name(name) in self.named_contexts:
            return Reference(kind="named", name=context_name(name))
        found = self.program.find_stage(name)
        if found is None:
            earlier = None
        elif found.index >= stage.index and not name.isdigit():
            same = [
                other
                for other in self.program.stages[: stage.index]
                if other.from_.name == name.lower()
            ]
            earlier = same[-1] if same else None
        else:
            earlier = found
        if earlier is not None and earlier.index < stage.index:
            return Reference(kind="stage", index=earlier.index, name=earlier.label)
        if found is not None:
            raise SyntaxProblem(
                f"cannot copy from stage {quote_go(name)}, it needs to be defined before current"
                f" stage {quote_go(stage.label)}",
                name,
            )
        if name.isascii() and name.isdigit():
            raise SyntaxProblem(f"invalid from flag value {name}: invalid stage index {name}", name)
        return Reference(kind="image", name=name)


def parse_program(dockerfile: Dockerfile) -> Program:
    """Groups the instructions. Raises DockerfileError."""
    global_args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for node in dockerfile.nodes:
        instruction = parse_instruction(node, dockerfile)
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            raise dockerfile.error(
                "no build stage in current context", node.start, node.end, node.keyword
            )
    if not stages:
        last = dockerfile.nodes[-1]
        raise dockerfile.error("dockerfile contains no stages to build", last.start, last.end)
    return Program(
        dockerfile=dockerfile,
        global_args=tuple(global_args),
        stages=tuple(
            Stage(index=index, from_=from_, instructions=tuple(instructions))
            for index, (from_, instructions) in enumerate(stages)
        ),
    )


def platform_args(build: Platform, target: Platform, target_stage: str) -> dict[str, str]:
    """The arguments that every Dockerfile may declare without giving them."""
    values: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        values[f"{prefix}PLATFORM"] = format_platform(platform)
        values[f"{prefix}OS"] = platform.os
        values[f"{prefix}OSVERSION"] = platform.os_version
        values[f"{prefix}ARCH"] = platform.architecture
        values[f"{prefix}VARIANT"] = platform.variant
    values["TARGETSTAGE"] = target_stage or "default"
    return values


def format_platform(platform: Platform) -> str:
    """`linux/arm/v7`."""
    text = f"{platform.os}/{platform.architecture}"
    return f"{text}/{platform.variant}" if platform.variant else text


def resolve(
    program: Program,
    *,
    build_args: Mapping[str, str],
    platform_values: Mapping[str, str],
    named_contexts: frozenset[str] = frozenset(),
) -> Resolution:
    """Evaluates the global arguments and every FROM. Raises DockerfileError."""
    variables = dict(platform_values)
    declared: set[str] = set()
    for arg in program.global_args:
        for argument in arg.arguments:
            declared.add(argument.name)
            if argument.name in build_args:
                variables[argument.name] = build_args[argument.name]
            elif argument.default is not None:
                variables[argument.name] = _expand(program, arg, argument.default, variables)
    bases: list[Reference] = []
    undefined: dict[int, frozenset[str]] = {}
    for stage in program.stages:
        reference, unmatched = _resolve_base(program, stage, variables, named_contexts)
        bases.append(reference)
        if unmatched:
            undefined[stage.index] = unmatched
    return Resolution(
        program=program,
        globals=variables,
        declared_globals=frozenset(declared),
        build_args=build_args,
        named_contexts=named_contexts,
        bases=tuple(bases),
        undefined_in_from=undefined,
    )


def _expand(
    program: Program, instruction: Instruction, word: str, variables: Mapping[str, str]
) -> str:
    try:
        return expand_word(word, variables, program.dockerfile.escape).text
    except SyntaxProblem as problem:
        raise problem_at(program, instruction, problem) from None


def problem_at(program: Program, instruction: Instruction, problem: SyntaxProblem) -> Exception:
    """The problem with the place of this instruction."""
    source = instruction.source
    return program.dockerfile.error(str(problem), source.start, source.end, problem.near)


def _resolve_base(
    program: Program,
    stage: Stage,
    variables: Mapping[str, str],
    named_contexts: frozenset[str],
) -> tuple[Reference, frozenset[str]]:
    from_ = stage.from_
    escape = program.dockerfile.escape
    try:
        base = expand_word(from_.base, variables, escape)
        platform = expand_word(from_.platform, variables, escape)
        if not base.text:
            raise SyntaxProblem(f"base name ({from_.base}) should not be blank", from_.base)
        if from_.platform and not platform.text:
            raise SyntaxProblem(
                f"empty platform value from expression {from_.platform}", from_.platform
            )
    except SyntaxProblem as problem:
        raise problem_at(program, from_, problem) from None
    unmatched = base.unmatched | platform.unmatched
    named = context_name(base.text)
    if named in named_contexts:
        return Reference(kind="named", name=named, platform=platform.text), unmatched
    for other in reversed(program.stages[: stage.index]):
        if other.from_.name and other.from_.name == base.text.lower():
            return Reference(kind="stage", index=other.index, name=other.label), unmatched
    if base.text == SCRATCH:
        return Reference(kind="scratch", platform=platform.text), unmatched
    if not is_image_name(base.text):
        refused = SyntaxProblem(
            f"failed to parse stage name {quote_go(base.text)}: invalid reference format",
            from_.base,
        )
        raise problem_at(program, from_, refused)
    return Reference(kind="image", name=base.text, platform=platform.text), unmatched


def context_name(name: str) -> str:
    """A name of a context in its one form: `docker.io/library/x:latest` and `x` are the same."""
    familiar = name.lower().removeprefix("docker.io/").removeprefix("library/")
    return familiar.removesuffix(":latest")


def is_image_name(text: str) -> bool:
    """Whether the text could name an image."""
    name = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    return (
        re.fullmatch(
            rf"(?:[A-Za-z0-9.:\[\]-]+/)?{name}(?:/{name})*(?::[\w][\w.-]{{0,127}})?(?:@[a-z0-9]+:[0-9a-f]+)?",
            text,
        )
        is not None
    )


def find_needed(resolution: Resolution, target: Stage) -> frozenset[int]:
    """The stages that the target needs, itself included."""
    needed: set[int] = set()
    waiting = [target.index]
    while waiting:
        index = waiting.pop()
        if index in needed:
            continue
        needed.add(index)
        stage = resolution.program.stages[index]
        references = [resolution.bases[index]]
        for instruction in stage.instructions:
            references.extend(find_sources(resolution, stage, instruction))
        waiting.extend(ref.index for ref in references if ref.kind == "stage")
    return frozenset(needed)


def find_sources(
    resolution: Resolution, stage: Stage, instruction: Instruction
) -> tuple[Reference, ...]:
    """What COPY --from and RUN --mount=from take from. Raises DockerfileError."""
    names: list[str] = []
    if isinstance(instruction, Copy) and instruction.from_:
        names.append(instruction.from_)
    elif isinstance(instruction, Run):
        for text in instruction.mounts:
            mount = parse_mount(text, lambda value: value) if "$" not in text else None
            if mount is not None:
                names.append(mount.from_)
            else:
                names.extend(
                    part.partition("=")[2]
                    for part in text.split(",")
                    if part.lower().startswith("from=")
                )
    try:
        return tuple(resolution.source(name, stage) for name in names if name)
    except SyntaxProblem as problem:
        raise problem_at(resolution.program, instruction, problem) from None
