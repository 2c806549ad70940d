"""Property-based tests: no text makes the language crash or hang, and errors have positions."""

from __future__ import annotations

import contextlib
import string
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.build.errors import DockerfileError, SyntaxProblem
from wherry.build.expand import expand_known, expand_word
from wherry.build.ignore import compile_patterns, parse_ignore_file
from wherry.build.instructions import PARSERS
from wherry.build.lint import check_program
from wherry.build.parser import parse_dockerfile
from wherry.build.plan import ImageState, plan_stage
from wherry.build.stages import find_needed, parse_program, platform_args, resolve
from wherry.build.words import split_words
from wherry.model.errors import InvalidArgument
from wherry.model.image import Platform

SPICE = st.sampled_from(
    ["\\\n", "\n", "<<EOF", "EOF\n", "${x:-", "}", '["', '"]', "--mount=", "type=cache,", "--", "#"]
)
PIECES = st.one_of(SPICE, st.text(alphabet=string.printable, max_size=8), st.text(max_size=4))
LINE = st.builds(
    lambda keyword, pieces: f"{keyword} {''.join(pieces)}\n",
    st.sampled_from([*PARSERS, "from", "# escape=`", "FORM"]),
    st.lists(PIECES, max_size=6),
)
FILES = st.builds(lambda lines: "FROM a\n" + "".join(lines), st.lists(LINE, max_size=6))
WORD_PIECES = ["${", "$", "}", "x", "y", ":-", "#", "%", "/", "*", "?", "\\", "'", '"', " "]


@contextlib.contextmanager
def soon() -> Iterator[None]:
    """In time of the processor, which does not say how busy the machine is."""
    began = time.thread_time()
    yield
    assert time.thread_time() - began < 2


@settings(max_examples=300)
@given(st.one_of(FILES, st.text(max_size=80), st.binary(max_size=80)))
def test_no_text_crashes_and_errors_have_positions(text: str | bytes) -> None:
    with soon():
        error = plan_all(text)
    if error is not None:
        assert 1 <= error.span.start <= error.span.end
        assert error.span.start <= error.span.line <= error.span.end
        assert error.span.column >= 1
        assert error.filename in error.excerpt


def plan_all(text: str | bytes) -> DockerfileError | None:
    try:
        program = parse_program(parse_dockerfile(text))
        check_program(program)
        resolution = resolve(
            program,
            build_args={"x": "1"},
            platform_values=platform_args(Platform(), Platform(), ""),
        )
        for stage in program.stages:
            find_needed(resolution, stage)
            plan_stage(resolution, stage, ImageState())
    except DockerfileError as error:
        return error
    return None


@settings(max_examples=300)
@given(st.lists(st.sampled_from(WORD_PIECES), max_size=24), st.text(alphabet="ab*\n", max_size=60))
def test_expansion_ends(pieces: list[str], value: str) -> None:
    for expand in (expand_word, expand_known):
        with soon(), contextlib.suppress(SyntaxProblem):
            expand("".join(pieces), {"x": value})


def test_a_pattern_that_backtracking_matchers_hang_on_ends() -> None:
    with soon():
        result = expand_word("${x#" + "*a" * 30 + "b}", {"x": "a" * 2000})
    assert result.text == "a" * 2000


def test_nested_substitutions_are_bounded() -> None:
    with pytest.raises(SyntaxProblem, match="too many nested substitutions"):
        expand_word("${x:-" * 5000 + "}" * 5000, {})


@given(st.text(alphabet="a'\"\\ \t", max_size=40))
def test_words_keep_all_that_is_not_space(text: str) -> None:
    joined = "".join(split_words(text, "\\"))
    assert joined.count("a") == text.count("a")


@given(
    st.text(alphabet="ab*?[]!^-\\/.\n", max_size=30),
    st.text(alphabet="ab/.", min_size=1, max_size=20),
)
def test_ignore_patterns_match_or_are_refused(patterns: str, path: str) -> None:
    with soon(), contextlib.suppress(InvalidArgument):
        compile_patterns(parse_ignore_file(patterns)).matches(path)
