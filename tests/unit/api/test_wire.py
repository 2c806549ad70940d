"""JSON bodies as Go's decoder takes them."""

from __future__ import annotations

import pytest

from wherry.api.convert.containers import (
    build_config,
    build_host_config,
    parse_config,
    parse_host_config,
    parse_networks,
    parse_update,
)
from wherry.model.container import (
    ContainerConfig,
    EndpointConfig,
    HostConfig,
    Mount,
    PortBinding,
    Ulimit,
    VolumeOptions,
)
from wherry.model.errors import InvalidArgument, NotSupported
from wherry.wire.base import BodyError, decode_body, decode_parameter
from wherry.wire.build import UlimitItem
from wherry.wire.containers import CreateRequest, ExecCreateRequest
from wherry.wire.containers import HostConfig as WireHostConfig
from wherry.wire.containers import PortBinding as WirePortBinding

DEEP = '{"a":' * 20_000 + "1" + "}" * 20_000


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"Image":"x"} x', "unexpected content after JSON"),
        (b'{"Image":', "invalid JSON: unexpected EOF"),
        (b"", "invalid JSON: got EOF while reading request body"),
        (b'{"Image":5}', "invalid JSON: Expected `str`, got `int` - at `$.Image`"),
        (
            b'{"HostConfig":{"Memory":"x"}}',
            "invalid JSON: Expected `int`, got `str` - at `$.HostConfig.Memory`",
        ),
    ],
)
def test_sentences_of_bad_bodies(body: bytes, sentence: str) -> None:
    with pytest.raises(BodyError) as raised:
        decode_body(body, CreateRequest)
    assert str(raised.value) == sentence


def test_parameters_are_read_as_bodies_are() -> None:
    assert decode_parameter('{"a":null,"b":"c"}', dict[str, str]) == {"a": "", "b": "c"}
    assert decode_parameter('{"a":null}', dict[str, str | None]) == {"a": None}
    assert decode_parameter('["a",null]', list[str]) == ["a", ""]
    (limit,) = decode_parameter('[{"name":"nofile","SOFT":1}]', list[UlimitItem])
    assert (limit.name, limit.soft, limit.hard) == ("nofile", 1, 0)
    for text in ("[", '{"a":1}', "[]", DEEP):
        with pytest.raises(BodyError):
            decode_parameter(text, dict[str, str])


def test_null_is_absent_and_unknown_keys_are_ignored() -> None:
    body = b'{"Hostname":null,"Env":null,"Labels":null,"Unknown":{"x":null},"HostConfig":{"Binds":null,"Init":null}}'
    assert decode_body(body, CreateRequest) == decode_body(b'{"HostConfig":{}}', CreateRequest)


def test_the_case_of_a_structs_keys_is_free_and_that_of_a_maps_is_not() -> None:
    body = b'{"image":"x","hostconfig":{"PORTBINDINGS":{"80/TCP":[{"hostport":"1"}]}},"Labels":{"Ab":"c"}}'
    request = decode_body(body, CreateRequest)
    assert (request.image, request.labels) == ("x", {"Ab": "c"})
    assert request.host_config == WireHostConfig(
        port_bindings={"80/TCP": [WirePortBinding(host_port="1")]}
    )
    assert decode_body(b'{"detachKeys":"ctrl-p"}', ExecCreateRequest).detach_keys == "ctrl-p"


def test_null_in_a_list_is_its_zero_value() -> None:
    assert decode_body(b'{"Env":["A=b",null]}', CreateRequest).env == ["A=b", ""]


def test_null_in_a_map_keeps_its_key() -> None:
    body = (
        b'{"ExposedPorts":{"80/tcp":null},"HostConfig":{"PortBindings":{"80/tcp":null}},'
        b'"NetworkingConfig":{"EndpointsConfig":{"n":null}},"Labels":{"a":null}}'
    )
    request = decode_body(body, CreateRequest)
    assert parse_config(request).exposed_ports == ("80/tcp",)
    assert parse_config(request).labels == {"a": ""}
    assert parse_networks(request.networking_config) == {"n": EndpointConfig()}
    assert request.host_config is not None
    assert parse_host_config(request.host_config).port_bindings == {"80/tcp": ()}


def test_a_command_may_be_a_string() -> None:
    config = parse_config(decode_body(b'{"Cmd":"ls","Entrypoint":[]}', CreateRequest))
    assert config.cmd == ("ls",)
    assert config.entrypoint == ()
    assert config.shell is None


def test_swappiness_minus_one_is_not_given() -> None:
    assert parse_host_config(WireHostConfig(memory_swappiness=-1)).memory_swappiness is None
    assert parse_host_config(WireHostConfig(memory_swappiness=0)).memory_swappiness == 0


def test_devices_by_capability_are_refused() -> None:
    body = b'{"HostConfig":{"DeviceRequests":[{"Driver":"","Count":-1,"Capabilities":[["gpu"]]}]}}'
    request = decode_body(body, CreateRequest)
    assert request.host_config is not None
    with pytest.raises(
        NotSupported, match=r'could not select device driver "" with capabilities: \[\[gpu\]\]'
    ):
        parse_host_config(request.host_config)


def test_numbers_beyond_the_type_are_the_clients_fault() -> None:
    request = decode_body(
        b'{"HostConfig":{"ConsoleSize":[1,2,3]}}'.replace(b"1,2,3", b"1,2"), CreateRequest
    )
    assert request.host_config is not None
    with pytest.raises(BodyError):
        decode_body(b'{"HostConfig":{"ConsoleSize":[1,2,3]}}', CreateRequest)
    with pytest.raises((BodyError, InvalidArgument)):
        decode_body(b'{"HostConfig":{"Memory":1e40}}', CreateRequest)


def test_what_goes_in_comes_out() -> None:
    config = ContainerConfig(
        hostname="h",
        env=("A=b",),
        cmd=("x", "y"),
        exposed_ports=("80/tcp",),
        volumes=("/data",),
        labels={"a": "b"},
        stop_timeout=3,
        shell=("sh", "-c"),
    )
    assert parse_config(build_config(config)) == config
    host = HostConfig(
        binds=("/a:/b",),
        port_bindings={"80/tcp": (PortBinding(host_port="8080"),)},
        ulimits=(Ulimit(name="nofile", soft=1, hard=2),),
        mounts=(
            Mount(
                type="volume",
                target="/v",
                source="v",
                volume_options=VolumeOptions(driver_name="local", driver_options={"o": "x"}),
            ),
        ),
        init=True,
        masked_paths=(),
        sysctls={"net.core.somaxconn": "1"},
        memory=1 << 40,
    )
    assert parse_host_config(build_host_config(host)) == host


def test_an_update_without_a_policy_leaves_it() -> None:
    resources, policy = parse_update(WireHostConfig(memory=5))
    assert (resources.memory, policy) == (5, None)
