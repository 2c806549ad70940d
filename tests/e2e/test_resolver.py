"""Names of containers on networks that users made, asked from inside with busybox's nslookup."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.harness.engine import Engine, running_engine
from tests.images.make import default_folder, make_image


@pytest.fixture
def network(engine: Engine) -> Iterator[str]:
    """The network net1."""
    engine.docker("network", "create", "net1")
    yield "net1"
    containers = engine.docker("ps", "-aq")
    if containers:
        engine.docker("rm", "-f", *containers.split())
    engine.docker("network", "rm", "net1")


def start(engine: Engine, name: str, image: str, *options: str) -> str:
    """Starts a sleeper and returns its address on its first network."""
    engine.docker("run", "-d", "--name", name, *options, image, "sleep", "300")
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    return engine.docker("inspect", "-f", form, name).split()[0]


def look_up(engine: Engine, asker: str, name: str) -> list[str]:
    """The addresses of a name as `asker` sees them; [] when nobody has it."""
    done = engine.run("docker", "exec", asker, "nslookup", name, "127.0.0.11", check=False)
    lines = done.stdout.split("Name:", 1)[-1].splitlines() if "Name:" in done.stdout else []
    return sorted(line.split()[1] for line in lines if line.startswith("Address"))


def test_names_aliases_and_ids(engine: Engine, busybox: str, network: str) -> None:
    one = start(
        engine, "one", busybox, "--net", network, "--network-alias", "Web", "--hostname", "hosty"
    )
    two = start(engine, "two", busybox, "--net", network, "--network-alias", "web")
    short = engine.docker("ps", "-q", "-f", "name=one")
    for name in ("one", "hosty", "ONE", short, "one.net1"):
        assert look_up(engine, "two", name) == [one]
    assert look_up(engine, "one", "web") == sorted([one, two])
    assert look_up(engine, "one", "one.net2") == []
    assert look_up(engine, "one", "three") == []
    reverse = engine.docker("exec", "one", "nslookup", two)
    assert "name = two.net1" in reverse
    resolv_conf = engine.docker("exec", "one", "cat", "/etc/resolv.conf").splitlines()
    assert "nameserver 127.0.0.11" in resolv_conf
    assert "options ndots:0" in resolv_conf
    engine.docker("rename", "two", "deux")
    assert look_up(engine, "one", "deux") == [two]
    assert look_up(engine, "one", "two") == []
    engine.docker("stop", "-t", "0", "deux")
    assert look_up(engine, "one", "web") == [one]


def test_the_first_instruction_can_ask(engine: Engine, busybox: str, network: str) -> None:
    start(engine, "server", busybox, "--net", network)
    for _ in range(3):
        engine.docker("run", "--rm", "--net", network, busybox, "nslookup", "-type=a", "server")


def test_links_are_seen_by_one_container_only(engine: Engine, busybox: str, network: str) -> None:
    server = start(engine, "server", busybox, "--net", network)
    start(engine, "one", busybox, "--net", network, "--link", "server:db")
    start(engine, "two", busybox, "--net", network)
    assert look_up(engine, "one", "db") == [server]
    assert look_up(engine, "two", "db") == []


def test_links_follow_whom_they_name(engine: Engine, busybox: str, network: str) -> None:
    start(engine, "server", busybox, "--net", network)
    start(engine, "one", busybox, "--net", network, "--link", "server:db", "--link", "late:l8")
    assert look_up(engine, "one", "l8") == []
    engine.docker("stop", "-t", "0", "server")
    late = start(engine, "late", busybox, "--net", network)
    assert look_up(engine, "one", "l8") == [late]
    engine.docker("start", "server")
    form = "{{.NetworkSettings.Networks.net1.IPAddress}}"
    server = engine.docker("inspect", "-f", form, "server")
    assert look_up(engine, "one", "db") == [server]
    assert "db" not in engine.docker("exec", "one", "cat", "/etc/hosts").split()


def test_a_container_that_joins_later(engine: Engine, busybox: str, network: str) -> None:
    server = start(engine, "server", busybox, "--net", network)
    start(engine, "late", busybox)
    assert "127.0.0.11" not in engine.docker("exec", "late", "cat", "/etc/resolv.conf")
    engine.docker("network", "connect", "--alias", "later", network, "late")
    assert "127.0.0.11" in engine.docker("exec", "late", "cat", "/etc/resolv.conf")
    assert look_up(engine, "late", "server") == [server]
    assert len(look_up(engine, "server", "later")) == 1
    engine.docker("network", "disconnect", network, "late")
    assert look_up(engine, "late", "server") == []
    assert look_up(engine, "server", "later") == []


def test_a_server_of_the_containers_own_may_have_port_53(
    engine: Engine, busybox: str, network: str
) -> None:
    server = start(engine, "server", busybox, "--net", network)
    engine.docker("exec", "-d", "server", "nc", "-l", "-p", "53", "-s", "0.0.0.0")
    assert look_up(engine, "server", "server") == [server]


def test_an_internal_network_asks_nobody_outside(engine: Engine, busybox: str) -> None:
    engine.docker("network", "create", "--internal", "inner")
    address = start(engine, "alone", busybox, "--net", "inner")
    assert look_up(engine, "alone", "alone") == [address]
    done = engine.run("docker", "exec", "alone", "nslookup", "example.org", check=False)
    assert "SERVFAIL" in done.stdout
    engine.docker("rm", "-f", "alone")
    engine.docker("network", "rm", "inner")


def test_servers_that_the_engine_was_told_to_give() -> None:
    options = ("--dns=192.0.2.1", "--dns-search=example.com", "--dns-opt=timeout:3")
    with running_engine(options=options) as engine:
        engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))

        def told(*options: str) -> list[str]:
            text = engine.docker("run", "--rm", *options, "busybox", "cat", "/etc/resolv.conf")
            return [line for line in text.splitlines() if not line.startswith("#")]

        given = ["nameserver 192.0.2.1", "search example.com", "options timeout:3"]
        assert told() == told("--net", "host") == given
        assert told("--dns", "192.0.2.2") == ["nameserver 192.0.2.2", *given[1:]]
        engine.docker("network", "create", "net1")
        assert told("--net", "net1")[:2] == ["nameserver 127.0.0.11", "search example.com"]
        engine.docker("network", "rm", "net1")


def test_questions_wait_for_the_next_engine() -> None:
    with running_engine() as engine:
        engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        engine.docker("network", "create", "net1")
        address = start(engine, "one", "busybox", "--net", "net1")
        engine.docker("run", "-d", "--name", "two", "--net", "net1", "busybox", "sh", "-c",
                      "until [ -e /go ]; do :; done; nslookup -type=a one; sleep 300")  # fmt: skip
        engine.docker("exec", "two", "touch", "/go")
        engine.kill()
        engine.start()
        assert look_up(engine, "two", "one") == [address]
        engine.docker("rm", "-f", "one", "two")
