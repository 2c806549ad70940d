"""`network connect` and `disconnect`, of stopped and of running containers, through the official client."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator

import pytest
from tests.harness.engine import Engine, running_engine
from tests.images.make import default_folder, make_image


@pytest.fixture
def container(engine: Engine, busybox: str) -> Iterator[str]:
    """A running container on the default bridge, and the networks n1 and n2."""
    engine.docker("network", "create", "n1")
    engine.docker("network", "create", "n2")
    engine.docker("run", "-d", "--name", "c1", busybox, "sleep", "300")
    yield "c1"
    engine.docker("rm", "-f", "c1")
    engine.docker("network", "rm", "n1", "n2")


def interfaces(engine: Engine, container: str) -> list[str]:
    return engine.docker("exec", container, "ls", "/sys/class/net").split()


def gateways(engine: Engine, container: str) -> int:
    routes = engine.docker("exec", container, "ip", "route")
    return sum(line.startswith("default") for line in routes.splitlines())


def own_addresses(engine: Engine, container: str) -> int:
    hosts = engine.docker("exec", container, "cat", "/etc/hosts")
    name = engine.docker("inspect", "-f", "{{.Config.Hostname}}", container)
    return hosts.count(name)


def test_a_running_container_joins_and_leaves(engine: Engine, container: str) -> None:
    engine.docker("network", "connect", "--alias", "web", "n1", container)
    engine.docker("network", "connect", "n2", container)
    assert interfaces(engine, container) == ["eth0", "eth1", "eth2", "lo"]
    assert own_addresses(engine, container) == 3
    engine.docker("network", "disconnect", "n1", container)
    assert interfaces(engine, container) == ["eth0", "eth2", "lo"]
    assert gateways(engine, container) == 1
    engine.docker("network", "disconnect", "bridge", container)
    assert interfaces(engine, container) == ["eth2", "lo"]
    assert gateways(engine, container) == 1  # the way out has moved to what is left
    assert own_addresses(engine, container) == 1
    engine.docker("network", "disconnect", "n2", container)
    assert interfaces(engine, container) == ["lo"]
    engine.docker("network", "connect", "n1", container)
    assert interfaces(engine, container) == ["eth0", "lo"]
    assert gateways(engine, container) == 1


def test_what_was_connected_stays_so_over_restarts(engine: Engine, container: str) -> None:
    engine.docker("network", "connect", "n1", container)
    engine.docker("network", "disconnect", "bridge", container)
    engine.docker("restart", "-t", "0", container)
    networks = engine.docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", container)
    assert '"n1"' in networks
    assert '"bridge"' not in networks
    assert interfaces(engine, container) == ["eth0", "lo"]


def test_a_stopped_container_joins_at_its_next_start(engine: Engine, container: str) -> None:
    engine.docker("stop", "-t", "0", container)
    engine.docker("network", "connect", "n1", container)
    engine.docker("start", container)
    assert interfaces(engine, container) == ["eth0", "eth1", "lo"]


def test_a_stopped_container_forgets_a_network_that_is_gone(
    engine: Engine, busybox: str, container: str
) -> None:
    engine.docker("network", "create", "gone")
    engine.docker("network", "connect", "gone", container)
    engine.docker("stop", "-t", "0", container)
    engine.docker("network", "rm", "gone")
    refused = engine.run("docker", "start", container, check=False)
    assert "network gone not found" in refused.stderr
    engine.docker("network", "disconnect", "gone", container)
    engine.docker("start", container)
    again = engine.run("docker", "network", "disconnect", "gone", container, check=False)
    assert "network gone not found" in again.stderr


def test_link_local_addresses_are_given_too(engine: Engine, busybox: str, container: str) -> None:
    engine.docker("network", "connect", "--link-local-ip", "169.254.7.7", "n1", container)
    shown = ("ip", "-4", "-o", "address", "show", "scope", "global")
    options = ("--rm", "--net", "n1", "--link-local-ip", "169.254.8.8")
    both = engine.docker("run", *options, busybox, *shown)
    assert "169.254.8.8/16" in both
    assert len(both.splitlines()) == 2
    engine.docker("run", *options, busybox, "ping", "-c", "1", "-W", "5", "169.254.7.7")
    refused = engine.run(
        "docker", "run", "--rm", "--link-local-ip", "169.253.5.5", busybox, check=False
    )
    assert "invalid link local IP address: 169.253.5.5" in refused.stderr


def test_the_gateway_of_the_host_is_the_default_bridges(
    engine: Engine, busybox: str, container: str
) -> None:
    del container
    engine.docker("network", "create", "--internal", "inner")
    template = "{{(index .IPAM.Config 0).Gateway}}"
    address = engine.docker("network", "inspect", "-f", template, "bridge")
    for network in ("bridge", "n1", "inner", "host"):
        named = ("--net", network, "--add-host", "me:host-gateway")
        line = engine.docker("run", "--rm", *named, busybox, "grep", "-w", "me", "/etc/hosts")
        assert line == f"{address}\tme"
    engine.docker("network", "rm", "inner")


def test_the_gateway_of_the_host_by_option(busybox_archive: str) -> None:
    with running_engine(options=["--host-gateway-ip=192.0.2.7"]) as engine:
        engine.docker("load", "-q", "-i", busybox_archive)
        named = ("--rm", "--add-host", "me:host-gateway", "busybox")
        line = engine.docker("run", *named, "grep", "-w", "me", "/etc/hosts")
        assert line == "192.0.2.7\tme"
        text = "FROM busybox\nRUN grep -w me /etc/hosts >/line\n"
        built = ("--add-host", "me:host-gateway", "-t", "named", "-")
        engine.docker("build", "-q", *built, input_=text)
        assert engine.docker("run", "--rm", "named", "cat", "/line") == "192.0.2.7\tme"


def test_interfaces_have_the_names_and_settings_that_were_asked_for(
    engine: Engine, busybox: str, container: str
) -> None:
    named = "driver-opt=com.docker.network.endpoint.ifname"
    sysctls = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME"
    prefix = "com.docker.network.container_iface_prefix=lan"
    engine.docker("network", "create", "--opt", prefix, "n3")
    shown = ("sh", "-c", "ls /sys/class/net; cat /proc/sys/net/ipv4/conf/*/log_martians")
    nets = (f"name=n1,{named}=web0,driver-opt={sysctls}.log_martians=1", "n2", "n3")
    try:
        before = engine.docker("run", "--rm", "--net", "n1", busybox, *shown).split()
        for _ in range(3):  # more than a slot may be made ahead of
            done = engine.docker("run", "--rm", *(f"--net={net}" for net in nets), busybox, *shown)
            # all, default, eth0, lan0, lo, web0
            assert done.split() == ["eth0", "lan0", "lo", "web0", *"000001"]
        assert before == ["eth0", "lo", *"0000"]
        option = ("--driver-opt", f"{named.removeprefix('driver-opt=')}=data")
        more = ("--driver-opt", f"{sysctls}.log_martians=1")
        engine.docker("network", "connect", *option, *more, "n1", container)
        engine.docker("network", "connect", "n3", container)
        assert interfaces(engine, container) == ["data", "eth0", "lan0", "lo"]
        martians = "/proc/sys/net/ipv4/conf/data/log_martians"
        assert engine.docker("exec", container, "cat", martians) == "1"
        taken = engine.run("docker", "network", "connect", *option, "n2", container, check=False)
        assert '" to "data": file exists' in taken.stderr
        engine.docker("network", "disconnect", "n1", container)
        assert interfaces(engine, container) == ["eth0", "lan0", "lo"]
        engine.docker("network", "disconnect", "n3", container)
        wrong = (f"--net=name=n1,driver-opt={sysctls}.nonesuch=1", busybox, "true")
        refused = engine.run("docker", "run", "--rm", *wrong, check=False)
        assert (
            "unable to write '1' to '/proc/sys/net/ipv4/conf/eth0/nonesuch': no such file"
            in refused.stderr
        )
    finally:
        engine.docker("network", "disconnect", "-f", "n3", container, check=False)
        engine.docker("network", "rm", "n3")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("connect", "nope", "c1"), "network nope not found"),
        (
            ("connect", "--alias", "x", "host", "c1"),
            (
                "invalid endpoint settings:\n"
                "network-scoped alias is supported only for containers in user defined networks"
            ),
        ),
        (("create", "default"), "operation is not permitted on predefined default network"),
        (("connect", "n1", "nope"), "No such container: nope"),
        (("connect", "bridge", "c1"), "endpoint with name c1 already exists in network bridge"),
        (
            ("connect", "host", "c1"),
            (
                "cannot connect container to host network - container must be created in host network"
                " mode"
            ),
        ),
        (
            ("connect", "none", "c1"),
            (
                "container cannot be connected to multiple networks with one of the networks in"
                " private (none) mode"
            ),
        ),
        (("disconnect", "-f", "n1", "nope"), "endpoint nope not found"),
    ],
)
def test_what_cannot_be(
    engine: Engine, container: str, arguments: tuple[str, ...], sentence: str
) -> None:
    done = engine.run("docker", "network", *arguments, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().startswith(f"Error response from daemon: {sentence}")


def way_out(engine: Engine, container: str) -> str:
    """The interface with the default route, and the ports that are published."""
    routes = engine.docker("exec", container, "ip", "route").splitlines()
    devices = [line.split()[4] for line in routes if line.startswith("default")]
    return " ".join([*devices, engine.docker("port", container).partition("\n")[0]])


def test_the_way_out_and_ports_move_as_in_docker(engine: Engine, busybox: str) -> None:
    engine.docker("network", "create", "aaa")
    engine.docker("network", "create", "zzz")
    engine.docker("network", "create", "--internal", "aa-inner")
    engine.docker("run", "-d", "--name", "c1", "-p", "127.0.0.1:18931:80", busybox, "httpd", "-f")
    published = "80/tcp -> 127.0.0.1:18931"
    assert way_out(engine, "c1") == f"eth0 {published}"
    engine.docker("network", "connect", "zzz", "c1")
    engine.docker("network", "connect", "aa-inner", "c1")
    assert way_out(engine, "c1") == f"eth0 {published}"
    engine.docker("network", "connect", "aaa", "c1")
    assert way_out(engine, "c1") == f"eth3 {published}"
    engine.docker("network", "disconnect", "aaa", "c1")
    assert way_out(engine, "c1") == f"eth0 {published}"
    engine.docker("network", "connect", "--gw-priority", "5", "aaa", "c1")
    engine.docker("network", "disconnect", "bridge", "c1")
    assert way_out(engine, "c1") == f"eth3 {published}"
    for name in ("aaa", "zzz"):
        engine.docker("network", "disconnect", name, "c1")
    assert way_out(engine, "c1") == ""
    engine.docker("network", "connect", "zzz", "c1")
    assert way_out(engine, "c1").endswith(published)
    engine.docker("rm", "-f", "c1")
    engine.docker("run", "-d", "--name", "c2", "--network", "aa-inner", "--network", "zzz",
                  "-p", "127.0.0.1:18931:80", busybox, "httpd", "-f")  # fmt: skip
    assert way_out(engine, "c2") == f"eth1 {published}"
    engine.docker("rm", "-f", "c2")
    engine.docker("network", "rm", "aaa", "zzz", "aa-inner")


def test_ports_of_a_container_on_two_networks_survive_the_engine(busybox_archive: str) -> None:
    with running_engine() as engine:
        engine.docker("load", "-q", "-i", busybox_archive)
        for name in ("one", "two"):
            engine.docker("network", "create", name)
        engine.docker("run", "-d", "--name", "c1", "--network", "one", "--network", "two",
                      "-p", "127.0.0.1:18932:80", "busybox", "httpd", "-f")  # fmt: skip
        engine.restart()
        assert way_out(engine, "c1") == "eth0 80/tcp -> 127.0.0.1:18932"
        with socket.create_connection(("127.0.0.1", 18932), 10):
            pass
        engine.docker("rm", "-f", "c1")
        assert engine.settle() == {}


def test_an_engine_that_is_killed_in_a_connect_leaves_no_interface(busybox_archive: str) -> None:
    with running_engine() as engine:
        engine.docker("load", "-q", "-i", busybox_archive)
        engine.docker("network", "create", "net1")
        engine.docker("run", "-d", "--name", "c1", "busybox", "sleep", "300")
        for delay_s in (0.03, 0.08):
            client = engine.spawn("docker", "network", "connect", "net1", "c1")
            # The moment of the kill is what is tried here: any must do.
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(delay_s)
            engine.kill()
            client.communicate()
            engine.start()
            form = "{{len .NetworkSettings.Networks}}"
            known = int(engine.docker("inspect", "-f", form, "c1"))
            assert interfaces(engine, "c1")[:-1] == [f"eth{number}" for number in range(known)]
            if known == 2:
                assert "127.0.0.11" in engine.docker("exec", "c1", "cat", "/etc/resolv.conf")
                engine.docker("network", "disconnect", "net1", "c1")
        engine.docker("network", "connect", "net1", "c1")
        addresses = engine.docker("exec", "c1", "ip", "address")
        assert addresses.count("inet6") == addresses.count("::1/128")
        engine.docker("rm", "-f", "c1")


@pytest.fixture
def busybox_archive() -> str:
    """For engines of a test's own."""
    return str(make_image(default_folder(), "busybox"))
