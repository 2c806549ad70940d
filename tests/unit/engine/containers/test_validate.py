"""Create requests that dockerd 28.5 refuses, with its sentences."""

import pytest

from wherry.engine.containers.resources import Machine, check_resources
from wherry.engine.containers.validate import CreateRequest, check_name, check_request
from wherry.model.container import (
    ContainerConfig,
    EndpointConfig,
    Healthcheck,
    HostConfig,
    LogConfig,
    PortBinding,
    Resources,
    RestartPolicy,
)
from wherry.model.errors import EngineError, InvalidArgument

MACHINE = Machine(processors=2, cpus="0-1", mems="0", has_block_weight=False)


def check(
    config: dict[str, object] | None = None,
    networks: dict[str, EndpointConfig] | None = None,
    **host: object,
) -> list[str]:
    return check_request(
        CreateRequest(
            config=ContainerConfig(**(config or {})),  # type: ignore[arg-type]
            host_config=HostConfig(**host),  # type: ignore[arg-type]
            networks=networks or {},
            runtimes=frozenset({"crun"}),
        )
    )


@pytest.mark.parametrize("name", ["a/b", "a", "", "-ab", "ä1"])
def test_names(name: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid container name"):
        check_name(name)


def test_a_leading_slash_is_dockers() -> None:
    assert check_name("/web_1.x-y") == "web_1.x-y"


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ({"ipc_mode": "invalid"}, "invalid IPC mode: invalid"),
        ({"pid_mode": "invalid"}, "invalid PID mode: invalid"),
        ({"uts_mode": "invalid"}, "invalid UTS mode: invalid"),
        ({"cgroupns_mode": "invalid"}, "invalid cgroup namespace mode: invalid"),
        (
            {"network_mode": "container:"},
            "invalid network mode: invalid container format container:<name|id>",
        ),
        (
            {"network_mode": "container:a", "port_bindings": {"80/tcp": (PortBinding(),)}},
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            {"network_mode": "host", "links": ("a:b",)},
            (
                "conflicting options: host type networking can't be used with links. "
                "This would result in undefined behavior"
            ),
        ),
        ({"cap_add": ("FOO",)}, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        ({"runtime": "nope"}, "unknown or invalid runtime name: nope"),
        ({"runtime": "crun"}, "runtime crun: containers run with wherry's own runtime only"),
        (
            {"restart_policy": RestartPolicy(name="always"), "auto_remove": True},
            "can't create 'AutoRemove' container with restart policy",
        ),
        ({"security_opt": ("foo",)}, 'invalid --security-opt 1: "foo"'),
        ({"security_opt": ("foo=bar",)}, 'invalid --security-opt 2: "foo=bar"'),
        ({"oom_score_adj": 5000}, "Invalid value 5000, range for oom score adj is [-1000, 1000]"),
        ({"shm_size": -1}, "SHM size can not be less than 0"),
        ({"port_bindings": {"foo": ()}}, 'invalid port specification: "foo"'),
        (
            {"port_bindings": {"80/tcp": (PortBinding(host_port="abc"),)}},
            'invalid port specification: "abc"',
        ),
        (
            {"log_config": LogConfig(type="foo")},
            'error looking up logging plugin foo: plugin "foo" not found',
        ),
        (
            {"log_config": LogConfig(config={"foo": "1"})},
            "unknown log opt 'foo' for json-file log driver",
        ),
        ({"extra_hosts": ("foo",)}, 'bad format for add-host: "foo"'),
        (
            {"annotations": {"": "x"}},
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ),
        ({"isolation": "foo"}, "invalid isolation (foo): linux only supports 'default'"),
        ({"tmpfs": {"a": ""}}, "invalid mount path: 'a' mount path must be absolute"),
    ],
)
def test_host_configs(host: dict[str, object], sentence: str) -> None:
    with pytest.raises(EngineError) as caught:
        check(**host)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"working_dir": "abc"},
            "the working directory 'abc' is invalid, it needs to be an absolute path",
        ),
        ({"env": ("=x",)}, "invalid environment variable: =x"),
        ({"stop_signal": "FOO"}, "invalid signal: FOO"),
        (
            {"healthcheck": Healthcheck(test=("CMD", "a"), interval=5)},
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (
            {"healthcheck": Healthcheck(test=("CMD", "a"), retries=-5)},
            "Retries in Healthcheck cannot be negative",
        ),
    ],
)
def test_configs(config: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(config)
    assert str(caught.value) == sentence


def test_a_host_name_needs_a_uts_namespace() -> None:
    with pytest.raises(InvalidArgument, match="conflicting options: hostname and the UTS mode"):
        check({"hostname": "x"}, uts_mode="host")
    with pytest.raises(InvalidArgument, match="hostname and the network mode"):
        check({"hostname": "x"}, network_mode="container:abc")


def test_ports_on_the_hosts_network_are_a_warning() -> None:
    assert check(network_mode="host", port_bindings={"80/tcp": (PortBinding(),)}) == [
        "Published ports are discarded when using host network mode"
    ]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"memory": 1000}, "Minimum memory limit allowed is 6MB"),
        (
            {"memory": 10_000_000, "memory_swap": 5},
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            {"memory_swap": 10_000_000},
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            {"memory_swappiness": 200},
            "Invalid value: 200, valid memory swappiness range is 0-100",
        ),
        (
            {"memory": 10_000_000, "memory_reservation": 20_000_000},
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            {"nano_cpus": 900_000_000_000},
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (
            {"nano_cpus": 1_000_000_000, "cpu_quota": 5000},
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            {"cpu_period": 5},
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        ({"cpu_quota": 5}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"cpuset_cpus": "abc"}, "Invalid value abc for cpuset cpus: invalid format: abc"),
        ({"cpuset_cpus": "9"}, "Requested CPUs are not available - requested 9, available: 0-1"),
        (
            {"cpuset_mems": "9"},
            "Requested memory nodes are not available - requested 9, available: 0",
        ),
    ],
)
def test_limits(limits: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_resources(Resources(**limits), MACHINE)  # type: ignore[arg-type]
    assert str(caught.value) == sentence


def test_warnings() -> None:
    checked, warnings = check_resources(
        Resources(blkio_weight=5, oom_kill_disable=True, pids_limit=-5), MACHINE
    )
    assert checked.blkio_weight == 0
    assert checked.pids_limit is None
    assert len(warnings) == 2
