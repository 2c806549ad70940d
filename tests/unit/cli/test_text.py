"""Tables, sizes, times, names: what people read."""

from __future__ import annotations

import pytest

from wherry.cli.container.columns import show_ports
from wherry.cli.errors import CommandFailed, start_exit_code
from wherry.cli.formats import ellipsis, natural_key
from wherry.cli.gofmt import format_json, indent_json, quote_go
from wherry.cli.help import lay_out_options, wrap
from wherry.cli.image.build_progress import Progress, Step
from wherry.cli.image.columns import expand_names
from wherry.cli.image.tree import fold
from wherry.cli.reference import familiar, parse_reference
from wherry.cli.system.events import show_event
from wherry.cli.system.version import ansi_date
from wherry.cli.table import align
from wherry.cli.timestamps import to_timestamp
from wherry.cli.units import binary_size, human_size
from wherry.client.document import Document


@pytest.mark.parametrize(
    ("size", "digits", "text"),
    [
        (0, 4, "0B"),
        (999, 4, "999B"),
        (1000, 4, "1kB"),
        (1982425, 3, "1.98MB"),
        (1982425, 4, "1.982MB"),
        (351_999_999, 3, "352MB"),
        (2_540_000_000, 3, "2.54GB"),
        (999_999, 3, "1e+03kB"),
    ],
)
def test_sizes(size: int, digits: int, text: str) -> None:
    assert human_size(size, digits) == text


def test_binary_sizes() -> None:
    assert binary_size(806912) == "788KiB"
    assert binary_size(25274875904) == "23.54GiB"


def test_columns_are_as_wide_as_their_widest_cell_and_ten_at_least() -> None:
    assert align("ID\tNAME\tX\nabcdefghijkl\tn\ty\n") == (
        "ID             NAME      X\nabcdefghijkl   n         y\n"
    )


def test_lines_without_cells_part_the_columns() -> None:
    assert align("a\tb\ntitle\nlonger-than-ten\tb") == ("a         b\ntitle\nlonger-than-ten   b")


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 20, "short"),
        ("docker-entrypoint.sh node", 20, "docker-entrypoint.s…"),
        ("日本語テキスト", 7, "日本語…"),
        ("ab", 1, "a"),
    ],
)
def test_ellipsis(text: str, width: int, expected: str) -> None:
    assert ellipsis(text, width) == expected


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([], ""),
        ([(80, 0, "", "tcp")], "80/tcp"),
        (
            [(80, 8080, "0.0.0.0", "tcp"), (80, 8080, "::", "tcp")],
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        ),
        ([(81, 81, "0.0.0.0", "tcp"), (80, 80, "0.0.0.0", "tcp")], "0.0.0.0:80-81->80-81/tcp"),
        ([(1, 0, "", "tcp"), (2, 0, "", "tcp"), (4, 0, "", "tcp")], "1-2/tcp, 4/tcp"),
        ([(53, 0, "", "udp"), (53, 0, "", "tcp")], "53/tcp, 53/udp"),
    ],
)
def test_ports(ports: list[tuple[int, int, str, str]], text: str) -> None:
    documents: list[Document] = []
    for private, public, address, protocol in ports:
        document: Document = {"PrivatePort": private, "Type": protocol}
        if public:
            document.update(PublicPort=public, IP=address)
        documents.append(document)
    assert show_ports(documents) == text


def test_an_image_has_a_row_for_each_name() -> None:
    image: Document = {
        "Id": "sha256:1",
        "RepoTags": ["a:1", "a:2", "localhost:5000/b:1"],
        "RepoDigests": ["a@sha256:d", "c@sha256:e"],
    }
    rows = [
        (row["repository"], row["tag"], row["digest"])
        for row in expand_names([image], digests=True)
    ]
    assert rows == [
        ("a", "1", "sha256:d"),
        ("a", "2", "sha256:d"),
        ("localhost:5000/b", "1", ""),
        ("c", "<none>", "sha256:e"),
    ]
    bare: Document = {"Id": "sha256:2", "RepoTags": [], "RepoDigests": []}
    assert [row["repository"] for row in expand_names([bare], digests=False)] == ["<none>"]


@pytest.mark.parametrize(
    ("text", "name", "shown"),
    [
        ("busybox", "docker.io/library/busybox", "busybox:latest"),
        ("a/b:c", "docker.io/a/b", "a/b:c"),
        ("localhost/x", "localhost/x", "localhost/x:latest"),
        ("host:5000/x/y:z", "host:5000/x/y", "host:5000/x/y:z"),
        ("index.docker.io/x", "docker.io/library/x", "x:latest"),
    ],
)
def test_references(text: str, name: str, shown: str) -> None:
    assert parse_reference(text).name == name
    assert familiar(text) == shown


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("BAD", "invalid reference format: repository name (library/BAD) must be lowercase"),
        ("a:b:c", "invalid reference format"),
        ("", "invalid reference format"),
        ("a@b", "invalid reference format"),
        (
            "a" * 64,
            f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings",
        ),
    ],
)
def test_bad_references(text: str, sentence: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        parse_reference(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("", ""),
        ("1136073600", "1136073600"),
        ("1136073600.5", "1136073600.5"),
        ("2006-01-02T15:04:05Z", "1136214245.000000000"),
        ("2006-01-02T15:04:05.123456789Z", "1136214245.123456789"),
        ("2006-01-02T15:04:05+01:00", "1136210645.000000000"),
    ],
)
def test_timestamps(text: str, moment: str) -> None:
    assert to_timestamp(text) == moment


def test_a_bad_timestamp() -> None:
    with pytest.raises(CommandFailed, match='invalid value for "since"'):
        to_timestamp("yesterday", 'invalid value for "since": ')


@pytest.mark.parametrize(
    ("sentence", "code"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ("exec /x: no such file or directory", 127),
        ("exec: permission denied", 126),
        ('exec: "/etc": is a directory', 126),
        ("anything else", 125),
    ],
)
def test_exit_codes_of_what_did_not_start(sentence: str, code: int) -> None:
    assert start_exit_code(sentence) == code


def test_json_as_go_writes_it() -> None:
    value = {"b": "<x>", "a": ["é", None, True, 1.0]}
    assert format_json(value) == '{"b":"<x>","a":["é",null,true,1]}'
    assert format_json(value, escape_html=True) == ('{"b":"\\u003cx\\u003e","a":["é",null,true,1]}')
    assert indent_json({"a": [], "b": {"c": [1]}}) == (
        '{\n    "a": [],\n    "b": {\n        "c": [\n            1\n        ]\n    }\n}'
    )


def test_quotes_as_go_writes_them() -> None:
    assert quote_go('a"b\\c\n\x01é') == '"a\\"b\\\\c\\n\\x01é"'


def test_natural_order() -> None:
    assert sorted(["a10", "a2", "b1", "a"], key=natural_key) == ["a", "a2", "a10", "b1"]


def test_help_is_wrapped_in_its_column() -> None:
    text = lay_out_options(
        (
            ("name", "n", "string", '"x"', "A name that is long enough to need a second line here"),
            ("all", "a", "bool", "", "All"),
            ("hidden", "", "bool", "", ""),
        ),
        60,
    )
    assert text == (
        "  -a, --all           All\n"
        "  -n, --name string   A name that is long enough to\n"
        '                      need a second line here (default "x")\n'
    )


def test_help_keeps_line_ends() -> None:
    assert wrap(4, 80, "one:\n'a':  b") == "one:\n    'a':  b"


def test_an_event_is_a_line() -> None:
    event: Document = {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "abc", "Attributes": {"name": "x", "exitCode": "3"}},
        "timeNano": 1795495580335304321,
    }
    line = show_event(event)
    assert line.endswith(" container die abc (exitCode=3, name=x)")
    assert ".335304321" in line


def test_dates_of_versions() -> None:
    assert ansi_date("2026-09-05T11:02:57.000000000+00:00") == "Sat Sep  5 11:02:57 2026"
    assert ansi_date("") == ""


def test_new_folders_stand_for_what_is_in_them() -> None:
    changes: list[Document] = [
        {"Kind": 1, "Path": "/new", "Size": 0},
        {"Kind": 1, "Path": "/new/a", "Size": 5},
        {"Kind": 1, "Path": "/new/b/c", "Size": 6},
        {"Kind": 0, "Path": "/etc", "Size": 0},
        {"Kind": 2, "Path": "/etc/x", "Size": 0},
        {"Kind": 0, "Path": "/etc/d/deep", "Size": 1},
    ]
    assert fold(changes, 2) == [
        ("/etc", 0, 0, 0),
        ("/etc/d", 0, 1, 1),
        ("/etc/x", 2, 0, 0),
        ("/new", 1, 2, 11),
    ]
    assert len(fold(changes, -1)) == 6
    assert fold(changes, 0) == []


class Recorded(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def show_started(self, step: Step) -> None:
        self.seen.append(f"start {step.name}")

    def show_line(self, step: Step, line: str) -> None:
        self.seen.append(f"{step.number} {line}")

    def show_done(self, step: Step) -> None:
        self.seen.append(f"done {step.name} {step.cached}")


def test_a_build_is_followed_step_by_step() -> None:
    progress = Recorded()
    progress.follow(
        [
            {"plan": {"names": ["FROM x", "RUN y"]}},
            {"started": {"number": 0, "cached": True}},
            {"done": {"number": 0, "cached": True}},
            {"started": {"number": 1}},
            {"output": {"number": 1, "stream": 1, "text": "one\ntw"}},
            {"output": {"number": 1, "stream": 2, "text": "o\nhalf"}},
            {"done": {"number": 1}},
            {"aux": {"ID": "sha256:1"}},
        ]
    )
    assert progress.seen == [
        "start FROM x",
        "done FROM x True",
        "start RUN y",
        "1 one",
        "1 two",
        "1 half",
        "done RUN y False",
    ]
    assert progress.result == {"ID": "sha256:1"}


def test_a_failed_build_shows_where() -> None:
    progress = Recorded()
    with pytest.raises(CommandFailed) as caught:
        progress.follow(
            [
                {
                    "error": "boom",
                    "errorDetail": {
                        "message": "boom",
                        "code": 3,
                        "tail": "last words\n",
                        "excerpt": "Dockerfile:2",
                        "hint": "wherry run x",
                    },
                }
            ]
        )
    assert str(caught.value) == (
        "------\nlast words\n------\nDockerfile:2\nERROR: boom\n\n"
        "To look around in the state before that step: wherry run x"
    )
    assert progress.hint == "wherry run x"
