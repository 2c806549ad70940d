"""The life of a container: which status may follow which, in one table.

    created ──> running ──> exited ──> running …
       │         │   ▲  \\─> restarting ──> running | exited
       │         ▼   │
       │        paused                          any ──> removing ──> (gone) | dead

`restarting` is the pause before the restart policy starts the program again; Docker counts it as
running. `dead` is a container whose removal failed half-way; it can only be removed again.
A start that fails leaves the status as it was, with an exit code and an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from wherry.engine.clock import ZERO_TIME
from wherry.model.container import Container, ContainerState, Endpoint, Health, Status
from wherry.model.errors import Internal

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.RUNNING, Status.REMOVING}),
    Status.RUNNING: frozenset({Status.PAUSED, Status.EXITED, Status.RESTARTING, Status.REMOVING}),
    Status.PAUSED: frozenset({Status.RUNNING, Status.EXITED, Status.RESTARTING, Status.REMOVING}),
    Status.RESTARTING: frozenset({Status.RUNNING, Status.EXITED, Status.REMOVING}),
    Status.EXITED: frozenset({Status.RUNNING, Status.REMOVING}),
    Status.REMOVING: frozenset({Status.DEAD}),
    Status.DEAD: frozenset({Status.REMOVING}),
}

ALIVE = frozenset({Status.RUNNING, Status.PAUSED})
"""The program exists."""

ACTIVE = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})
"""What Docker calls running."""


def enter(container: Container, status: Status, state: ContainerState | None = None) -> Container:
    """The container in another status; `state` carries what else changed. Raises Internal if not allowed."""
    present = container.state.status
    if status not in TRANSITIONS[present]:
        raise Internal(f"container {container.id}: {present} cannot become {status}")
    return replace(container, state=replace(state or container.state, status=status))


def begin_start(container: Container) -> Container:
    """The row that is committed before a spec leaves the engine (pitfall 8)."""
    state = container.state
    return replace(container, state=replace(state, starting=True, generation=state.generation + 1))


def started(
    container: Container,
    *,
    pid: int,
    pid_start_time: int,
    started_at: str,
    health: Health | None = None,
) -> Container:
    """The program was exec'd."""
    state = replace(
        container.state,
        starting=False,
        pid=pid,
        pid_start_time=pid_start_time,
        exit_code=0,
        error="",
        oom_killed=False,
        started_at=started_at,
        finished_at=container.state.finished_at,
        has_been_started=True,
        has_been_manually_stopped=False,
        health=health,
    )
    return enter(container, Status.RUNNING, state)


def start_failed(container: Container, *, exit_code: int, error: str) -> Container:
    """Docker keeps the status of before, and shows the code and the sentence."""
    status = container.state.status
    return replace(
        container,
        state=replace(
            container.state,
            status=Status.EXITED if status is Status.RESTARTING else status,
            starting=False,
            pid=0,
            pid_start_time=0,
            exit_code=exit_code,
            error=error,
        ),
        endpoints=_without_addresses(container.endpoints),
        ports={},
    )


def ended(
    container: Container,
    *,
    exit_code: int,
    oom_killed: bool,
    error: str,
    finished_at: str,
    restarting: bool,
) -> Container:
    """The program has ended; `restarting` when the policy will start it again."""
    state = replace(
        container.state,
        starting=False,
        pid=0,
        pid_start_time=0,
        exit_code=exit_code,
        error=error,
        oom_killed=oom_killed,
        finished_at=finished_at,
        restart_count=container.state.restart_count + restarting,
    )
    status = Status.RESTARTING if restarting else Status.EXITED
    return replace(
        enter(container, status, state),
        endpoints=_without_addresses(container.endpoints),
        ports={},
    )


def is_new(container: Container) -> bool:
    """Never started with success."""
    return container.state.started_at == ZERO_TIME


def _without_addresses(endpoints: Mapping[str, Endpoint]) -> Mapping[str, Endpoint]:
    return {
        name: Endpoint(
            network_id=endpoint.network_id, dns_names=endpoint.dns_names, config=endpoint.config
        )
        for name, endpoint in endpoints.items()
    }
