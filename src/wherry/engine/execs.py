"""Execs: further programs in running containers (`docker exec`), and the probes of health checks.

An exec that has started is stored, so that its exit code can be asked for after a restart of the engine;
one that was only created is kept in memory. Ended ones are forgotten after some minutes, as in Docker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from wherry.engine.containers import state
from wherry.engine.containers.failure import exec_failure, exec_refusal
from wherry.engine.containers.handle import ContainerHandle, Roster
from wherry.engine.containers.links import with_link_environment
from wherry.engine.containers.merge import override_env
from wherry.engine.containers.notices import publish_container
from wherry.engine.containers.processes import open_root
from wherry.engine.containers.resources import build_rlimits, merge_ulimits
from wherry.engine.containers.security import (
    parse_security_options,
    tweak_capabilities,
)
from wherry.engine.containers.spec import build_env
from wherry.engine.events import Events
from wherry.engine.settings import EngineSettings
from wherry.engine.shims import (
    Attachment,
    ExecHandle,
    ExecRequest,
    ShimGone,
    ShimHandle,
    ShimLaunchError,
)
from wherry.engine.store import Store, Table
from wherry.engine.streams import ClientStream, Hijack
from wherry.engine.tasks import Tasks
from wherry.engine.warm import warm_cgroups
from wherry.lib.blocking import run_blocking
from wherry.lib.detach import InvalidDetachKeys, parse_detach_keys
from wherry.lib.ids import new_id
from wherry.lib.jsonvalue import JsonObject, JsonValue
from wherry.model.container import Container, Exec, ExecConfig, ExecId, Status
from wherry.model.errors import (
    Conflict,
    ContainerNotRunning,
    Internal,
    InvalidArgument,
    NoSuchExec,
    NotFound,
    StartFailed,
)
from wherry.runtime import users
from wherry.runtime.errors import StepError

logger = logging.getLogger(__name__)

_KEPT_S = 300.0
_KILLED = 137
_START_PATIENCE_S = 10.0  # as dockerd
_STDOUT_FRAME = b"\x01\x00\x00\x00"


class Execs:
    """The service."""

    def __init__(
        self, *, settings: EngineSettings, store: Store, roster: Roster, events: Events
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._events = events
        self._table = Table(store, "execs", Exec)
        self._execs: dict[str, Exec] = dict(self._table.items())
        self._ended: dict[str, float] = {}
        self._starting: dict[str, list[asyncio.Event]] = {}
        self._tasks = Tasks("execs")

    async def close(self) -> None:
        """Ends background work; execs go on."""
        await self._tasks.close()

    async def create(self, ref: str, config: ExecConfig) -> ExecId:
        """Raises NoSuchContainer, Conflict, InvalidArgument."""
        handle = self._roster.get(ref)
        if not config.cmd:
            raise InvalidArgument("No exec command specified")
        shim = _check_running(handle, ref)
        _read_detach_keys(config.detach_keys)
        if config.user:
            await run_blocking(_check_user, shim, config.user)
        self._forget_old()
        return self._create(handle, config)

    def _create(self, handle: ContainerHandle, config: ExecConfig) -> ExecId:
        exec_id = ExecId(new_id())
        self._execs[exec_id] = Exec(id=exec_id, container_id=handle.id, config=config)
        handle.exec_ids[exec_id] = None
        self._publish(handle, f"exec_create: {_command(config)}", exec_id)
        # The first attach to a v1 cgroup after a while waits for a grace period (pitfall 21).
        self._tasks.spawn(warm_cgroups(), "warm cgroups")
        return exec_id

    def get(self, exec_id: str) -> Exec:
        """Raises NoSuchExec, also when its container is gone or ended before the exec was started."""
        found = self._execs.get(exec_id)
        handle = self._roster.find(found.container_id) if found is not None else None
        if found is None or handle is None or not (found.started or exec_id in handle.exec_ids):
            raise NoSuchExec(exec_id)
        return found

    async def start(
        self,
        exec_id: str,
        *,
        detach: bool = False,
        tty: bool = False,
        console_size: tuple[int, int] = (0, 0),
        hijack: Hijack | None = None,
    ) -> None:
        """Returns when the program runs, or its failure was written to the hijacked stream.

        Raises NoSuchExec, NotFound, Conflict; StartFailed only when detached.
        """
        record = self.get(exec_id)
        handle = self._roster.get(record.container_id)
        if record.exit_code is not None:
            raise Conflict(f"exec command {exec_id} has already run")
        if record.started:
            raise Conflict(f"exec command {exec_id} is already running")
        shim = _check_running(handle, handle.id)
        self._keep(replace(record, started=True))
        stream = None if detach or hijack is None else await hijack(not tty)
        await self._tasks.finish(
            self._run(handle, shim, record.id, stream, tty=tty, console_size=console_size),
            f"start exec {exec_id}",
        )

    async def _run(
        self,
        handle: ContainerHandle,
        shim: ShimHandle,
        exec_id: ExecId,
        stream: ClientStream | None,
        *,
        tty: bool,
        console_size: tuple[int, int],
    ) -> None:
        record = self.get(exec_id)
        self._publish(handle, f"exec_start: {_command(record.config)}", exec_id)
        # The connection goes to the shim; a failure is told through a second descriptor of it.
        spare = os.dup(stream.fd) if stream is not None else -1
        attachments = () if stream is None else (_attachment(record.config, stream, tty=tty),)
        if stream is not None:
            stream.fd = -1
        try:
            await self._launch(handle, shim, record, attachments, console_size)
        except StartFailed as exc:
            self._finish(handle, exec_id, exc.exit_code)
            if spare < 0:
                raise
            await _tell(spare, str(exc), multiplexed=not tty)
        finally:
            if spare >= 0:
                os.close(spare)

    async def _launch(
        self,
        handle: ContainerHandle,
        shim: ShimHandle,
        record: Exec,
        attachments: Sequence[Attachment],
        console_size: tuple[int, int],
    ) -> ExecHandle:
        config = record.config
        try:
            container = with_link_environment(self._roster, handle.record)
            process = build_process(self._settings, container, config, console_size)
        except InvalidArgument as exc:
            for attachment in attachments:
                os.close(attachment.fd)
            raise exec_refusal(str(exc)) from exc
        request = ExecRequest(
            exec_id=record.id,
            process=process,
            stdin=config.attach_stdin,
            attachments=attachments,
        )
        try:
            running = await shim.exec(request)
        except ShimLaunchError as exc:
            raise exec_failure(exc) from exc
        except ShimGone as exc:
            raise exec_refusal("cannot exec in a stopped container") from exc
        self._keep(replace(self._execs[record.id], running=True, pid=running.pid), durable=True)
        self._watch(handle, record.id, running)
        return running

    def adopt(self, handle: ContainerHandle, shim: ShimHandle) -> None:
        """Takes in the execs of a shim that an earlier engine started; forgets those that are gone."""
        for record in list(self._execs.values()):
            if record.container_id != handle.id or record.exit_code is not None:
                continue
            running = shim.execs.get(record.id)
            handle.exec_ids[record.id] = None
            if running is None:
                self._finish(handle, record.id, _KILLED)
            else:
                self._watch(handle, record.id, running)
        for running in list(shim.execs.values()):
            if running.exec_id not in self._execs:  # the engine ended before it could store it
                _release_at_end(running)

    def forget_container(self, handle: ContainerHandle) -> None:
        """Its execs have ended with it."""
        for record in list(self._execs.values()):
            if record.container_id == handle.id and record.exit_code is None:
                self._finish(handle, record.id, _KILLED)

    def restored(self) -> None:
        """After all containers were adopted: execs of containers that are gone are dropped."""
        for record in list(self._execs.values()):
            if self._roster.find(record.container_id) is None:
                self._drop(record.id)
            elif record.exit_code is not None:
                self._ended[record.id] = time.monotonic()

    def _watch(self, handle: ContainerHandle, exec_id: ExecId, running: ExecHandle) -> None:
        def ended(future: asyncio.Future[int]) -> None:
            if future.cancelled():
                return
            self._finish(handle, exec_id, future.result())
            running.release()

        running.exited.add_done_callback(ended)

    def _finish(self, handle: ContainerHandle, exec_id: ExecId, exit_code: int) -> None:
        record = self._execs.get(exec_id)
        if record is None or record.exit_code is not None:
            return
        ran = record.running
        self._keep(replace(record, running=False, started=True, exit_code=exit_code), durable=ran)
        handle.exec_ids.pop(exec_id, None)
        self._ended[exec_id] = time.monotonic()
        if ran:
            self._publish(handle, "exec_die", exec_id, {"exitCode": str(exit_code)})

    def _keep(self, record: Exec, *, durable: bool = False) -> None:
        self._execs[record.id] = record
        if record.pid or record.exit_code is not None:
            for begun in self._starting.pop(record.id, ()):
                begun.set()
        if durable:
            try:
                self._table.put(record.id, record)
            except Internal as exc:  # what has happened has, on a full disk too
                logger.error("exec %s cannot be stored: %s", record.id, exc)

    def _drop(self, exec_id: str) -> None:
        self._execs.pop(exec_id, None)
        self._ended.pop(exec_id, None)
        try:
            self._table.delete(exec_id)
        except Internal as exc:
            logger.error("exec %s stays in the store until the next start: %s", exec_id, exc)

    def _forget_old(self) -> None:
        limit = time.monotonic() - _KEPT_S
        for exec_id in [key for key, moment in self._ended.items() if moment < limit]:
            self._drop(exec_id)

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Waits for the start, which a client asks for at the same time. Raises NoSuchExec, Conflict, NotFound, Internal."""
        record = self.get(exec_id)
        if not record.pid and record.exit_code is None:
            record = await self._await_start(exec_id)
        handle = self._roster.find(record.container_id)
        shim = handle.shim if handle is not None else None
        if not record.pid:
            raise InvalidArgument("exec process is not started")
        if shim is None:
            raise ContainerNotRunning(record.container_id)
        if not record.running:
            raise NotFound(f"NotFound: process does not exist {exec_id}: not found")
        try:
            await shim.resize(rows, columns, exec_id=exec_id)
        except ShimGone as exc:
            raise NotFound(f"NotFound: process does not exist {exec_id}: not found") from exc

    async def _await_start(self, exec_id: str) -> Exec:
        begun = asyncio.Event()
        self._starting.setdefault(exec_id, []).append(begun)
        try:
            async with asyncio.timeout(_START_PATIENCE_S):
                await begun.wait()
        except TimeoutError as exc:
            raise Internal("timeout waiting for exec session ready") from exc
        return self.get(exec_id)

    async def probe(
        self, handle: ContainerHandle, command: Sequence[str], timeout_s: float
    ) -> tuple[int | None, bytes]:
        """Runs a command to its end, or kills it (no exit code); with its output. Raises EngineError."""
        shim = _check_running(handle, handle.id)
        config = ExecConfig(
            cmd=tuple(command),
            attach_stdout=True,
            attach_stderr=True,
            user=handle.record.config.user,
        )
        exec_id = self._create(handle, config)
        self._keep(replace(self._execs[exec_id], started=True))
        self._publish(handle, f"exec_start: {_command(config)}", exec_id)
        ours, theirs = socket.socketpair()
        with ours:
            ours.settimeout(0)
            attachment = Attachment(fd=theirs.detach(), stdout=True, stderr=True)
            try:
                running = await self._launch(
                    handle, shim, self._execs[exec_id], (attachment,), (0, 0)
                )
            except StartFailed as exc:
                self._finish(handle, exec_id, exc.exit_code)
                raise
            output = bytearray()
            code = None
            try:
                async with asyncio.timeout(timeout_s):
                    await _read_all(ours, output)
                    code = await asyncio.shield(running.exited)
            except TimeoutError:
                running.kill()
        return code, bytes(output)

    def _publish(
        self,
        handle: ContainerHandle,
        action: str,
        exec_id: str,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        publish_container(
            self._events, handle.record, action, {"execID": exec_id, **(attributes or {})}
        )


def build_process(
    settings: EngineSettings,
    container: Container,
    config: ExecConfig,
    console_size: tuple[int, int] = (0, 0),
) -> JsonObject:
    """An OCI process object. Raises InvalidArgument."""
    host = container.host_config
    cwd = config.working_dir or container.config.working_dir or "/"
    if not cwd.startswith("/"):
        raise InvalidArgument("Cwd must be an absolute path")
    if any(entry.startswith("=") or not entry for entry in config.env):
        raise InvalidArgument(
            "unable to start container process: invalid environment variable: name cannot be empty"
        )
    names = list(tweak_capabilities(replace(host, privileged=host.privileged or config.privileged)))
    options = parse_security_options(
        host.security_opt, no_new_privileges=settings.no_new_privileges
    )
    process: dict[str, JsonValue] = {
        "terminal": config.tty,
        "args": list(config.cmd),
        "env": override_env(build_env(container.config, tty=config.tty), config.env),
        "cwd": cwd,
        "user": {
            "uid": 0,
            "gid": 0,
            "username": config.user or container.config.user,
            "additionalGroups": [] if config.user else list(host.group_add),
        },
        "capabilities": {"bounding": names, "effective": names, "permitted": names},
        "noNewPrivileges": options.no_new_privileges,
        "oomScoreAdj": host.oom_score_adj,
    }
    rlimits = build_rlimits(merge_ulimits(host.ulimits, settings.default_ulimits))
    if rlimits:
        process["rlimits"] = rlimits
    rows, columns = console_size if any(console_size) else config.console_size
    if config.tty and rows and columns:
        process["consoleSize"] = {"height": rows, "width": columns}
    return process


def _check_running(handle: ContainerHandle, ref: str) -> ShimHandle:
    record = handle.record
    match record.state.status:
        case Status.PAUSED:
            raise Conflict(f"Container {ref} is paused, unpause the container before exec")
        case Status.RESTARTING:
            raise Conflict(
                f"Container {record.id} is restarting, wait until the container is running"
            )
        case status if status not in state.ALIVE or handle.shim is None:
            raise ContainerNotRunning(record.id)
        case _:
            return handle.shim


def _check_user(shim: ShimHandle, user: str) -> None:
    """Raises InvalidArgument when the container's passwd does not have the user. Blocking."""
    try:
        root = open_root(shim)
    except OSError:
        return  # it has just ended; the start will say so
    try:
        passwd = users.parse_passwd(users.read_file(root, b"/etc/passwd"))
        group = users.parse_group(users.read_file(root, b"/etc/group"))
        users.resolve_user(user, (), passwd, group)
    except StepError as exc:
        raise InvalidArgument(str(exc)) from exc
    finally:
        os.close(root)


def _read_detach_keys(text: str) -> bytes:
    try:
        return parse_detach_keys(text)
    except InvalidDetachKeys as exc:
        raise Internal(f"Invalid escape keys ({text}) provided") from exc


def _attachment(config: ExecConfig, stream: ClientStream, *, tty: bool) -> Attachment:
    return Attachment(
        fd=stream.fd,
        early=stream.early,
        stdin=config.attach_stdin,
        stdout=config.attach_stdout,
        stderr=config.attach_stderr,
        multiplexed=not tty,
        detach_keys=(
            _read_detach_keys(config.detach_keys) if config.tty or config.detach_keys else b""
        ),
    )


def _command(config: ExecConfig) -> str:
    # Docker joins entry point and arguments; without arguments a space stays at the end.
    return f"{config.cmd[0]} {' '.join(config.cmd[1:])}"


def _release_at_end(running: ExecHandle) -> None:
    running.exited.add_done_callback(lambda _: running.release())


async def _tell(fd: int, sentence: str, *, multiplexed: bool) -> None:
    text = f"{sentence}\r\n".encode()
    if multiplexed:
        text = _STDOUT_FRAME + len(text).to_bytes(4, "big") + text
    with socket.socket(fileno=os.dup(fd)) as connection:
        connection.settimeout(0)
        try:
            await asyncio.get_running_loop().sock_sendall(connection, text)
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the client has gone


async def _read_all(connection: socket.socket, output: bytearray) -> None:
    """To the end; what is far beyond a health check's limit is not kept."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(connection, 65536):
        if len(output) <= 4096:
            output += data
