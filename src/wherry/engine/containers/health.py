"""Health checks: a probe exec'd in the container at an interval, and the state that its results make.

States and defaults are Docker's (moby daemon/health.go): `starting` until the first success or, after
the start period, as many failures as `retries`; then `healthy` or `unhealthy`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from wherry.engine.clock import format_time, parse_time
from wherry.engine.containers.handle import ContainerHandle, Roster
from wherry.engine.containers.notices import publish_container
from wherry.engine.events import Events
from wherry.engine.tasks import Tasks
from wherry.lib.durations import format_duration
from wherry.model.container import (
    Container,
    ContainerConfig,
    Health,
    Healthcheck,
    HealthResult,
    HealthStatus,
)
from wherry.model.errors import EngineError

logger = logging.getLogger(__name__)

_DEFAULT_INTERVAL_NS = 30_000_000_000
_DEFAULT_TIMEOUT_NS = 30_000_000_000
_DEFAULT_START_INTERVAL_NS = 5_000_000_000
_DEFAULT_RETRIES = 3
_LOG_LENGTH = 5
_OUTPUT_LIMIT = 4096
_DEFAULT_SHELL = ("/bin/sh", "-c")

Probe = Callable[[ContainerHandle, Sequence[str], float], Awaitable[tuple[int | None, bytes]]]
"""Runs a command in the container; answers exit code (None: killed for time) and output. Raises EngineError."""


def probe_command(config: ContainerConfig) -> tuple[str, ...]:
    """The command of the health check; empty when there is none."""
    check = config.healthcheck
    if check is None or not check.test:
        return ()
    match check.test:
        case ("CMD", *words):
            return tuple(words)
        case ("CMD-SHELL", command, *_):
            return (*(config.shell or _DEFAULT_SHELL), command)
        case _:
            return ()


def initial_health(config: ContainerConfig) -> Health | None:
    """What a start begins with; None without a health check."""
    return Health(status=HealthStatus.STARTING) if probe_command(config) else None


def take_result(
    health: Health, check: Healthcheck, result: HealthResult, *, in_start_period: bool
) -> Health:
    """The next state. Pure."""
    log = (*health.log, result)[-_LOG_LENGTH:]
    if result.exit_code == 0:
        return Health(status=HealthStatus.HEALTHY, failing_streak=0, log=log)
    if health.status is HealthStatus.STARTING and in_start_period:
        return replace(health, log=log)
    streak = health.failing_streak + 1
    failed = streak >= (check.retries or _DEFAULT_RETRIES)
    status = HealthStatus.UNHEALTHY if failed else health.status
    return Health(status=status, failing_streak=streak, log=log)


class HealthChecks:
    """One task per container that has a health check and runs."""

    def __init__(self, *, roster: Roster, events: Events) -> None:
        self._roster = roster
        self._events = events
        self._tasks = Tasks("health")
        self._probe: Probe | None = None

    def use(self, probe: Probe) -> None:
        """How commands are run: the exec service, which is built after the container service."""
        self._probe = probe

    async def close(self) -> None:
        """Stops all checks."""
        await self._tasks.close()

    def begin(self, handle: ContainerHandle) -> None:
        """A container runs (again)."""
        self.end(handle)
        if self._probe is not None and probe_command(handle.record.config):
            handle.health_task = self._tasks.spawn(
                self._watch(handle, self._probe), f"check {handle.id}"
            )

    def end(self, handle: ContainerHandle) -> None:
        """The container has ended; Docker calls it unhealthy then."""
        task, handle.health_task = handle.health_task, None
        if task is None:
            return
        task.cancel()
        health = handle.record.state.health
        if health is not None and health.status is not HealthStatus.UNHEALTHY:
            self._store(handle, replace(health, status=HealthStatus.UNHEALTHY), quiet=True)

    async def _watch(self, handle: ContainerHandle, probe: Probe) -> None:
        check = handle.record.config.healthcheck or Healthcheck()
        command = probe_command(handle.record.config)
        while True:
            await asyncio.sleep(self._pause_s(handle.record, check))
            result = await _run_probe(handle, probe, command, check)
            health = handle.record.state.health
            if handle.shim is None or health is None:
                return
            self._store(
                handle,
                take_result(
                    health,
                    check,
                    result,
                    in_start_period=_in_start_period(handle.record, check),
                ),
            )

    def _pause_s(self, record: Container, check: Healthcheck) -> float:
        health = record.state.health
        starting = health is not None and health.status is HealthStatus.STARTING
        interval = check.interval or _DEFAULT_INTERVAL_NS
        if starting and check.start_period and _in_start_period(record, check):
            interval = min(interval, check.start_interval or _DEFAULT_START_INTERVAL_NS)
        return interval / 1e9

    def _store(self, handle: ContainerHandle, health: Health, *, quiet: bool = False) -> None:
        before = handle.record
        self._roster.replace_anyway(
            handle, replace(before, state=replace(before.state, health=health))
        )
        old = before.state.health
        if not quiet and (old is None or old.status is not health.status):
            publish_container(self._events, handle.record, f"health_status: {health.status}")


def _in_start_period(record: Container, check: Healthcheck) -> bool:
    return time.time_ns() - parse_time(record.state.started_at) < check.start_period


async def _run_probe(
    handle: ContainerHandle, probe: Probe, command: Sequence[str], check: Healthcheck
) -> HealthResult:
    timeout = check.timeout or _DEFAULT_TIMEOUT_NS
    start = time.time_ns()
    try:
        code, output = await probe(handle, command, timeout / 1e9)
        text = output[:_OUTPUT_LIMIT].decode(errors="replace")
        if len(output) > _OUTPUT_LIMIT:
            text += "..."
        if code is None:
            text = f"Health check exceeded timeout ({format_duration(timeout)})" + (
                text and f": {text}"
            )
    except EngineError as exc:
        code, text = -1, str(exc)
    return HealthResult(
        start=format_time(start),
        end=format_time(time.time_ns()),
        exit_code=-1 if code is None else code,
        output=text,
    )
