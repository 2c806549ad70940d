"""Golden tables of the Dockerfile language; the tables under tests/data/dockerfile are for people to edit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.build.errors import DockerfileError, SyntaxProblem
from wherry.build.expand import expand_word
from wherry.build.ignore import compile_patterns, parse_ignore_file
from wherry.build.lint import check_program, check_resolution, parse_check_options
from wherry.build.parser import parse_dockerfile
from wherry.build.plan import CopyStep, ImageState, StagePlan, plan_stage
from wherry.build.stages import Resolution, find_needed, parse_program, platform_args, resolve
from wherry.model.container import ContainerConfig
from wherry.model.image import Platform

DATA = Path(__file__).parents[2] / "data" / "dockerfile"
BASE = ImageState(config=ContainerConfig(env=("PATH=/bin",)))
VARIABLES = {
    "A": "hello",
    "EMPTY": "",
    "P": "/a/b/c.tar.gz",
    "S": "two  words",
    "STAR": "a*b",
}
HEADER_LINES = {"lint.txt": 1}


def read_rows(name: str) -> list[str]:
    lines = (DATA / name).read_text().split("\n")
    return [line for line in lines if line and not line.startswith("#")]


def read_cases(name: str) -> list[tuple[str, str]]:
    text = (DATA / name).read_text().split("\n", HEADER_LINES.get(name, 2))[-1]
    cases = []
    for block in text.split("======\n"):
        source, _, expected = block.partition("---\n")
        cases.append((source, expected.rstrip("\n")))
    return cases


def plan_last(text: str) -> tuple[StagePlan, Resolution]:
    program = parse_program(parse_dockerfile(text))
    resolution = resolve(
        program,
        build_args={},
        platform_values=platform_args(Platform(), Platform(), ""),
    )
    find_needed(resolution, program.stages[-1])
    plans = [plan_stage(resolution, stage, BASE) for stage in program.stages]
    return plans[-1], resolution


@pytest.mark.parametrize("row", read_rows("expansion.txt"))
def test_expansion(row: str) -> None:
    word, _, expected = row.partition(" |")
    try:
        result = expand_word(word, VARIABLES).text
    except SyntaxProblem as problem:
        result = "error: " + str(problem).split(": ", 1)[1]
    assert result == expected[1:]


@pytest.mark.parametrize(("text", "expected"), read_cases("errors.txt"))
def test_errors(text: str, expected: str) -> None:
    with pytest.raises(DockerfileError) as raised:
        plan_last(text)
    error = raised.value
    assert f"{error.span.line}:{error.span.column} {error}" == expected
    assert ">>>" in error.excerpt


@pytest.mark.parametrize(("text", "expected"), read_cases("steps.txt"))
def test_steps(text: str, expected: str) -> None:
    plan, _ = plan_last(text)
    lines = [step.created_by for step in plan.steps if step.created_by]
    lines += [f"{name}: {show(value)}" for name, value in config_fields(plan.state.config)]
    assert "\n".join(lines) == expected


def test_here_documents_know_the_backslash_whatever_the_escape() -> None:
    text = "# escape=`\nFROM busybox\nENV V=1\nCOPY <<x /y\na \\ b `\n\\$V `$V $V\nx\n"
    step = plan_last(text)[0].steps[-1]
    assert isinstance(step, CopyStep)
    assert step.files == (("x", "a  b `\n$V `1 1\n"),)


def show(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def config_fields(config: ContainerConfig) -> Iterator[tuple[str, object]]:
    for name, value in sorted(dataclasses.asdict(config).items()):
        if value:
            fields = (
                {key: item for key, item in value.items() if item}
                if name == "healthcheck"
                else value
            )
            yield name, fields


@pytest.mark.parametrize(("text", "expected"), read_cases("lint.txt"))
def test_lint(text: str, expected: str) -> None:
    program = parse_program(parse_dockerfile(text))
    found = list(check_program(program, compile_patterns(("ignored*",))))
    resolution = resolve(
        program,
        build_args={"NODEF": "1", "TAGG": "1"},
        platform_values=platform_args(Platform(), Platform(), ""),
    )
    found.extend(check_resolution(resolution))
    for stage in program.stages:
        found.extend(plan_stage(resolution, stage, BASE).warnings)
    options = parse_check_options(program.dockerfile.directives.get("check", ""))
    shown = [
        f"{warning.start} {warning.rule.name} {warning.message}"
        for warning in sorted(found, key=lambda warning: warning.start)
        if options.shows(warning.rule)
    ]
    assert shown == expected.split("\n")


@pytest.mark.parametrize("row", read_rows("ignore.txt"))
def test_ignore(row: str) -> None:
    patterns, left_out, kept = (part.split() for part in row.split("|"))
    matcher = compile_patterns(parse_ignore_file("\n".join(patterns)))
    assert [path for path in left_out if not matcher.matches(path)] == []
    assert [path for path in kept if matcher.matches(path)] == []
