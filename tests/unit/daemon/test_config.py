"""wherryd's options: flags, file, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.daemon.config import (
    OPTIONS,
    HelpWanted,
    Listen,
    OptionError,
    Options,
    build_options,
    parse_flags,
    parse_host,
    parse_options,
    parse_size,
    read_file,
)
from wherry.daemon.wiring import parse_pairs, parse_pools, parse_ulimit


def test_every_option_has_its_field_and_no_field_is_without() -> None:
    assert {option.field for option in OPTIONS} == set(Options.__dataclass_fields__)


def test_flags_in_all_spellings() -> None:
    flags, _ = parse_flags(
        [
            "-H",
            "unix:///a",
            "-Htcp://0:1",
            "--host=fd://",
            "-D",
            "--slots",
            "3",
            "--no-new-privileges=false",
        ]
    )
    options = build_options(flags, {})
    assert options.host == ("unix:///a", "tcp://0:1", "fd://")
    assert (options.debug, options.slots, options.no_new_privileges) == (True, 3, False)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-x"], "unknown flag: -x"),
        (["x"], "wherryd takes no arguments, got 'x'"),
        (["--slots", "a"], 'invalid argument for --slots: invalid number "a"'),
        (["--debug=perhaps"], 'invalid boolean value "perhaps"'),
        (["--log-level", "x"], "invalid logging level: x"),
        (["--dns", "foo"], "invalid argument for --dns: foo is not an ip address"),
        (
            ["--default-ipc-mode", "host"],
            'invalid argument for --default-ipc-mode: "host" is none of private, shareable',
        ),
        (["--host"], "flag needs an argument: --host"),
        (["--default-shm-size", "x"], "invalid size: 'x'"),
        (["--config-file", "/nonexistent"], "/nonexistent: no such file"),
    ],
)
def test_bad_flags(argv: list[str], sentence: str) -> None:
    with pytest.raises(OptionError) as raised:
        parse_options(argv)
    assert sentence in str(raised.value)


def test_help_shows_every_flag() -> None:
    with pytest.raises(HelpWanted) as wanted:
        parse_options(["--help"])
    assert all(f"--{option.name}" in str(wanted.value) for option in OPTIONS)


@pytest.mark.parametrize("key", ["host-gateway-ip", "host-gateway-ips"])
def test_a_key_that_dockerd_has_named_anew(key: str, tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(f'{{"{key}": "192.0.2.7"}}')
    assert parse_options(["--config-file", str(path)]).host_gateway_ip == ("192.0.2.7",)


def test_a_configuration_is_checked_alone(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    words = ["--validate", "--config-file", str(path)]
    path.write_text('{"debug": true}')
    with pytest.raises(HelpWanted, match="configuration OK"):
        parse_options(words)
    path.write_text('{"nope": true}')
    with pytest.raises(OptionError, match="don't match any configuration option: nope"):
        parse_options(words)


def test_a_file_of_dockerd_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(
        '{"hosts": ["unix:///x"], "debug": true, "log-opts": {"max-size": "10m"},'
        ' "default-address-pools": [{"base": "10.9.0.0/16", "size": 24}], "live-restore": true,'
        ' "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 200, "Soft": 100}},'
        ' "runtimes": {"crun": {"path": "/usr/bin/crun"}}, "features": {"buildkit": true}}'
    )
    options = parse_options(["--config-file", str(path)])
    assert (options.host, options.debug, options.log_opt) == (
        ("unix:///x",),
        True,
        ("max-size=10m",),
    )
    assert parse_pools(options.default_address_pool)[:2] == ("10.9.0.0/24", "10.9.1.0/24")
    assert parse_ulimit(options.default_ulimit[0]).hard == 200
    assert parse_pairs(options.add_runtime) == {"crun": "/usr/bin/crun"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "unable to configure the engine with file f"),
        (b'{"nope": 1, "zope": 2}', "don't match any configuration option: nope, zope"),
        (b'{"bridge": ["a", "b"]}', "bridge takes one value"),
        (b'{"runtimes": {"x": {}}}', "runtimes.x.path is missing"),
    ],
)
def test_bad_files(text: bytes, sentence: str) -> None:
    with pytest.raises(OptionError) as raised:
        read_file(text, "f")
    assert sentence in str(raised.value)


def test_flag_and_file_may_not_disagree() -> None:
    with pytest.raises(OptionError, match="both as a flag and in the configuration file: bridge"):
        build_options({"bridge": ["a"]}, {"bridge": ["a"]})


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("unix:///run/x.sock", Listen("unix", "/run/x.sock")),
        ("/run/x.sock", Listen("unix", "/run/x.sock")),
        ("tcp://127.0.0.1:99", Listen("tcp", "127.0.0.1", 99)),
        ("tcp://[::1]:99/", Listen("tcp", "::1", 99)),
        ("tcp://host", Listen("tcp", "host", 2375)),
        (":99", Listen("tcp", "127.0.0.1", 99)),
    ],
)
def test_hosts(text: str, listen: Listen) -> None:
    assert parse_host(text, tls=False) == listen


@pytest.mark.parametrize("text", ["unix://x", "npipe://x", "tcp://h:99999", "unix:///" + "x" * 120])
def test_bad_hosts(text: str) -> None:
    with pytest.raises(OptionError):
        parse_host(text, tls=False)


def test_sizes() -> None:
    assert [parse_size(text) for text in ("7", "1k", "64m", "2GB")] == [7, 1024, 64 << 20, 2 << 30]
