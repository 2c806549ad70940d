"""Grammars of option values: what Docker's client sends, and its sentences for what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.cli import flags
from wherry.cli.command import ValueRefused


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("64m", 64 << 20),
        ("64M", 64 << 20),
        ("64mb", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("10 k", 10 << 10),
        ("512b", 512),
        ("7", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert flags.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "invalid size: 'x'"),
        ("", "invalid size: ''"),
        ("1x", "invalid suffix: 'x'"),
        ("1kbb", "invalid suffix: 'kbb'"),
        ("-1", "invalid size: '-1'"),
        ("1.2.3", 'strconv.ParseFloat: parsing "1.2.3": invalid syntax'),
    ],
)
def test_bad_sizes(text: str, sentence: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        flags.parse_size(text)
    assert str(caught.value) == sentence


def test_swap_may_be_unlimited() -> None:
    assert flags.parse_swap_size("-1") == -1
    assert flags.parse_swap_size("1k") == 1024


@pytest.mark.parametrize(
    ("text", "nano"), [("1", 10**9), ("1.5", 15 * 10**8), ("3/2", 15 * 10**8), (".25", 25 * 10**7)]
)
def test_cpus(text: str, nano: int) -> None:
    assert flags.parse_nano_cpus(text) == nano


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "failed to parse x as a rational number"),
        ("1/0", "failed to parse 1/0 as a rational number"),
        ("1.0000000001", "value is too precise"),
    ],
)
def test_bad_cpus(text: str, sentence: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        flags.parse_nano_cpus(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("-2ms", -2 * 10**6),
        ("3us", 3000),
        ("1h1ns", 3600 * 10**9 + 1),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert flags.parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", 'time: invalid duration "x"'),
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("5y", 'time: unknown unit "y" in duration "5y"'),
        (".s", 'time: invalid duration ".s"'),
    ],
)
def test_bad_durations(text: str, sentence: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        flags.parse_duration_ns(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("nofile=1024", ("nofile", 1024, 1024)),
        ("nofile=1:2", ("nofile", 1, 2)),
        ("core=-1", ("core", -1, -1)),
        ("core=0:-1", ("core", 0, -1)),
    ],
)
def test_ulimits(text: str, limit: tuple[str, int, int]) -> None:
    assert flags.parse_ulimit(text) == limit


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "invalid ulimit argument: x"),
        ("foo=1", "invalid ulimit type: foo"),
        ("nofile=2:1", "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
        (
            "nofile=1:2:3",
            "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
        ),
    ],
)
def test_bad_ulimits(text: str, sentence: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        flags.parse_ulimit(text)
    assert str(caught.value) == sentence


def test_variables_without_a_value_take_the_one_they_have_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("ABSENT", raising=False)
    assert flags.complete_env("HERE") == "HERE=yes"
    assert flags.complete_env("ABSENT") == "ABSENT"
    assert flags.complete_env("A=") == "A="


def test_env_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("ABSENT", raising=False)
    path = tmp_path / "env"
    path.write_bytes(b"\xef\xbb\xbfA=1\n# comment\n\n  B= x y \r\nHERE\nABSENT\n")
    assert flags.read_env_file(str(path)) == ["A=1", "B= x y ", "HERE=yes"]
    assert flags.read_env_file(str(path), from_environment=False) == ["A=1", "B= x y "]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("A B=1", "variable 'A B' contains whitespaces"),
        ("=1", "no variable name on line '=1'"),
    ],
)
def test_bad_env_files(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "env"
    path.write_text(content)
    with pytest.raises(ValueRefused) as caught:
        flags.read_env_file(str(path))
    assert str(caught.value) == f"invalid env file ({path}): {sentence}"


@pytest.mark.parametrize(
    ("text", "bindings"),
    [
        ("80", {"80/tcp": [("", "")]}),
        ("8080:80", {"80/tcp": [("", "8080")]}),
        ("127.0.0.1:8080:80/udp", {"80/udp": [("127.0.0.1", "8080")]}),
        ("127.0.0.1::80", {"80/tcp": [("127.0.0.1", "")]}),
        ("[::1]:8080:80", {"80/tcp": [("::1", "8080")]}),
        ("90-91:100-101", {"100/tcp": [("", "90")], "101/tcp": [("", "91")]}),
        ("1000-1010:99", {"99/tcp": [("", "1000-1010")]}),
        ("published=8080,target=80,protocol=udp", {"80/udp": [("", "8080")]}),
        ("target=80", {"80/tcp": [("", "")]}),
    ],
)
def test_publish(text: str, bindings: dict[str, list[tuple[str, str]]]) -> None:
    exposed, found = flags.parse_publish([text])
    assert exposed == {port: {} for port in bindings}
    assert found == {
        port: [{"HostIp": address, "HostPort": host} for address, host in items]
        for port, items in bindings.items()
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("foo", "invalid containerPort: foo"),
        ("99999:1", "invalid hostPort: 99999"),
        ("1-2:1-3", "invalid ranges specified for container and host Ports: 1-3 and 1-2"),
        ("1/foo", "invalid proto: foo"),
        ("a.b:1:2", "invalid IP address: a.b"),
        ("[::1:1:2", "invalid IP address [::1: address [::1:: missing ']' in address"),
        ("a=1,b", "invalid publish opts format (should be name=value but got 'b')"),
    ],
)
def test_bad_publish(text: str, sentence: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        flags.parse_publish([text])
    assert str(caught.value) == sentence


def test_expose() -> None:
    assert flags.parse_expose(["80", "90-91/udp"]) == {"80/tcp": {}, "90/udp": {}, "91/udp": {}}
    with pytest.raises(ValueRefused, match="invalid port format for --expose: a:b"):
        flags.parse_expose(["a:b"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a:/b", ("/a:/b", "")),
        ("/a:/b:ro", ("/a:/b:ro", "")),
        ("name:/b", ("name:/b", "")),
        ("/anonymous", ("", "/anonymous")),
        ("./x:/b", ("{cwd}/x:/b", "")),
        (".:/b:ro", ("{cwd}:/b:ro", "")),
    ],
)
def test_volumes(
    text: str, expected: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert flags.parse_volume(text) == (expected[0].format(cwd=tmp_path), expected[1])


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        (
            "type=bind,source=/a,target=/b,readonly,bind-propagation=rshared",
            {
                "Type": "bind",
                "Source": "/a",
                "Target": "/b",
                "ReadOnly": True,
                "BindOptions": {"Propagation": "rshared"},
            },
        ),
        (
            "source=v,target=/b,volume-nocopy,volume-label=a=b,volume-driver=d,volume-opt=o=1",
            {
                "Type": "volume",
                "Source": "v",
                "Target": "/b",
                "VolumeOptions": {
                    "NoCopy": True,
                    "Labels": {"a": "b"},
                    "DriverConfig": {"Name": "d", "Options": {"o": "1"}},
                },
            },
        ),
        (
            "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1777",
            {
                "Type": "tmpfs",
                "Target": "/t",
                "TmpfsOptions": {"SizeBytes": 64 << 20, "Mode": 0o1777},
            },
        ),
        (
            'type=bind,"src=/a,b",dst=/b,ro=false',
            {"Type": "bind", "Source": "/a,b", "Target": "/b", "ReadOnly": False},
        ),
    ],
)
def test_mounts(text: str, mount: dict[str, object]) -> None:
    assert flags.parse_mount(text) == mount


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("type=foo", "target is required"),
        ("type=", "type is required"),
        ("foo", "invalid field 'foo' must be a key=value pair"),
        ("foo=x,target=/a", "unexpected key 'foo' in 'foo=x'"),
        (
            "type=bind,volume-nocopy=true,target=/a,source=/b",
            "cannot mix 'volume-*' options with mount type 'bind'",
        ),
        ("target=/a,tmpfs-size=x", "invalid value for tmpfs-size: x"),
        ("target=/a,readonly=x", "invalid value for readonly: x"),
        ('"', 'parse error on line 1, column 2: extraneous or missing " in quoted-field'),
    ],
)
def test_bad_mounts(text: str, sentence: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        flags.parse_mount(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/dev/a", ("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:rw", ("/dev/a", "/dev/a", "rw")),
        ("/dev/a:/dev/b:r", ("/dev/a", "/dev/b", "r")),
    ],
)
def test_devices(text: str, expected: tuple[str, str, str]) -> None:
    assert tuple(flags.parse_device(text).values()) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("foo", "foo is not an absolute path"),
        ("/dev/a:/x:q", "bad mode specified: q"),
        ("/dev/a:/x:rr", "bad mode specified: rr"),
    ],
)
def test_bad_devices(text: str, sentence: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        flags.parse_device(text)
    assert str(caught.value) == sentence


def test_gpus() -> None:
    assert flags.parse_gpus("all") == {
        "Count": -1,
        "Driver": "",
        "DeviceIDs": None,
        "Capabilities": [["gpu"]],
        "Options": {},
    }
    request = flags.parse_gpus('"device=0,1",driver=x,capabilities=y,options=a=b')
    assert request["DeviceIDs"] == ["0", "1"]
    assert request["Capabilities"] == [["y", "gpu"]]
    assert request["Options"] == {"a": "b"}


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("no", ("no", 0)),
        ("always", ("always", 0)),
        ("on-failure:3", ("on-failure", 3)),
        ("", ("", 0)),
    ],
)
def test_restart(text: str, policy: tuple[str, int]) -> None:
    assert tuple(flags.parse_restart(text).values()) == policy


def test_seccomp_profiles_are_read_here(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text('{\n  "defaultAction": "SCMP_ACT_ALLOW"\n}\n')
    options, unconfined = flags.parse_security_options(
        [f"seccomp={profile}", "no-new-privileges", "systempaths=unconfined", "label:disable"]
    )
    assert options == [
        'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}',
        "no-new-privileges",
        "label:disable",
    ]
    assert unconfined
    with pytest.raises(ValueRefused) as caught:
        flags.parse_security_options([f"seccomp={tmp_path}/absent"])
    assert str(caught.value) == (
        f"opening seccomp profile ({tmp_path}/absent) failed: open {tmp_path}/absent: "
        "no such file or directory"
    )


def test_capabilities() -> None:
    assert flags.parse_capabilities(["net_admin", "CAP_CHOWN"], ["all"]) == (
        ["CAP_CHOWN", "CAP_NET_ADMIN"],
        ["ALL"],
    )
    assert flags.parse_capabilities(["chown"], ["chown", "kill"]) == (["CAP_CHOWN"], ["CAP_KILL"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:1.2.3.4", "a:1.2.3.4"),
        ("a=1.2.3.4", "a:1.2.3.4"),
        ("a:::1", "a:::1"),
        ("a=[::1]", "a:::1"),
        ("a:host-gateway", "a:host-gateway"),
    ],
)
def test_extra_hosts(text: str, expected: str) -> None:
    assert flags.parse_extra_host(text) == expected


def test_networks() -> None:
    option = flags.parse_network("name=n,alias=a,alias=b,ip=1.2.3.4,driver-opt=K=v,gw-priority=3")
    assert (option.name, option.aliases, option.ip) == ("n", ["a", "b"], "1.2.3.4")
    assert (option.driver_options, option.gateway_priority) == ({"k": "v"}, 3)
    assert flags.parse_network("container:x").name == "container:x"
    with pytest.raises(ValueRefused, match="network name/id is not specified"):
        flags.parse_network("alias=b")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("02:42:ac:11:00:02", True),
        ("02-42-ac-11-00-02", True),
        ("0242.ac11.0002", True),
        ("x", False),
        ("02:42:ac:11:00", False),
    ],
)
def test_mac_addresses(text: str, *, good: bool) -> None:
    assert flags.is_mac_address(text) is good


def test_csv() -> None:
    assert flags.split_csv('a,"b,c","d""e",') == ["a", "b,c", 'd"e', ""]
