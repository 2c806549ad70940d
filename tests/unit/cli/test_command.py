"""The option parser: pflag's rules and Docker's sentences, as tables."""

from __future__ import annotations

import pytest

from wherry.cli.command import (
    Arguments,
    HelpWanted,
    UsageError,
    Verb,
    check_count,
    parse,
    parse_int,
)

OPTIONS = (
    ("detach", "d", "bool", "", "Run in background"),
    ("tty", "t", "bool", "", "Terminal"),
    ("interactive", "i", "bool", "", "Input"),
    ("publish", "p", "list", "", "Ports"),
    ("name", "", "string", "", "Name"),
    ("cpu-shares", "c", "int", "", "Shares"),
    ("weight", "", "uint16", "", "Weight"),
    ("filter", "f", "filter", "", "Filter"),
    ("subnet", "", "strings", "", "Subnets"),
    ("memory", "m", "bytes", "", "Memory"),
    ("sig-proxy", "", "bool", "true", "Proxy"),
)


def make_verb(*, interspersed: bool = True, minimum: int = 0, maximum: int | None = None) -> Verb:
    return Verb(
        lambda _session, _arguments: 0,
        usage="[OPTIONS] IMAGE",
        options=OPTIONS,
        interspersed=interspersed,
        checks={"memory": "parse_size"},
        minimum=minimum,
        maximum=maximum,
    )


def read(line: str, *, interspersed: bool = True) -> Arguments:
    return parse(make_verb(interspersed=interspersed), line.split())


@pytest.mark.parametrize(
    ("line", "option", "values"),
    [
        ("-p 80", "publish", ["80"]),
        ("-p80", "publish", ["80"]),
        ("-p=80", "publish", ["80"]),
        ("--publish 80 --publish=81", "publish", ["80", "81"]),
        ("-itp80", "publish", ["80"]),
        ("-itp 80", "publish", ["80"]),
        ("--name x --name y", "name", ["y"]),
        ("--name=", "name", [""]),
        ("--subnet a,b --subnet c", "subnet", ["a", "b", "c"]),
        ("-p -d", "publish", ["-d"]),
    ],
)
def test_values(line: str, option: str, values: list[str]) -> None:
    assert read(line).many(option) == values


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-d", True),
        ("--detach", True),
        ("--detach=false", False),
        ("-d=false", False),
        ("-itd", True),
        ("--detach=T", True),
        ("--detach=0", False),
        ("", False),
    ],
)
def test_booleans(line: str, *, expected: bool) -> None:
    assert read(line).flag("detach") is expected


def test_default_of_a_boolean_is_the_callers() -> None:
    assert read("").flag("sig-proxy", default=True)
    assert not read("--sig-proxy=false").flag("sig-proxy", default=True)


def test_a_boolean_takes_no_separate_value() -> None:
    arguments = read("--detach false")
    assert arguments.flag("detach")
    assert arguments.positional == ["false"]


def test_options_after_the_first_argument_belong_to_the_program() -> None:
    arguments = read("-d busybox ls -d --name x", interspersed=False)
    assert arguments.positional == ["busybox", "ls", "-d", "--name", "x"]
    assert "name" not in arguments.changed


def test_options_may_follow_arguments_elsewhere() -> None:
    arguments = read("busybox -d")
    assert arguments.flag("detach")
    assert arguments.positional == ["busybox"]


def test_two_dashes_end_the_options() -> None:
    assert read("-d -- -t x").positional == ["-t", "x"]


def test_a_lone_dash_is_an_argument() -> None:
    assert read("- -d").positional == ["-"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--foo", "unknown flag: --foo"),
        ("--foo=1", "unknown flag: --foo"),
        ("-Z", "unknown shorthand flag: 'Z' in -Z"),
        ("-itZ", "unknown shorthand flag: 'Z' in -Z"),
        ("-itZd", "unknown shorthand flag: 'Z' in -Zd"),
        ("--name", "flag needs an argument: --name"),
        ("-p", "flag needs an argument: 'p' in -p"),
        ("-dp", "flag needs an argument: 'p' in -p"),
        ("---x", "bad flag syntax: ---x"),
        ("--=x", "bad flag syntax: --=x"),
        (
            "--detach=x",
            'invalid argument "x" for "-d, --detach" flag: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        (
            "--cpu-shares x",
            'invalid argument "x" for "-c, --cpu-shares" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            "--weight 70000",
            'invalid argument "70000" for "--weight" flag: strconv.ParseUint: parsing "70000": value out of range',
        ),
        (
            "-f x",
            'invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)',
        ),
        ("-m x", 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
    ],
)
def test_refusals(line: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line)
    assert str(caught.value) == sentence
    assert caught.value.exit_code == 125


@pytest.mark.parametrize(("line", "deprecated"), [("--help", False), ("-h", True), ("-dh", True)])
def test_help(line: str, *, deprecated: bool) -> None:
    with pytest.raises(HelpWanted) as caught:
        read(line)
    assert caught.value.deprecated_short is deprecated


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("-5", -5), ("+5", 5), ("0x10", 16), ("010", 8), ("1_000", 1000)],
)
def test_integers_as_go_reads_them(text: str, number: int) -> None:
    assert parse_int(text) == number


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1.5", "x", "9223372036854775808"])
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(ValueError, match=r"strconv\.ParseInt"):
        parse_int(text)


@pytest.mark.parametrize(
    ("minimum", "maximum", "count", "what"),
    [
        (0, 0, 1, "accepts no arguments"),
        (1, None, 0, "requires at least 1 argument"),
        (2, None, 1, "requires at least 2 arguments"),
        (1, 1, 2, "requires 1 argument"),
        (2, 2, 1, "requires 2 arguments"),
        (0, 1, 2, "requires at most 1 argument"),
        (1, 2, 3, "requires at least 1 and at most 2 arguments"),
    ],
)
def test_counts(minimum: int, maximum: int | None, count: int, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_count(make_verb(minimum=minimum, maximum=maximum), "run", count)
    see = "See" if maximum is None else "Run"
    assert str(caught.value) == (
        f"wherry: 'wherry run' {what}\n\nUsage:  wherry run [OPTIONS] IMAGE\n\n"
        f"{see} 'wherry run --help' for more information"
    )
    assert caught.value.exit_code == 1


def test_a_right_count_passes() -> None:
    check_count(make_verb(minimum=1, maximum=2), "run", 2)
