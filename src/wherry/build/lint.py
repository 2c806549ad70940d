"""Lint rules as a table: BuildKit's names, descriptions and sentences, and the checks of the text.

A rule that needs variables or a base image is reported by `plan.py` through the same table. `# check=`
directives choose: `skip=Rule,Rule`, `skip=all`, `error=true`, `experimental=Rule`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem, suggest
from wherry.build.expand import expand_word
from wherry.build.ignore import IgnoreMatcher
from wherry.build.instructions.arg import Arg
from wherry.build.instructions.base import Instruction
from wherry.build.instructions.command import Cmd, Entrypoint, Shell
from wherry.build.instructions.copy import Copy, Transfer
from wherry.build.instructions.from_ import From
from wherry.build.instructions.healthcheck import Healthcheck
from wherry.build.instructions.pairs import Env, Label
from wherry.build.instructions.texts import Expose, Maintainer
from wherry.build.stages import Program, Resolution, Stage, is_image_name
from wherry.build.words import quote_go
from wherry.model.errors import InvalidArgument

DOCS = "https://docs.docker.com/go/dockerfile/rule/"
RESERVED_STAGE_NAMES = ("scratch", "context")
SECRET_WORDS = re.compile(
    r"(?i)(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)"
)
NOT_SECRET_WORDS = re.compile(r"(?i)(?:_|^)public(?:_|$)")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it is called, what it asks for, its sentence with `{}` for the details."""

    name: str
    description: str
    sentence: str
    experimental: bool = False

    @property
    def url(self) -> str:
        """Where the rule is explained."""
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*", self.name)
        return DOCS + "-".join(words).lower() + "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning_:  # noqa: N801 - `Warning` is Python's own
    """One finding."""

    rule: Rule
    message: str
    start: int
    end: int


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "StageNameCasing",
            "Stage names should be lowercase",
            "Stage name '{}' should be lowercase",
        ),
        Rule(
            "FromAsCasing",
            "The 'as' keyword should match the case of the 'from' keyword",
            "'{}' and '{}' keywords' casing do not match",
        ),
        Rule(
            "NoEmptyContinuation",
            "Empty continuation lines will become errors in a future release",
            "Empty continuation line",
        ),
        Rule(
            "ConsistentInstructionCasing",
            "All commands within the Dockerfile should use the same casing (either upper or lower)",
            "Command '{}' should match the case of the command majority ({})",
        ),
        Rule(
            "DuplicateStageName",
            "Stage names should be unique",
            "Duplicate stage name {}, stage names should be unique",
        ),
        Rule(
            "ReservedStageName",
            "Reserved words should not be used as stage names",
            "Stage name should not use the same name as reserved stage {}",
        ),
        Rule(
            "JSONArgsRecommended",
            "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
            "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
        ),
        Rule(
            "MaintainerDeprecated",
            "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
            "Maintainer instruction is deprecated in favor of using label",
        ),
        Rule(
            "UndefinedArgInFrom",
            "FROM command must use declared ARGs",
            "FROM argument '{}' is not declared{}",
        ),
        Rule(
            "WorkdirRelativePath",
            "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
            "Relative workdir {} can have unexpected results if the base image changes",
        ),
        Rule(
            "UndefinedVar",
            "Variables should be defined before their use",
            "Usage of undefined variable '${}'{}",
        ),
        Rule(
            "MultipleInstructionsDisallowed",
            "Multiple instructions of the same type should not be used in the same stage",
            "Multiple {} instructions should not be used in the same stage because only the last one will be used",
        ),
        Rule(
            "LegacyKeyValueFormat",
            "Legacy key/value format with whitespace separator should not be used",
            '"{} key=value" should be used instead of legacy "{} key value" format',
        ),
        Rule(
            "RedundantTargetPlatform",
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
        ),
        Rule(
            "SecretsUsedInArgOrEnv",
            "Sensitive data should not be used in the ARG or ENV commands",
            "Do not use ARG or ENV instructions for sensitive data ({} {})",
        ),
        Rule(
            "InvalidDefaultArgInFrom",
            "Default value for global ARG results in an empty or invalid base image name",
            "Default value for ARG {} results in empty or invalid base image name",
        ),
        Rule(
            "FromPlatformFlagConstDisallowed",
            "FROM --platform flag should not use a constant value",
            "FROM --platform flag should not use constant value {}",
        ),
        Rule(
            "CopyIgnoredFile",
            "Attempting to Copy file that is excluded by .dockerignore",
            "Attempting to {} file {} that is excluded by .dockerignore",
            experimental=True,
        ),
        Rule(
            "InvalidDefinitionDescription",
            "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`."
            " If this is not intended to be a description comment, add an empty line or comment between the"
            " instruction and the comment.",
            "Comment for {} should follow the format: `# {} <description>`",
            experimental=True,
        ),
        Rule(
            "ExposeProtoCasing",
            "Protocol in EXPOSE instruction should be lowercase",
            "Defined protocol '{}' in EXPOSE instruction should be lowercase",
        ),
        Rule(
            "ExposeInvalidFormat",
            "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an"
            " error in a future release",
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{}'",
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """What a `# check=` directive, or `BUILDKIT_DOCKERFILE_CHECK`, asks for."""

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    all_experimental: bool = False
    error: bool = False

    def shows(self, rule: Rule) -> bool:
        """Whether findings of this rule are reported."""
        if rule.experimental and not (self.all_experimental or rule.name in self.experimental):
            return False
        return not self.skip_all and rule.name not in self.skip


def parse_check_options(text: str) -> CheckOptions:
    """`skip=A,B;error=true`. Raises InvalidArgument."""
    skip: set[str] = set()
    experimental: set[str] = set()
    error = False
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = part.partition("=")
        names = [name.strip() for name in value.split(",")]
        match key.strip():
            case "skip" if equals:
                skip.update(names)
            case "experimental" if equals:
                experimental.update(names)
            case "error" if equals:
                error = value.strip().lower() in {"true", "1", "t"}
            case _:
                raise InvalidArgument(
                    f"failed to parse check options: invalid check option {quote_go(key.strip())}"
                )
    return CheckOptions(
        skip=frozenset(skip - {"all"}),
        skip_all="all" in skip,
        experimental=frozenset(experimental - {"all"}),
        all_experimental="all" in experimental,
        error=error,
    )


def warn(rule: str, instruction: Instruction, *details: str) -> Warning_:
    """A finding of the named rule at this instruction."""
    row = RULES[rule]
    return Warning_(
        rule=row,
        message=row.sentence.format(*details),
        start=instruction.source.start,
        end=instruction.source.end,
    )


def warn_undefined(
    names: frozenset[str], instruction: Instruction, known: Mapping[str, str]
) -> Iterator[Warning_]:
    """Findings for variables that nothing defines, with the near name."""
    for name in sorted(names):
        hint = suggest(name, known).replace("mean ", "mean $")
        yield warn("UndefinedVar", instruction, name, hint)


def check_program(program: Program, ignore: IgnoreMatcher | None = None) -> tuple[Warning_, ...]:
    """All findings that need nothing but the text, in the order of lines."""
    found: list[Warning_] = []
    for check in PROGRAM_CHECKS:
        found.extend(check(program))
    for stage in program.stages:
        for stage_check in STAGE_CHECKS:
            found.extend(stage_check(stage))
    if ignore is not None:
        found.extend(_check_ignored(program, ignore))
    return tuple(sorted(found, key=lambda warning: warning.start))


def check_resolution(resolution: Resolution) -> tuple[Warning_, ...]:
    """Findings in FROM lines once global arguments are known."""
    found: list[Warning_] = []
    for index, names in resolution.undefined_in_from.items():
        from_ = resolution.program.stages[index].from_
        found.extend(
            warn("UndefinedArgInFrom", from_, name, suggest(name, resolution.globals))
            for name in sorted(names)
        )
    return tuple(found)


def _all_instructions(program: Program) -> Iterator[Instruction]:
    yield from program.global_args
    for stage in program.stages:
        yield stage.from_
        yield from stage.instructions


def _check_casing(program: Program) -> Iterator[Warning_]:
    lower = upper = 0
    for instruction in _all_instructions(program):
        lower += instruction.source.keyword.islower()
        upper += instruction.source.keyword.isupper()
    majority = "lowercase" if lower > upper else "uppercase"
    for instruction in _all_instructions(program):
        keyword = instruction.source.keyword
        right = keyword.islower() if majority == "lowercase" else keyword.isupper()
        if not right:
            yield warn("ConsistentInstructionCasing", instruction, keyword, majority)


def _check_continuations(program: Program) -> Iterator[Warning_]:
    rule = RULES["NoEmptyContinuation"]
    for node in program.dockerfile.nodes:
        if node.empty_continuation:
            yield Warning_(
                rule=rule,
                message=rule.sentence,
                start=node.end,
                end=node.end,
            )


def _check_stage_names(program: Program) -> Iterator[Warning_]:
    seen: set[str] = set()
    for stage in program.stages:
        from_ = stage.from_
        if not from_.name:
            continue
        if from_.name in seen:
            yield warn("DuplicateStageName", from_, quote_go(from_.name))
        seen.add(from_.name)
        if from_.name in RESERVED_STAGE_NAMES:
            yield warn("ReservedStageName", from_, quote_go(from_.name))
        if from_.written_name != from_.name:
            yield warn("StageNameCasing", from_, from_.written_name)
        if from_.source.keyword.isupper() != from_.as_keyword.isupper() and (
            from_.source.keyword.islower() != from_.as_keyword.islower()
        ):
            yield warn("FromAsCasing", from_, from_.as_keyword, from_.source.keyword)


def _check_platforms(program: Program) -> Iterator[Warning_]:
    for stage in program.stages:
        from_ = stage.from_
        if from_.platform in {"$TARGETPLATFORM", "${TARGETPLATFORM}"}:
            yield warn("RedundantTargetPlatform", from_, from_.platform)
        elif from_.platform and "$" not in from_.platform:
            name = from_.name
            mentions = any(part in name for part in re.split(r"[/]", from_.platform) if part)
            if not mentions:
                yield warn("FromPlatformFlagConstDisallowed", from_, quote_go(from_.platform))


def _check_descriptions(program: Program) -> Iterator[Warning_]:
    for instruction in _all_instructions(program):
        comments = instruction.source.comments
        if not comments:
            continue
        if isinstance(instruction, From) and instruction.name:
            if not comments[-1].startswith(instruction.name + " "):
                yield warn("InvalidDefinitionDescription", instruction, "FROM", instruction.name)
        elif isinstance(instruction, Arg):
            names = [argument.name for argument in instruction.arguments]
            if not any(comments[-1].startswith(name + " ") for name in names):
                yield warn("InvalidDefinitionDescription", instruction, "ARG", names[0])


def _check_default_args(program: Program) -> Iterator[Warning_]:
    values: dict[str, str] = {}
    for arg in program.global_args:
        for argument in arg.arguments:
            try:
                values[argument.name] = expand_word(argument.default or "", values).text
            except SyntaxProblem:
                values[argument.name] = ""
    for stage in program.stages:
        try:
            expanded = expand_word(stage.from_.base, values, program.dockerfile.escape)
        except SyntaxProblem:
            continue
        if "$" in stage.from_.base and not is_image_name(expanded.text):
            yield warn("InvalidDefaultArgInFrom", stage.from_, stage.from_.base)


def _check_multiple(stage: Stage) -> Iterator[Warning_]:
    for kind, name in ((Cmd, "CMD"), (Entrypoint, "ENTRYPOINT"), (Healthcheck, "HEALTHCHECK")):
        found = [item for item in stage.instructions if isinstance(item, kind)]
        for instruction in found[:-1]:
            yield warn("MultipleInstructionsDisallowed", instruction, name)


def _check_shell_form(stage: Stage) -> Iterator[Warning_]:
    if any(isinstance(item, Shell) for item in stage.instructions):
        return
    for instruction in stage.instructions:
        if isinstance(instruction, Cmd | Entrypoint) and instruction.command.is_shell:
            name = "CMD" if isinstance(instruction, Cmd) else "ENTRYPOINT"
            yield warn("JSONArgsRecommended", instruction, name)


def _check_single(stage: Stage) -> Iterator[Warning_]:
    for instruction in stage.instructions:
        if isinstance(instruction, Maintainer):
            yield warn("MaintainerDeprecated", instruction)
        elif isinstance(instruction, Env | Label):
            keyword = "ENV" if isinstance(instruction, Env) else "LABEL"
            if instruction.is_legacy:
                yield warn("LegacyKeyValueFormat", instruction, keyword, keyword)
            if isinstance(instruction, Env):
                for name, _ in instruction.pairs:
                    yield from _check_secret("ENV", name, instruction)
        elif isinstance(instruction, Arg):
            for argument in instruction.arguments:
                yield from _check_secret("ARG", argument.name, instruction)
        elif isinstance(instruction, Expose):
            yield from _check_expose(instruction)


def _check_secret(keyword: str, name: str, instruction: Instruction) -> Iterator[Warning_]:
    if SECRET_WORDS.search(name) and not NOT_SECRET_WORDS.search(name):
        yield warn("SecretsUsedInArgOrEnv", instruction, keyword, quote_go(name))


def _check_expose(instruction: Expose) -> Iterator[Warning_]:
    for port in instruction.ports:
        protocol = port.partition("/")[2]
        if protocol != protocol.lower():
            yield warn("ExposeProtoCasing", instruction, port)
        if ":" in port and "$" not in port:
            yield warn("ExposeInvalidFormat", instruction, port)


def _check_ignored(program: Program, ignore: IgnoreMatcher) -> Iterator[Warning_]:
    for stage in program.stages:
        for instruction in stage.instructions:
            if not isinstance(instruction, Transfer):
                continue
            if isinstance(instruction, Copy) and instruction.from_:
                continue
            keyword = "Copy" if isinstance(instruction, Copy) else "Add"
            for path in instruction.sources:
                cleaned = path.strip("/").removeprefix("./")
                if cleaned and "$" not in path and "://" not in path and ignore.matches(cleaned):
                    yield warn("CopyIgnoredFile", instruction, keyword, quote_go(path))


PROGRAM_CHECKS: tuple[Callable[[Program], Iterator[Warning_]], ...] = (
    _check_casing,
    _check_continuations,
    _check_stage_names,
    _check_platforms,
    _check_descriptions,
    _check_default_args,
)
STAGE_CHECKS: tuple[Callable[[Stage], Iterator[Warning_]], ...] = (
    _check_multiple,
    _check_shell_form,
    _check_single,
)
