"""The words of `docker ps`, `top` and health checks."""

import pytest

from wherry.engine.clock import format_time
from wherry.engine.containers.health import initial_health, probe_command, take_result
from wherry.engine.containers.listing import describe_status
from wherry.engine.containers.log_options import parse_size
from wherry.engine.containers.top import parse_table
from wherry.engine.filters import parse_until
from wherry.model.container import (
    Container,
    ContainerConfig,
    ContainerId,
    ContainerState,
    Health,
    Healthcheck,
    HealthResult,
    HealthStatus,
    HostConfig,
    Status,
)
from wherry.model.errors import EngineError


@pytest.mark.parametrize(
    ("present", "words"),
    [
        (ContainerState(), "Created"),
        (ContainerState(status=Status.RUNNING), "Up 5 minutes"),
        (
            ContainerState(status=Status.RUNNING, health=Health(status=HealthStatus.HEALTHY)),
            "Up 5 minutes (healthy)",
        ),
        (
            ContainerState(status=Status.RUNNING, health=Health()),
            "Up 5 minutes (health: starting)",
        ),
        (ContainerState(status=Status.PAUSED), "Up 5 minutes (Paused)"),
        (ContainerState(status=Status.EXITED, exit_code=3), "Exited (3) 5 minutes ago"),
        (ContainerState(status=Status.RESTARTING, exit_code=1), "Restarting (1) 5 minutes ago"),
    ],
)
def test_statuses(present: ContainerState, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_000_300_000_000_000)
    moment = format_time(1_000_000_000_000_000)
    changed = ContainerState(
        status=present.status,
        exit_code=present.exit_code,
        health=present.health,
        started_at=moment,
        finished_at=moment,
    )
    record = Container(
        id=ContainerId("a"),
        name="box",
        created="",
        image_id="",
        image_ref="",
        config=ContainerConfig(),
        host_config=HostConfig(),
        state=changed,
    )
    assert describe_status(record) == words


def test_top_keeps_the_containers_processes() -> None:
    text = "UID PID CMD\nroot 1 init\nroot 20 sh -c x\nuser 21 sleep 9\n"
    table = parse_table(text, frozenset({20, 21}))
    assert table.titles == ("UID", "PID", "CMD")
    assert table.processes == (("root", "20", "sh -c x"), ("user", "21", "sleep 9"))
    with pytest.raises(EngineError, match="Couldn't find PID field in ps output"):
        parse_table("CMD\ninit\n", frozenset())


def result(code: int) -> HealthResult:
    return HealthResult(start="", end="", exit_code=code)


def test_health_states() -> None:
    check = Healthcheck(test=("CMD", "x"), retries=2)
    health = initial_health(ContainerConfig(healthcheck=check))
    assert health == Health(status=HealthStatus.STARTING)
    health = take_result(health, check, result(1), in_start_period=True)
    assert (health.status, health.failing_streak) == (HealthStatus.STARTING, 0)
    health = take_result(health, check, result(1), in_start_period=False)
    assert (health.status, health.failing_streak) == (HealthStatus.STARTING, 1)
    health = take_result(health, check, result(1), in_start_period=False)
    assert health.status is HealthStatus.UNHEALTHY
    health = take_result(health, check, result(0), in_start_period=False)
    assert (health.status, health.failing_streak) == (HealthStatus.HEALTHY, 0)
    for _ in range(9):
        health = take_result(health, check, result(0), in_start_period=False)
    assert len(health.log) == 5


@pytest.mark.parametrize(
    ("config", "command"),
    [
        (ContainerConfig(), ()),
        (ContainerConfig(healthcheck=Healthcheck(test=("NONE",))), ()),
        (ContainerConfig(healthcheck=Healthcheck(test=("CMD", "a", "b"))), ("a", "b")),
        (
            ContainerConfig(healthcheck=Healthcheck(test=("CMD-SHELL", "a b"))),
            ("/bin/sh", "-c", "a b"),
        ),
        (
            ContainerConfig(
                healthcheck=Healthcheck(test=("CMD-SHELL", "a")), shell=("/bin/bash", "-c")
            ),
            ("/bin/bash", "-c", "a"),
        ),
    ],
)
def test_probe_commands(config: ContainerConfig, command: tuple[str, ...]) -> None:
    assert probe_command(config) == command


def test_sizes_of_logs() -> None:
    assert parse_size("10m") == 10 << 20
    assert parse_size("") == 0
    with pytest.raises(EngineError, match="invalid size: 'x'"):
        parse_size("x")


def test_until(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 10_000_000_000_000)
    assert parse_until({}) == 0
    assert parse_until({"until": ["1h30m"]}) == 10_000_000_000_000 - 5_400_000_000_000
    assert parse_until({"until": ["1000.5"]}) == 1_000_500_000_000
    assert parse_until({"until": ["1970-01-01T01:00:00"]}) == 3_600_000_000_000
    with pytest.raises(EngineError, match="failed to parse value as time or duration"):
        parse_until({"until": ["x"]})
