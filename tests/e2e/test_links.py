"""`--link` on the default bridge, as older Compose files and scripts use it, through the official client."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.harness.engine import Engine


@pytest.fixture
def linked(engine: Engine, busybox: str) -> Iterator[tuple[str, str]]:
    """A running container, and another that calls it `db`."""
    engine.docker("run", "-d", "--name", "server", "-e", "A=1", busybox, "sleep", "300")
    engine.docker("run", "-d", "--name", "user", "--link", "server:db", busybox, "sleep", "300")
    yield "server", "user"
    engine.docker("rm", "-f", *engine.docker("ps", "-aq").split())


def address(engine: Engine, container: str) -> str:
    return engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", container).strip()


def in_hosts(engine: Engine, container: str, name: str) -> list[str]:
    lines = engine.docker("exec", container, "cat", "/etc/hosts").splitlines()
    return [line.split()[0] for line in lines if name in line.split()[1:]]


def shown(engine: Engine, container: str) -> object:
    return json.loads(engine.docker("inspect", "-f", "{{json .HostConfig.Links}}", container))


def test_links_are_shown_as_docker_does(
    engine: Engine, busybox: str, linked: tuple[str, str]
) -> None:
    server, user = linked
    assert shown(engine, user) == [f"/{server}:/{user}/db"]
    names = engine.docker("ps", "--no-trunc", "--format", "{{.Names}}", "-f", f"name={server}")
    assert names.strip() == f"{server},{user}/db"
    environment = engine.docker("exec", user, "env").splitlines()
    assert {f"DB_NAME=/{user}/db", "DB_ENV_A=1"} <= set(environment)
    # What an inspect shows makes the same link again.
    engine.docker("run", "-d", "--name", "two", "--link", f"/{server}:/{user}/db", busybox, "top")
    assert shown(engine, "two") == [f"/{server}:/two/db"]
    assert in_hosts(engine, "two", "db") == [address(engine, server)]
    engine.docker("rm", "-f", server)
    assert shown(engine, user) is None


def test_a_link_follows_its_container(engine: Engine, linked: tuple[str, str]) -> None:
    server, user = linked
    before = address(engine, server)
    assert in_hosts(engine, user, "db") == [before]
    engine.docker("rename", server, "renamed")
    engine.docker("restart", "-t", "0", "renamed")
    assert address(engine, "renamed") != before
    assert in_hosts(engine, user, "db") == [address(engine, "renamed")]
    engine.docker("restart", "-t", "0", user)
    assert in_hosts(engine, user, "renamed") == [address(engine, "renamed")]


def test_links_that_cannot_be(engine: Engine, busybox: str, linked: tuple[str, str]) -> None:
    server, user = linked
    engine.docker("stop", "-t", "0", server, user)
    refused = engine.run("docker", "start", user, check=False)
    assert f"Cannot link to a non running container: /{server} AS /{user}/db" in refused.stderr
    engine.docker("run", "-d", "--name", "onhost", "--net", "host", busybox, "sleep", "300")
    refused = engine.run("docker", "create", "--link", "onhost:x", busybox, check=False)
    assert "host type networking can't be used with links" in refused.stderr


def test_a_linked_container_is_on_the_default_bridge(engine: Engine, busybox: str) -> None:
    engine.docker("network", "create", "other")
    engine.docker("run", "-d", "--name", "server", "--net", "other", busybox, "sleep", "300")
    engine.docker("create", "--name", "user", "--link", "server:db", busybox, "sleep", "300")
    refused = engine.run("docker", "start", "user", check=False)
    assert "not attached to default bridge network" in refused.stderr
    engine.docker("network", "connect", "bridge", "server")
    engine.docker("start", "user")
    form = "{{.NetworkSettings.Networks.bridge.IPAddress}}"
    bridged = engine.docker("inspect", "-f", form, "server").strip()
    assert in_hosts(engine, "user", "db") == [bridged]
    # One in another's network is there where the other one is.
    engine.docker("run", "-d", "--name", "lodger", "--net", "container:server", busybox, "top")
    engine.docker("run", "-d", "--name", "two", "--link", "lodger:db", busybox, "sleep", "300")
    assert in_hosts(engine, "two", "db") == [bridged]
    engine.docker("rm", "-f", "server", "user", "lodger", "two")
    engine.docker("network", "rm", "other")
