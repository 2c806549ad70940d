"""A stage to steps: every variable expanded, every path absolute, the image's config after each step.

Pure: the stage, its resolution and the config it starts from in; ordered steps out. A step says what
to do and what it is called in progress and history; how it is done, and the cache, are elsewhere.
History texts are those of BuildKit's Dockerfile frontend.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from wherry.build.errors import SyntaxProblem
from wherry.build.expand import expand_heredoc, expand_known, expand_word
from wherry.build.instructions import parse_instruction
from wherry.build.instructions.arg import Arg
from wherry.build.instructions.base import Command, Instruction
from wherry.build.instructions.command import Cmd, Entrypoint, Shell
from wherry.build.instructions.copy import Add, Copy, Transfer
from wherry.build.instructions.from_ import From
from wherry.build.instructions.healthcheck import Healthcheck
from wherry.build.instructions.onbuild import OnBuild
from wherry.build.instructions.pairs import Env, Label
from wherry.build.instructions.run import Run
from wherry.build.instructions.run_mount import RunMount, parse_mount
from wherry.build.instructions.texts import (
    Expose,
    Maintainer,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from wherry.build.lint import Warning_, warn, warn_undefined
from wherry.build.parser import parse_dockerfile, parse_heredoc
from wherry.build.remote import is_git, is_url
from wherry.build.stages import Reference, Resolution, Stage, problem_at
from wherry.build.words import quote_go
from wherry.lib.durations import format_duration
from wherry.model.container import ContainerConfig
from wherry.model.container import Healthcheck as HealthcheckConfig

DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Arguments that RUN sees without ARG, and that neither history nor the cache key know.
PROXY_ARGS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
HEREDOC_FOLDER = "/dev/pipes"
SIGNALS = re.compile(
    "HUP|INT|QUIT|ILL|TRAP|ABRT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|STKFLT|CHLD|CONT|STOP|TSTP"
    "|TTIN|TTOU|URG|XCPU|XFSZ|VTALRM|PROF|WINCH|IO|PWR|SYS|CLD|POLL|IOT|UNUSED"
    r"|RTMIN(\+\d{1,2})?|RTMAX(-\d{1,2})?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageState:
    """What a stage carries from step to step beside its files."""

    config: ContainerConfig = field(default_factory=ContainerConfig)
    author: str = ""
    args: tuple[tuple[str, str | None], ...] = ()  # in order of ARG
    args_over_env: frozenset[str] = frozenset()  # given by an ARG after the ENV of that name
    cmd_is_set: bool = False
    workdir_is_set: bool = False


# FROM scratch, as BuildKit begins it.
SCRATCH = ImageState(config=ContainerConfig(env=(f"PATH={DEFAULT_PATH}",), working_dir="/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One instruction, ready to be done; a plain Step changes only the config."""

    name: str  # the instruction as shown in progress
    created_by: str  # the line of history; empty: none
    start: int
    end: int
    state: ImageState  # after the step
    trigger: bool = False  # from an ONBUILD of the base

    @property
    def makes_layer(self) -> bool:
        """Whether the step may change files."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep(Step):
    """RUN."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    proxy_env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    mounts: tuple[RunMount, ...] = ()
    mount_sources: tuple[Reference | None, ...] = ()
    network: str = ""
    security: str = ""
    files: tuple[tuple[str, str], ...] = ()  # here-documents to offer under HEREDOC_FOLDER

    @property
    def makes_layer(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep(Step):
    """COPY and ADD."""

    source: Reference
    sources: tuple[str, ...]
    destination: str  # absolute; a trailing slash says that it is a directory
    files: tuple[tuple[str, str], ...] = ()  # inline: name and content
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    is_add: bool = False
    unpack: bool | None = None
    checksum: str = ""
    keep_git_dir: bool = False

    @property
    def makes_layer(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirStep(Step):
    """WORKDIR: makes the folder when it is not there, owned by the user."""

    path: str
    user: str = ""

    @property
    def makes_layer(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """All steps of one stage."""

    stage: Stage
    steps: tuple[Step, ...]
    state: ImageState
    warnings: tuple[Warning_, ...]
    used_args: frozenset[str]
    triggers: int = 0


def plan_stage(resolution: Resolution, stage: Stage, base: ImageState) -> StagePlan:
    """The steps of the stage, the triggers of its base first. Raises DockerfileError."""
    triggers = base.config.on_build
    state = replace(base, config=replace(base.config, on_build=()), cmd_is_set=False)
    planner = _Planner(resolution, stage, state)
    for trigger in triggers:
        planner.add_trigger(trigger)
    for instruction in stage.instructions:
        planner.add(instruction)
    return StagePlan(
        stage=stage,
        steps=tuple(planner.steps),
        state=planner.state,
        warnings=tuple(planner.warnings),
        used_args=frozenset(planner.used_args),
        triggers=len(triggers),
    )


class _Planner:
    """Walks the instructions of one stage; `state` is the state so far."""

    def __init__(self, resolution: Resolution, stage: Stage, state: ImageState) -> None:
        self.resolution = resolution
        self.stage = stage
        self.state = state
        self.escape = resolution.program.dockerfile.escape
        self.steps: list[Step] = []
        self.warnings: list[Warning_] = []
        self.used_args: set[str] = set()
        self._trigger = False
        self._dispatch: Mapping[type[Instruction], Callable[[Instruction], Step]] = {
            kind: getattr(self, f"_{kind.__name__.lower()}") for kind in DISPATCHED
        }

    def add(self, instruction: Instruction) -> None:
        """Appends the instruction's step."""
        try:
            step = self._dispatch[type(instruction)](instruction)
        except SyntaxProblem as problem:
            raise problem_at(self.resolution.program, instruction, problem) from None
        self.steps.append(step)
        self.state = step.state

    def add_trigger(self, text: str) -> None:
        """Appends an ONBUILD instruction of the base image."""
        dockerfile = parse_dockerfile(text, "onbuild")
        self._trigger = True
        for node in dockerfile.nodes:
            instruction = parse_instruction(node, dockerfile)
            if isinstance(instruction, From | Maintainer | OnBuild):
                raise dockerfile.error(
                    f"{node.keyword.upper()} isn't allowed as an ONBUILD trigger",
                    node.start,
                    node.end,
                )
            place = self.stage.from_.source
            source = replace(instruction.source, start=place.start, end=place.end, original=text)
            self.add(replace(instruction, source=source))
        self._trigger = False

    def variables(self) -> dict[str, str]:
        """What words of this stage may use: ENV and arguments, the later one where both have a name."""
        args = {name: value for name, value in self.state.args if value is not None}
        over = {name: args[name] for name in self.state.args_over_env if name in args}
        return {**args, **self.environment(), **over}

    def environment(self) -> dict[str, str]:
        """ENV as a mapping."""
        return dict(_split_env(entry) for entry in self.state.config.env)

    def expand(self, word: str, instruction: Instruction) -> str:
        """One word, undefined variables reported."""
        variables = self.variables()
        expansion = expand_word(word, variables, self.escape)
        self.warnings.extend(warn_undefined(expansion.unmatched, instruction, variables))
        return expansion.text

    def expand_words(self, word: str, instruction: Instruction) -> tuple[str, ...]:
        """One word that may become several."""
        variables = self.variables()
        expansion = expand_word(word, variables, self.escape)
        self.warnings.extend(warn_undefined(expansion.unmatched, instruction, variables))
        return expansion.words

    def config_step(self, instruction: Instruction, created_by: str, state: ImageState) -> Step:
        """A step that changes no files."""
        source = instruction.source
        return Step(
            name=self.show(instruction),
            created_by=created_by,
            start=source.start,
            end=source.end,
            state=state,
            trigger=self._trigger,
        )

    def show(self, instruction: Instruction) -> str:
        """The instruction as written, known variables put in, white space as it is in one line."""
        text = instruction.source.original.strip()
        keyword = instruction.source.keyword
        text = keyword.upper() + text[len(keyword) :]
        if isinstance(instruction, Run | Cmd | Entrypoint | OnBuild | Healthcheck):
            return text
        try:
            return expand_known(text, self.variables(), self.escape).text
        except SyntaxProblem:
            return text

    def with_config(self, **changes: object) -> ImageState:
        """The state with fields of its config replaced."""
        return replace(self.state, config=replace(self.state.config, **changes))  # type: ignore[arg-type] # names are this file's own

    def shell(self) -> tuple[str, ...]:
        """The shell of the shell form."""
        return self.state.config.shell or DEFAULT_SHELL

    def _env(self, instruction: Env) -> Step:
        pairs = [
            (self.expand(name, instruction), self.expand(value, instruction))
            for name, value in instruction.pairs
        ]
        environment = self.environment()
        environment.update(pairs)
        state = replace(
            self.with_config(env=tuple(f"{name}={value}" for name, value in environment.items())),
            args_over_env=self.state.args_over_env - {name for name, _ in pairs},
        )
        return self.config_step(instruction, _join("ENV", pairs), state)

    def _label(self, instruction: Label) -> Step:
        pairs = [
            (self.expand(name, instruction), self.expand(value, instruction))
            for name, value in instruction.pairs
        ]
        state = self.with_config(labels={**self.state.config.labels, **dict(pairs)})
        return self.config_step(instruction, _join("LABEL", pairs), state)

    def _arg(self, instruction: Arg) -> Step:
        shown: list[str] = []
        state = self.state
        for argument in instruction.arguments:
            name = self.expand(argument.name, instruction)
            value: str | None = None
            self.used_args.add(name)
            if name in self.resolution.build_args:
                value = self.resolution.build_args[name]
            elif argument.default is not None:
                value = self.expand(argument.default, instruction)
            elif name in self.resolution.globals:
                value = self.resolution.globals[name]
            shown.append(name if value is None else f"{name}={value}")
            kept = tuple(pair for pair in self.state.args if pair[0] != name)
            self.state = replace(
                self.state,
                args=(*kept, (name, value)),
                args_over_env=self.state.args_over_env | ({name} if value is not None else set()),
            )
        after, self.state = self.state, state
        return self.config_step(instruction, "ARG " + " ".join(shown), after)

    def _run(self, instruction: Run) -> Step:
        argv, files = self._run_command(instruction.command)
        mounts = tuple(
            parse_mount(text, lambda value: self.expand(value, instruction))
            for text in instruction.mounts
        )
        for mount in mounts:
            if mount.type != "secret" and not mount.target and mount.type != "ssh":
                raise SyntaxProblem('invalid mount target ""', mount.type)
        sources = tuple(self._mount_source(mount) for mount in mounts)
        values = self.variables()
        shown_args = [f"{name}={values.get(name, '')}" for name, _ in self.state.args]
        count = [f"|{len(shown_args)}"] if shown_args else []
        proxies = {
            name: value
            for given, value in sorted(self.resolution.build_args.items())
            if given in PROXY_ARGS
            for name in (given.upper(), given.lower())  # programs differ in which one they read
            if name not in values
        }
        self.used_args.update(name for name in self.resolution.build_args if name in PROXY_ARGS)
        values.setdefault("PATH", DEFAULT_PATH)
        source = instruction.source
        return RunStep(
            name=self.show(instruction),
            created_by=" ".join(["RUN", *count, *shown_args, *argv]) + " # buildkit",
            start=source.start,
            end=source.end,
            state=self.state,
            trigger=self._trigger,
            argv=argv,
            env=tuple(f"{name}={value}" for name, value in values.items()),
            proxy_env=tuple(f"{name}={value}" for name, value in proxies.items()),
            cwd=self.state.config.working_dir or "/",
            user=self.state.config.user,
            mounts=mounts,
            mount_sources=sources,
            network=self.expand(instruction.network, instruction) if instruction.network else "",
            security=instruction.security,
            files=files,
        )

    def _run_command(self, command: Command) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        if not command.heredocs or not command.words:
            return command.argv(self.shell()), ()
        text = command.words[0]
        first = command.heredocs[0]
        if parse_heredoc(text) is None:
            for heredoc in command.heredocs:
                text += "\n" + heredoc.content + heredoc.name
            return (*self.shell(), text), ()
        if first.content.startswith("#!"):
            return (*self.shell(), f"{HEREDOC_FOLDER}/{first.name}"), ((first.name, first.text),)
        return (*self.shell(), first.text), ()

    def _mount_source(self, mount: RunMount) -> Reference | None:
        if mount.from_:
            return self.resolution.source(mount.from_, self.stage)
        return Reference(kind="context") if mount.type == "bind" else None

    def _copy(self, instruction: Copy) -> Step:
        if "$" in instruction.from_:
            raise SyntaxProblem(
                "variable expansion is not supported for --from, define a new stage with FROM using"
                " ARG from global scope as a workaround",
                instruction.from_,
            )
        source = (
            self.resolution.source(instruction.from_, self.stage)
            if instruction.from_
            else Reference(kind="context")
        )
        return self._transfer(instruction, "COPY", source, parents=instruction.parents)

    def _add(self, instruction: Add) -> Step:
        step = self._transfer(instruction, "ADD", Reference(kind="context"))
        if instruction.checksum and not all(is_url(path) or is_git(path) for path in step.sources):
            raise SyntaxProblem("checksum requires HTTP(S) or Git sources", "--checksum")
        return replace(
            step,
            is_add=True,
            unpack=instruction.unpack,
            checksum=self.expand(instruction.checksum, instruction),
            keep_git_dir=instruction.keep_git_dir,
        )

    def _transfer(
        self, instruction: Transfer, keyword: str, reference: Reference, *, parents: bool = False
    ) -> CopyStep:
        sources = tuple(self.expand(path, instruction) for path in instruction.sources)
        if keyword == "COPY" and any(is_url(path) or is_git(path) for path in sources):
            raise SyntaxProblem("source can't be a URL for COPY")
        destination = self.expand(instruction.destination, instruction)
        chown = self.expand(instruction.chown, instruction)
        chmod = self.expand(instruction.chmod, instruction)
        variables = self.variables()
        files = tuple(
            (
                heredoc.name,
                expand_heredoc(heredoc.text, variables).text if heredoc.expand else heredoc.text,
            )
            for heredoc in instruction.files
        )
        shown = [keyword]
        shown += [f"--chown={chown}"] if chown else []
        shown += [f"--chmod={chmod}"] if chmod else []
        shown += [*sources, *(f"<<{name}" for name, _ in files), destination]
        source = instruction.source
        return CopyStep(
            name=self.show(instruction),
            created_by=" ".join(shown) + " # buildkit",
            start=source.start,
            end=source.end,
            state=self.state,
            trigger=self._trigger,
            source=reference,
            sources=sources,
            files=files,
            destination=self._absolute(destination),
            chown=chown,
            chmod=chmod,
            # Names are the base's; and BuildKit does not link with --chmod either.
            link=instruction.link and not chmod and _is_plain_owner(chown),
            parents=parents,
            excludes=tuple(self.expand(pattern, instruction) for pattern in instruction.excludes),
        )

    def _absolute(self, path: str) -> str:
        joined = posixpath.join(self.state.config.working_dir or "/", path)
        clean = "/" + posixpath.normpath("/" + joined).lstrip("/")
        is_directory = path.endswith(("/", "/.")) or path in {"", "."}
        return clean.rstrip("/") + "/" if is_directory else clean

    def _workdir(self, instruction: Workdir) -> Step:
        path = self.expand(instruction.path, instruction)
        if not path.startswith("/") and not self.state.workdir_is_set:
            self.warnings.append(warn("WorkdirRelativePath", instruction, quote_go(path)))
        absolute = self._absolute(path).rstrip("/") or "/"
        shown = path if path.startswith("/") else absolute  # BuildKit cleans only what it joins
        state = replace(
            self.with_config(working_dir=shown),
            workdir_is_set=True,
        )
        source = instruction.source
        return WorkdirStep(
            name=self.show(instruction),
            created_by=f"WORKDIR {shown}",
            start=source.start,
            end=source.end,
            state=state,
            trigger=self._trigger,
            path=absolute,
            user=self.state.config.user,
        )

    def _cmd(self, instruction: Cmd) -> Step:
        argv = instruction.command.argv(self.shell())
        state = replace(
            self.with_config(cmd=argv or None, args_escaped=True),
            cmd_is_set=True,
        )
        return self.config_step(instruction, f"CMD {_quote_list(argv)}", state)

    def _entrypoint(self, instruction: Entrypoint) -> Step:
        argv = instruction.command.argv(self.shell())
        changes: dict[str, object] = {"entrypoint": argv or None}
        if not self.state.cmd_is_set:
            changes["cmd"] = None
        return self.config_step(
            instruction, f"ENTRYPOINT {_quote_list(argv)}", self.with_config(**changes)
        )

    def _shell(self, instruction: Shell) -> Step:
        return self.config_step(
            instruction,
            f"SHELL [{' '.join(instruction.words)}]",
            self.with_config(shell=instruction.words),
        )

    def _expose(self, instruction: Expose) -> Step:
        ports: list[str] = []
        for word in instruction.ports:
            for text in self.expand_words(word, instruction):
                ports.extend(parse_expose(text))
        kept = dict.fromkeys((*self.state.config.exposed_ports, *ports))
        return self.config_step(
            instruction, f"EXPOSE [{' '.join(ports)}]", self.with_config(exposed_ports=tuple(kept))
        )

    def _volume(self, instruction: Volume) -> Step:
        paths = [self.expand(path, instruction) for path in instruction.paths]
        if not all(paths):
            raise SyntaxProblem("VOLUME specified can not be an empty string")
        kept = dict.fromkeys((*self.state.config.volumes, *paths))
        return self.config_step(
            instruction, f"VOLUME [{' '.join(paths)}]", self.with_config(volumes=tuple(kept))
        )

    def _user(self, instruction: User) -> Step:
        user = self.expand(instruction.user, instruction)
        return self.config_step(instruction, f"USER {user}", self.with_config(user=user))

    def _stopsignal(self, instruction: StopSignal) -> Step:
        signal = self.expand(instruction.signal, instruction)
        if not is_signal(signal):
            raise SyntaxProblem(f"invalid signal: {signal}", instruction.signal)
        return self.config_step(
            instruction, f"STOPSIGNAL {signal}", self.with_config(stop_signal=signal)
        )

    def _healthcheck(self, instruction: Healthcheck) -> Step:
        config = instruction.config
        return self.config_step(
            instruction,
            f"HEALTHCHECK {_show_healthcheck(config)}",
            self.with_config(healthcheck=config),
        )

    def _onbuild(self, instruction: OnBuild) -> Step:
        return self.config_step(
            instruction,
            "",
            self.with_config(on_build=(*self.state.config.on_build, instruction.expression)),
        )

    def _maintainer(self, instruction: Maintainer) -> Step:
        state = replace(self.state, author=instruction.name)
        return self.config_step(instruction, f"MAINTAINER {instruction.name}", state)


DISPATCHED: tuple[type[Instruction], ...] = (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)


def _split_env(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def _join(keyword: str, pairs: list[tuple[str, str]]) -> str:
    return " ".join([keyword, *(f"{name}={value}" for name, value in pairs)])


def _is_plain_owner(chown: str) -> bool:
    """Whether an owner is known without the base's /etc/passwd and /etc/group."""
    return all(part in {"", "root"} or part.isdecimal() for part in chown.split(":", 1))


def _quote_list(words: tuple[str, ...]) -> str:
    return f"[{' '.join(quote_go(word) for word in words)}]"


def _show_healthcheck(config: HealthcheckConfig) -> str:
    """As Go prints the pointer with `%q`: `&{["CMD" "true"] "0s" "0s" "0s" "0s" '\\x03'}`."""
    durations = (config.interval, config.timeout, config.start_period, config.start_interval)
    shown = " ".join(f'"{format_duration(value)}"' for value in durations)
    retries = config.retries
    char = f"\\x{retries:02x}" if retries < 0x20 or retries == 0x7F else chr(min(retries, 0xD7FF))
    return f"&{{{_quote_list(config.test)} {shown} '{char}'}}"


def parse_expose(text: str) -> Iterator[str]:
    """`80`, `80/udp`, `80-82/tcp`, `127.0.0.1:80:8080` as container ports. Raises SyntaxProblem."""
    spec, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    ports = spec.rpartition(":")[2]
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", ports, re.ASCII)
    if match is None:
        raise SyntaxProblem(f"invalid containerPort: {ports}", text)
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first or last > 65535:
        raise SyntaxProblem(f"invalid containerPort: {ports}", text)
    if protocol not in {"tcp", "udp", "sctp"}:
        raise SyntaxProblem(f"invalid proto: {protocol}", text)
    for port in range(first, last + 1):
        yield f"{port}/{protocol}"


def is_signal(text: str) -> bool:
    """Whether Docker would take it as a signal."""
    if text.isascii() and text.isdigit():
        return 0 < len(text) < 4 and int(text) != 0
    return SIGNALS.fullmatch(text.upper().removeprefix("SIG")) is not None
