"""The transition table is the only way between statuses."""

import itertools

import pytest

from wherry.engine.containers import state
from wherry.model.container import (
    Container,
    ContainerConfig,
    ContainerId,
    ContainerState,
    Endpoint,
    HostConfig,
    Status,
)
from wherry.model.errors import Internal


def container(status: Status, **changes: object) -> Container:
    return Container(
        id=ContainerId("a" * 64),
        name="box",
        created="2026-01-01T00:00:00Z",
        image_id="",
        image_ref="",
        config=ContainerConfig(),
        host_config=HostConfig(),
        state=ContainerState(status=status, **changes),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Status, Status)))
def test_only_what_the_table_allows(before: Status, after: Status) -> None:
    if after in state.TRANSITIONS[before]:
        assert state.enter(container(before), after).state.status is after
    else:
        with pytest.raises(Internal, match=f"{before} cannot become {after}"):
            state.enter(container(before), after)


def test_every_status_can_be_removed_in_some_way() -> None:
    for status in set(Status) - {Status.REMOVING}:
        assert Status.REMOVING in state.TRANSITIONS[status]


def test_a_start_counts_generations_and_forgets_the_last_run() -> None:
    ended = container(Status.EXITED, exit_code=3, error="x", oom_killed=True, generation=4)
    starting = state.begin_start(ended)
    assert starting.state.starting
    assert starting.state.generation == 5
    running = state.started(starting, pid=7, pid_start_time=8, started_at="2026-01-02T00:00:00Z")
    assert running.state == ContainerState(
        status=Status.RUNNING,
        pid=7,
        pid_start_time=8,
        started_at="2026-01-02T00:00:00Z",
        has_been_started=True,
        generation=5,
    )


def test_a_failed_start_keeps_the_status_of_before() -> None:
    failed = state.start_failed(
        state.begin_start(container(Status.CREATED)), exit_code=127, error="nope"
    )
    assert failed.state.status is Status.CREATED
    assert (failed.state.exit_code, failed.state.error) == (127, "nope")
    restarting = container(Status.RESTARTING)
    failed = state.start_failed(state.begin_start(restarting), exit_code=127, error="nope")
    assert failed.state.status is Status.EXITED


def test_an_end_forgets_addresses_but_not_the_network() -> None:
    running = container(Status.RUNNING, pid=7)
    endpoint = Endpoint(network_id="n", endpoint_id="e", ip_address="10.0.0.2", mac_address="x")
    running = state.replace(running, endpoints={"bridge": endpoint})
    ended = state.ended(
        running,
        exit_code=1,
        oom_killed=False,
        error="",
        finished_at="2026-01-02T00:00:00Z",
        restarting=True,
    )
    assert ended.state.status is Status.RESTARTING
    assert ended.state.restart_count == 1
    assert ended.state.pid == 0
    assert ended.endpoints == {"bridge": Endpoint(network_id="n")}
