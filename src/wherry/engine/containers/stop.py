"""Ending a run from outside: stop, kill, restart; and pause, unpause.

A stop is a promise to the container, not to the caller: the grace period runs to its end although the
client goes away (pitfalls, Docker's API).
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace

from wherry.engine.clock import parse_time
from wherry.engine.containers import state
from wherry.engine.containers.handle import ContainerHandle, Roster
from wherry.engine.containers.host_side import cgroup_path
from wherry.engine.containers.lifecycle import Lifecycle
from wherry.engine.containers.notices import publish_container
from wherry.engine.containers.signals import InvalidSignal, has_plans, is_supported, parse_signal
from wherry.engine.containers.wait import Waiter, begin_wait
from wherry.engine.events import Events
from wherry.engine.settings import EngineSettings
from wherry.engine.tasks import Tasks
from wherry.lib.blocking import run_blocking
from wherry.model.container import Container, Status
from wherry.model.errors import (
    Conflict,
    ContainerNotRunning,
    Internal,
    InvalidArgument,
    NoSuchContainer,
    NotFound,
    NotModified,
)
from wherry.runtime.cgroups import open_cgroup

_KILL_PATIENCE_S = 10.0
_YOUTH_NS = 100_000_000
_LOOK_AGAIN_S = 0.005


class Stopper:
    """Stops, kills, restarts, pauses."""

    def __init__(
        self, *, settings: EngineSettings, roster: Roster, lifecycle: Lifecycle, events: Events
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._lifecycle = lifecycle
        self._events = events
        self._tasks = Tasks("stops")

    async def close(self) -> None:
        """Waits for the stops in progress."""
        await self._tasks.close()

    async def stop(self, ref: str, signal_name: str | None, timeout_s: int | None) -> None:
        """Raises NotModified, Internal (a signal that does not exist: Docker's status is 500)."""
        handle = self._roster.get(ref)
        if handle.record.state.status not in state.ACTIVE:
            raise NotModified(f"container {handle.id} is already stopped")
        try:
            number = self._stop_signal(handle, signal_name)
        except InvalidSignal as exc:
            raise Internal(f"cannot stop container: {ref}: {exc}") from exc
        await self._tasks.finish(self._stop(handle, number, timeout_s), f"stop {handle.id}")

    async def restart(self, ref: str, signal_name: str | None, timeout_s: int | None) -> None:
        """Stops what runs, then starts; `--rm` does not remove it in between."""
        handle = self._roster.get(ref)
        number = 0
        if handle.record.state.status in state.ACTIVE:
            try:
                number = self._stop_signal(handle, signal_name)
            except InvalidSignal as exc:
                raise Internal(f"Cannot restart container {ref}: {exc}") from exc
        await self._tasks.finish(self._restart(handle, number, timeout_s), f"restart {handle.id}")

    async def _restart(self, handle: ContainerHandle, number: int, timeout_s: int | None) -> None:
        keep = handle.record
        if keep.host_config.auto_remove:
            self._set_auto_remove(handle, wanted=False)
        try:
            if number:
                await self._stop(handle, number, timeout_s)
            await self._lifecycle.start(handle)
        finally:
            if keep.host_config.auto_remove:
                self._set_auto_remove(handle, wanted=True)
        publish_container(self._events, handle.record, "restart")

    def _set_auto_remove(self, handle: ContainerHandle, *, wanted: bool) -> None:
        record = handle.record
        host_config = replace(record.host_config, auto_remove=wanted)
        self._roster.replace(handle, replace(record, host_config=host_config))

    def _stop_signal(self, handle: ContainerHandle, name: str | None) -> int:
        return parse_signal(name or handle.record.config.stop_signal or "TERM")

    def _grace_s(self, record: Container, timeout_s: int | None) -> int:
        if timeout_s is not None:
            return timeout_s
        if record.config.stop_timeout is not None:
            return record.config.stop_timeout
        return self._settings.default_stop_timeout_s

    async def _stop(self, handle: ContainerHandle, number: int, timeout_s: int | None) -> None:
        waiter = await self._end_policy(handle)
        if waiter is not None:
            grace_s = self._grace_s(handle.record, timeout_s)
            if grace_s:
                await _settle(handle, number)
            self._signal(handle, number)
            if not await _ended(waiter, None if grace_s < 0 else grace_s):
                await self._kill_hard(handle)
        publish_container(self._events, handle.record, "stop")

    async def _end_policy(self, handle: ContainerHandle) -> Waiter | None:
        """No restart after this end; a waiter for it, or None when nothing runs."""
        async with handle.lock:
            handle.backoff.cancelled = True
            self._mark_stopped(handle)
            await self._lifecycle.cancel_restart(handle)
            if handle.record.state.status not in state.ALIVE:
                return None
            return begin_wait(handle, "not-running")

    def _mark_stopped(self, handle: ContainerHandle) -> None:
        record = handle.record
        if not record.state.has_been_manually_stopped:
            new = replace(record.state, has_been_manually_stopped=True)
            self._roster.replace_anyway(handle, replace(record, state=new))

    def _signal(self, handle: ContainerHandle, number: int) -> None:
        self._lifecycle.send_signal(handle, number)
        if handle.record.state.status is Status.PAUSED:
            # A frozen process takes no signal, on cgroup v1 not even KILL.
            self._tasks.spawn(self._thaw_quietly(handle), f"thaw {handle.id}")

    async def kill_hard(self, handle: ContainerHandle) -> None:
        """KILL, and wait for the end. Returns at once when nothing runs. Raises Internal."""
        if await self._end_policy(handle) is not None:
            await self._kill_hard(handle)

    async def _kill_hard(self, handle: ContainerHandle) -> None:
        waiter = begin_wait(handle, "not-running")
        self._signal(handle, signal.SIGKILL)
        if await _ended(waiter, _KILL_PATIENCE_S):
            return
        waiter = begin_wait(handle, "not-running")
        cgroup = open_cgroup(cgroup_path(self._settings, handle.record))
        await run_blocking(cgroup.kill)
        if not await _ended(waiter, _KILL_PATIENCE_S):
            raise Internal(
                f"cannot stop container: {handle.id}: tried to kill container, "
                "but did not receive an exit event"
            )

    async def kill(self, ref: str, signal_name: str) -> None:
        """Raises NotFound, InvalidArgument, Conflict with Docker's sentences."""
        try:
            handle = self._roster.get(ref)
        except NoSuchContainer as exc:
            raise NotFound(f"cannot kill container: {ref}: {exc}") from exc
        try:
            number = parse_signal(signal_name) if signal_name else int(signal.SIGKILL)
        except InvalidSignal as exc:
            raise InvalidArgument(f"cannot kill container: {ref}: {exc}") from exc
        if not is_supported(number):
            raise InvalidArgument(
                f"cannot kill container: {ref}: the linux daemon does not support signal {number}"
            )
        await self._tasks.finish(self._kill(handle, ref, number), f"kill {handle.id}")

    async def _kill(self, handle: ContainerHandle, ref: str, number: int) -> None:
        async with handle.lock:
            if handle.record.state.status not in state.ALIVE:
                if handle.record.state.status is Status.RESTARTING:
                    handle.backoff.cancelled = True
                    await self._lifecycle.cancel_restart(handle)
                    return
                raise Conflict(
                    f"cannot kill container: {ref}: container {handle.id} is not running"
                )
            if self._ends_policy(handle.record, number):
                handle.backoff.cancelled = True
            self._mark_stopped(handle)
        if number == signal.SIGKILL:
            await self._kill_hard(handle)
        else:
            await _settle(handle, number)
            self._signal(handle, number)

    def _ends_policy(self, record: Container, number: int) -> bool:
        """With a stop signal of its own, other signals leave the restart policy alone (moby kill.go)."""
        own = record.config.stop_signal
        return not own or number in {signal.SIGKILL, parse_signal(own)}

    async def pause(self, handle: ContainerHandle) -> None:
        """Raises ContainerNotRunning, Conflict."""
        async with handle.lock:
            status = handle.record.state.status
            if status is Status.PAUSED:
                raise Conflict(f"Container {handle.id} is already paused")
            if status is Status.RESTARTING:
                raise Conflict(
                    f"Container {handle.id} is restarting, wait until the container is running"
                )
            if status is not Status.RUNNING:
                raise ContainerNotRunning(handle.id)
            try:
                await run_blocking(open_cgroup(cgroup_path(self._settings, handle.record)).freeze)
            except OSError as exc:
                raise Internal(
                    f"Cannot pause container {handle.id}: {(exc.strerror or '').lower()}"
                ) from exc
            self._roster.replace_anyway(handle, state.enter(handle.record, Status.PAUSED))
        publish_container(self._events, handle.record, "pause")

    async def unpause(self, handle: ContainerHandle) -> None:
        """Raises Internal when it is not paused (Docker's status is 500)."""
        async with handle.lock:
            if handle.record.state.status is not Status.PAUSED:
                raise Internal(f"Container {handle.id} is not paused")
            await self._thaw(handle)

    async def _thaw_quietly(self, handle: ContainerHandle) -> None:
        async with handle.lock:
            if handle.record.state.status is Status.PAUSED:
                await self._thaw(handle)

    async def _thaw(self, handle: ContainerHandle) -> None:
        try:
            await run_blocking(open_cgroup(cgroup_path(self._settings, handle.record)).thaw)
        except OSError as exc:
            raise Internal(
                f"Cannot unpause container {handle.id}: {(exc.strerror or '').lower()}"
            ) from exc
        if handle.record.state.status is Status.PAUSED:
            self._roster.replace_anyway(handle, state.enter(handle.record, Status.RUNNING))
            publish_container(self._events, handle.record, "unpause")


async def _settle(handle: ContainerHandle, number: int) -> None:
    """A moment for a program that has just begun to make a handler: PID 1 never sees a signal before that.

    Clients that stop what they have just started rely on it, since dockerd takes longer to answer a start.
    """
    record = handle.record
    young_until = parse_time(record.state.started_at) + _YOUTH_NS
    while (  # noqa: ASYNC110 - the kernel tells nobody of a new handler
        time.time_ns() < young_until
        and handle.shim is not None
        and not has_plans(record.state.pid, number)
    ):
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _ended(waiter: Waiter, timeout_s: float | None) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await waiter.result()
    except TimeoutError:
        return False
    return True
