"""Small pure parts of the builder: classic texts in order, modes, addresses of repositories."""

from __future__ import annotations

import pytest

from wherry.build.remote import is_git
from wherry.engine.build.attributes import CopyError, parse_mode
from wherry.engine.build.classic import CLIPPED, ClassicText, OutputLimit, cost_of
from wherry.engine.build.fetch import GitSource, parse_git
from wherry.engine.build.records import (
    Notice,
    Planned,
    StepDone,
    StepEvent,
    StepOutput,
    StepStarted,
)
from wherry.model.errors import InvalidArgument


def print_all(*events: StepEvent) -> str:
    text = ClassicText()
    lines = text.feed(Planned(names=("", "", ""), classic=("FROM a", "RUN b", "RUN c")))
    for event in events:
        lines += text.feed(event)
    return "".join([*lines, *text.finish()])


def test_steps_that_ran_side_by_side_are_printed_in_order() -> None:
    shown = print_all(
        StepStarted(number=2, container="c" * 64),
        StepOutput(number=2, stream=1, data=b"late\n"),
        StepStarted(number=0),
        StepDone(number=2, short_id="2" * 12),
        StepDone(number=0, short_id="0" * 12),
        StepStarted(number=1, cached=True),
        StepDone(number=1, short_id="1" * 12, cached=True),
    )
    assert shown == (
        "Step 1/3 : FROM a\n ---> 000000000000\n"
        "Step 2/3 : RUN b\n ---> Using cache\n ---> 111111111111\n"
        "Step 3/3 : RUN c\n ---> Running in cccccccccccc\nlate\n"
        " ---> Removed intermediate container cccccccccccc\n"
    )


def test_the_last_line_of_a_build_names_the_image() -> None:
    text = ClassicText()
    lines = text.feed(Planned(names=("",), classic=("FROM a",)))
    lines += text.feed(StepDone(number=0, short_id="0" * 12))
    lines += text.feed(Notice(text="[Warning] unused\n"))
    last, rest = text.end("sha256:" + "2" * 64)
    assert [*lines, last, *rest] == [
        "Step 1/1 : FROM a",
        "\n",
        " ---> 222222222222\n",
        "[Warning] unused\n",
        "Successfully built 222222222222\n",
    ]


def test_output_that_nobody_takes_is_bounded() -> None:
    limit = OutputLimit(limit_bytes=2 * cost_of(b"one"))
    assert [limit.admit(piece) for piece in (b"one", b"two", b"more", b"more")] == [
        b"one",
        b"two",
        CLIPPED,
        b"",
    ]
    limit.release(cost_of(b"one"))
    assert limit.admit(b"more") == b""
    limit.release(cost_of(b"two") + cost_of(CLIPPED))
    assert limit.admit(b"seen") == b"seen"


def test_output_of_a_step_whose_turn_has_not_come_is_bounded() -> None:
    piece = bytes(1 << 20)
    late = [StepOutput(number=2, stream=1, data=piece) for _ in range(40)]
    shown = print_all(
        StepStarted(number=0),
        *late,
        StepDone(number=0, short_id="0" * 12),
        StepDone(number=1, short_id="1" * 12),
        StepOutput(number=2, stream=1, data=b"the end"),
    )
    assert len(piece) * 10 < len(shown) < len(piece) * 20
    assert shown.endswith(CLIPPED.decode() + "the end")


def test_triggers_are_part_of_their_from() -> None:
    shown = print_all(
        StepStarted(number=0),
        StepOutput(number=0, stream=1, data=b"# Executing 2 build triggers\n"),
        StepStarted(number=0, container="a" * 64),
        StepOutput(number=0, stream=1, data=b"one\n"),
        StepDone(number=0, continues=True),
        StepStarted(number=0, cached=True),
        StepDone(number=0, cached=True, continues=True),
        StepDone(number=0, short_id="0" * 12),
    )
    assert shown == (
        "Step 1/3 : FROM a\n# Executing 2 build triggers\n ---> Running in aaaaaaaaaaaa\none\n"
        " ---> Removed intermediate container aaaaaaaaaaaa\n ---> Using cache\n ---> 000000000000\n"
    )


def test_a_failed_step_keeps_its_container() -> None:
    shown = print_all(
        StepStarted(number=0),
        StepDone(number=0, short_id="0" * 12),
        StepStarted(number=1, container="c" * 64),
        StepDone(number=1, error="it failed"),
    )
    assert shown.endswith("Step 2/3 : RUN b\n ---> Running in cccccccccccc\n")


@pytest.mark.parametrize(
    ("text", "mode", "is_directory", "expected"),
    [
        ("755", 0o600, False, 0o755),
        ("4755", 0o600, False, 0o4755),
        ("u+x", 0o644, False, 0o744),
        ("go-r", 0o644, False, 0o600),
        ("a=rX", 0o640, False, 0o444),
        ("a=rX", 0o750, False, 0o555),
        ("u=rwX,go=rX", 0o600, True, 0o755),
        ("+s", 0o755, False, 0o6755),
        ("o+t", 0o777, True, 0o1777),
        ("g=rx", 0o6755, False, 0o4755),
        ("a=", 0o3777, True, 0o1000),
        ("g=u", 0o6744, False, 0o6774),
        ("u=g,o=g", 0o640, False, 0o444),
    ],
)
def test_modes(text: str, mode: int, is_directory: bool, expected: int) -> None:
    change = parse_mode(text)
    assert change is not None
    assert change(mode, is_directory) == expected


@pytest.mark.parametrize("text", ["9", "u", "z+x", "u+q", "77777777"])
def test_modes_that_are_none(text: str) -> None:
    with pytest.raises(CopyError, match="invalid chmod parameter"):
        parse_mode(text)


def test_repositories() -> None:
    assert parse_git("https://h/r.git#v1:docs") == GitSource(
        url="https://h/r.git", ref="v1", folder="docs"
    )
    assert parse_git("github.com/o/r").url == "https://github.com/o/r"
    assert is_git("git@h:r")
    assert is_git("https://h/r.git#main")
    assert not is_git("https://h/r.tar.gz")
    for hostile in ("https://h/r.git#--upload-pack=x", "-x"):
        with pytest.raises(InvalidArgument):
            parse_git(hostile)
