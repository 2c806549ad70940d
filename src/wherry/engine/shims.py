"""The engine's side of spawner and shims: starts, finds again, talks to and buries them, on the event loop.

Knows nothing of containers' records, images or networks: it gets values and descriptors, and answers with
process ids and exit records. One spawner lives beside the engine and is started anew when it dies; shims
live on without either. The messages are those of `wherry.shim.shim`.

Descriptors given to this module are given up: it or the shim closes them, also when a call fails.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from wherry.engine.shimpeer import Peer, ShimGone, ShimLaunchError
from wherry.engine.slots import Hint, SlotClass, Slots
from wherry.engine.spawner import Spawner, SpawnerLost
from wherry.engine.tasks import Tasks
from wherry.lib.jsonvalue import (
    JsonObject,
    get_int,
    get_object,
    get_objects,
    get_str,
)
from wherry.model.image import RootMount
from wherry.model.network import InterfaceValues
from wherry.runtime.cgroups import open_cgroup
from wherry.shim.protocol import (
    Channel,
    Message,
    close_all,
    connect_at,
    open_pair,
)
from wherry.shim.record import (
    SOCKET_NAME,
    ExitRecord,
    ShimState,
    decode_exit,
    read_exit,
    read_state,
    remove_folder,
)
from wherry.shim.slots import slot_class
from wherry.shim.teardown import bury_cgroup

__all__ = [
    "Attachment",
    "ExecHandle",
    "ExecRequest",
    "ExitRecord",
    "LogTarget",
    "ShimGone",
    "ShimHandle",
    "ShimLaunchError",
    "ShimRequest",
    "Shims",
]

logger = logging.getLogger(__name__)

_KILLED_EXIT_CODE = 137
_SPAWNER_PATIENCE_S = 10.0
_HELLO_PATIENCE_S = 60.0
_LAUNCH_TRIES = 6
# A spawner that is being killed still takes orders, which are lost: the pause, doubled each time, is for its end
# to be noticed and another to be there.
_LAUNCH_PAUSE_S = 0.01
_KILL_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A client's stream socket and what it takes part in. `detach_keys` as bytes, empty for none."""

    fd: int
    early: bytes = b""
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    multiplexed: bool = False
    detach_keys: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTarget:
    """A json-file log. `max_size` in bytes, 0 = unbounded; `attributes` go into every record."""

    path: Path
    max_size: int = 0
    max_file: int = 1
    compress: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShimRequest:
    """All that a shim needs to start a container.

    `oci` is an OCI config.json as plain data; its `process.terminal` decides about the pty. `stdin` is "none" (/dev/null), "open" (stays open whatever
    clients do) or "once" (closed with the first client's). `waiters` are spare connections of clients in
    `POST …/wait` whose headers are written: the shim answers them if the engine is gone at the exit.
    """

    container_id: str
    generation: int
    oci: JsonObject
    root: RootMount | Path
    cgroup_path: str
    cgroup_systemd: bool = False
    stdin: Literal["none", "open", "once"] = "none"
    log: LogTarget | None = None
    interfaces: Sequence[InterfaceValues] = ()
    with_resolver: bool = False
    attachments: Sequence[Attachment] = ()
    waiters: Sequence[int] = ()
    network: str = ""  # as it was given to `Shims.reserve_id`
    is_brief: bool = False  # nobody keeps it for long: its start may cost its shim memory
    is_followed: bool = False  # by another start of its kind, as soon as it has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """`process` is an OCI process object; its `terminal` decides about the pty."""

    exec_id: str
    process: JsonObject
    stdin: bool = False
    attachments: Sequence[Attachment] = ()


class ExecHandle:
    """A running exec. `exited` gives its exit code; after recording it call `release`.

    The shim keeps the exec's client streams open until `release` (pitfall 14: a client that sees the end
    of the stream asks for the exit code at once).
    """

    def __init__(self, exec_id: str, pid: int, peer: Peer, forget: Callable[[str], None]) -> None:
        self.exec_id = exec_id
        self.pid = pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._peer = peer
        self._forget = forget

    def kill(self) -> None:
        """SIGKILL, by the shim, which alone knows for certain who that is. Does nothing after its end."""
        self._peer.send({"op": "kill_exec", "exec_id": self.exec_id})

    def release(self) -> None:
        """The exit is recorded: the shim closes the clients' streams. Idempotent."""
        self._forget(self.exec_id)
        self._peer.send({"op": "release_exec", "exec_id": self.exec_id})


class ShimHandle:
    """A live container. `pidfd` is of its init process; both belong to the handle until `release`.

    `exited` gives the exit record; the engine records it, frees names, ports and addresses, and calls
    `release`. `resolver` are the sockets of its resolver (`runtime.resolver`), for who
    serves them to take. `execs` holds those that were not released yet, also after `Shims.adopt`. `on_detach` is called with the exec's
    id, or None for the container itself, when a client has typed its detach keys.
    """

    def __init__(
        self,
        *,
        container_id: str,
        generation: int,
        folder: Path,
        peer: Peer,
        pid: int,
        pidfd: int,
        cgroup_path: str,
        cgroup_systemd: bool,
        execs: Mapping[str, int] | None = None,
        exec_codes: Mapping[str, int] | None = None,
        resolver: Sequence[int] = (),
    ) -> None:
        """`execs` are the process ids of those that the shim has already, `exec_codes` how others ended."""
        self.container_id = container_id
        self.generation = generation
        self.pid = pid
        self.pidfd = pidfd
        self.exited: asyncio.Future[ExitRecord] = asyncio.get_running_loop().create_future()
        self.execs: dict[str, ExecHandle] = {
            exec_id: ExecHandle(exec_id, exec_pid, peer, self._forget_exec)
            for exec_id, exec_pid in (execs or {}).items()
        }
        for exec_id, code in (exec_codes or {}).items():
            self.execs[exec_id] = ExecHandle(exec_id, 0, peer, self._forget_exec)
            self.execs[exec_id].exited.set_result(code)
        self.resolver: Sequence[int] = resolver
        self.on_detach: Callable[[str | None], None] | None = None
        self._folder = folder
        self._peer = peer
        self._cgroup_path = cgroup_path
        self._cgroup_systemd = cgroup_systemd
        self._burial: asyncio.Task[None] | None = None
        self._released = False
        peer.subscribe(self._take_event, self._lose)

    async def attach(self, attachment: Attachment, *, exec_id: str | None = None) -> None:
        """Hands a client over. Raises ShimGone."""
        await self._peer.request(
            {"op": "attach", "exec_id": exec_id, "attachment": _encode_attachment(attachment, 0)},
            [attachment.fd],
        )

    async def exec(self, request: ExecRequest) -> ExecHandle:
        """Returns when the program runs. Raises ShimLaunchError, ShimGone."""
        exec_id = request.exec_id
        handle = ExecHandle(exec_id, 0, self._peer, self._forget_exec)
        self.execs[exec_id] = handle
        try:
            reply = await self._peer.request(
                {
                    "op": "exec",
                    "exec_id": exec_id,
                    "process": request.process,
                    "stdin": request.stdin,
                    "attachments": _encode_attachments(request.attachments),
                },
                [attachment.fd for attachment in request.attachments],
            )
        except BaseException:
            self.execs.pop(exec_id, None)
            raise
        handle.pid = get_int(reply.body, "pid")
        return handle

    async def resize(self, rows: int, columns: int, *, exec_id: str | None = None) -> None:
        """Sets the window size. Does nothing without a terminal. Raises ShimGone."""
        await self._peer.request(
            {"op": "resize", "exec_id": exec_id, "rows": rows, "columns": columns}
        )

    async def close_stdin(self, *, exec_id: str | None = None) -> None:
        """Closes the program's stdin after what clients have sent. Raises ShimGone."""
        await self._peer.request({"op": "close_stdin", "exec_id": exec_id})

    async def open_root(self) -> int:
        """An O_PATH descriptor of the live root mount, the caller's to close. Raises ShimGone.

        While it is open the upper directory stays in use: close it before `release` is awaited.
        """
        reply = await self._peer.request({"op": "open_root"})
        return reply.fds.pop(0)

    async def open_resolver(self) -> Sequence[int]:
        """The sockets of the container's resolver, made if it has none. Raises ShimGone, ShimLaunchError."""
        reply = await self._peer.request({"op": "open_resolver"})
        return reply.fds

    async def add_waiter(self, fd: int) -> None:
        """Gives the shim a spare of a `POST …/wait` connection. Raises ShimGone."""
        await self._peer.request({"op": "add_waiter"}, [fd])

    def send_signal(self, number: int) -> None:
        """Signals the container's init. Raises ProcessLookupError when it has ended."""
        signal.pidfd_send_signal(self.pidfd, number)

    async def release(self) -> None:
        """After the engine has recorded the exit: clients' streams end, everything is torn down.

        Returns when mounts, cgroups and RUN files of this start are gone. Idempotent.
        """
        if self._burial is not None:
            await asyncio.shield(self._burial)
        if not self._released:
            self._released = True
            try:
                await self._peer.request({"op": "release"})
            except ShimGone:
                await asyncio.to_thread(
                    _bury_container,
                    self._folder,
                    self._cgroup_path,
                    systemd=self._cgroup_systemd,
                    pidfd=self.pidfd,
                )
            self._peer.close()
            os.close(self.pidfd)
            self.pidfd = -1
            self._end_execs()
        await asyncio.to_thread(_remove_folder, self._folder)

    def _take_event(self, message: Message) -> None:
        body = message.body
        message.close()
        event = get_str(body, "event")
        if event == "exited":
            if not self.exited.done():
                self.exited.set_result(decode_exit(get_object(body, "record")))
        elif event == "exec_exited":
            handle = self.execs.get(get_str(body, "exec_id"))
            if handle is not None and not handle.exited.done():
                handle.exited.set_result(get_int(body, "exit_code"))
        elif event == "detached" and self.on_detach is not None:
            exec_id = body.get("exec_id")
            self.on_detach(exec_id if isinstance(exec_id, str) else None)

    def _lose(self) -> None:
        if not self._released and not self.exited.done():
            self._burial = asyncio.get_running_loop().create_task(self._bury())

    async def _bury(self) -> None:
        record = await asyncio.to_thread(
            _bury_container,
            self._folder,
            self._cgroup_path,
            systemd=self._cgroup_systemd,
            pidfd=self.pidfd,
        )
        self._end_execs()
        if not self.exited.done():
            self.exited.set_result(record)

    def _forget_exec(self, exec_id: str) -> None:
        self.execs.pop(exec_id, None)

    def _end_execs(self) -> None:
        """No exec outlives its container; of these nobody has told the exit code."""
        for handle in self.execs.values():
            if not handle.exited.done():
                handle.exited.set_result(_KILLED_EXIT_CODE)
        self.execs.clear()


class Shims:
    """Starts and finds shims through one spawner. `run_dir` is the engine's RUN."""

    def __init__(self, *, run_dir: Path, slots: int = 0) -> None:
        """`slots` containers are prepared ahead for each class in use (`wherry.engine.slots`)."""
        self._run_dir = run_dir
        self._slots = Slots(slots, run_dir, self._fork_shim)
        self._spawner: Spawner | None = None
        self._spawner_ready = asyncio.Event()
        self._restart: asyncio.Task[None] | None = None
        self._tasks = Tasks("shims")
        self._closing = False

    @property
    def spawner_pid(self) -> int:
        """The live spawner's process id, 0 while there is none."""
        return self._spawner.pid if self._spawner is not None else 0

    @property
    def slots_ready(self) -> int:
        """How many starts could use a slot right now."""
        return self._slots.ready

    async def start(self) -> None:
        """Starts the spawner; returns when it can fork. Raises OSError, TimeoutError."""
        self._run_dir.joinpath("containers").mkdir(parents=True, exist_ok=True)
        await self._start_spawner()
        await asyncio.to_thread(self._slots.sweep)

    async def close(self) -> None:
        """Ends the spawner; shims and their containers go on. Idempotent."""
        self._closing = True
        await self._tasks.close()
        await self._slots.close()
        if self._restart is not None:
            self._restart.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._restart
            self._restart = None
        spawner, self._spawner = self._spawner, None
        if spawner is not None:
            await spawner.close()

    def reserve_id(self, cgroup_parent: str, network: str) -> str | None:
        """An id for a new container that is ready to be started as such; None = any id is as good."""
        return self._slots.reserve(Hint(cgroup_parent, network))

    def is_prepared(self, container_id: str) -> bool:
        """Whether a start of this container would find its control groups entered already."""
        return self._slots.is_reserved(container_id)

    async def launch(self, request: ShimRequest) -> ShimHandle:
        """Starts a container; returns when its program has been executed.

        Raises ShimLaunchError, after which nothing is left of the attempt. A cancelled launch is undone
        before CancelledError is raised: what the caller frees then nobody uses any more.
        """
        task = asyncio.get_running_loop().create_task(self._launch(request))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await self._tasks.finish(_undo_launch(task), f"undo launch of {request.container_id}")
            raise

    async def adopt(self, container_id: str, generation: int) -> ShimHandle | ExitRecord | None:
        """Finds a container that an earlier engine started.

        A live shim gives its handle; an ended one its exit record, also when the shim was killed: then
        the container's processes are killed and its cgroups removed first. None: it never started, and
        will not. After recording an exit call `forget`.
        """
        folder = self._folder(container_id, generation)
        try:
            folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return await self._adopt(container_id, generation, folder, folder_fd)
        finally:
            os.close(folder_fd)

    async def forget(self, container_id: str, generation: int) -> None:
        """Removes what an ended start left in RUN. Idempotent."""
        await asyncio.to_thread(_remove_folder, self._folder(container_id, generation))

    def _folder(self, container_id: str, generation: int) -> Path:
        return self._run_dir / "containers" / container_id / str(generation)

    async def _adopt(
        self, container_id: str, generation: int, folder: Path, folder_fd: int
    ) -> ShimHandle | ExitRecord | None:
        state = read_state(folder_fd)
        try:
            connection = connect_at(folder_fd, SOCKET_NAME)
        except FileNotFoundError:
            record = read_exit(folder_fd)
            if record is None:
                # A shim that has not bound its socket yet finds its engine gone before it starts.
                _remove_folder(folder)
            return record
        except ConnectionRefusedError:
            return await asyncio.to_thread(_bury_adopted, folder, state)
        peer = Peer(Channel(connection))
        try:
            async with asyncio.timeout(_HELLO_PATIENCE_S):
                reply = await peer.request({"op": "hello"})
        except (ShimGone, ShimLaunchError, TimeoutError):
            peer.close()
            return await asyncio.to_thread(_bury_adopted, folder, read_state(folder_fd))
        return ShimHandle(
            container_id=container_id,
            generation=generation,
            folder=folder,
            peer=peer,
            pid=get_int(reply.body, "pid"),
            pidfd=reply.fds.pop(0),
            resolver=reply.fds,
            cgroup_path=get_str(reply.body, "cgroup"),
            cgroup_systemd=bool(reply.body.get("systemd")),
            execs={
                get_str(entry, "exec_id"): get_int(entry, "pid")
                for entry in get_objects(reply.body, "execs")
            },
            exec_codes={
                get_str(entry, "exec_id"): get_int(entry, "exit_code")
                for entry in get_objects(reply.body, "ended_execs")
            },
        )

    async def _launch(self, request: ShimRequest) -> ShimHandle:
        folder = self._folder(request.container_id, request.generation)
        fds = [attachment.fd for attachment in request.attachments] + list(request.waiters)
        self._slots.begin_start()
        try:
            return await self._launch_in(folder, request, fds)
        except ShimLaunchError:
            await asyncio.to_thread(_remove_folder, folder)
            raise
        finally:
            self._slots.end_start()
            close_all(fds)

    async def _launch_in(self, folder: Path, request: ShimRequest, fds: list[int]) -> ShimHandle:
        """In a slot if there is one, else in a new shim; again when that died before it had begun."""
        _make_folder(folder.parent)
        peer = await self._slots.take(
            request.container_id, self._learn_class(request), is_followed=request.is_followed
        )
        for attempt in range(_LAUNCH_TRIES):
            try:
                if peer is None:
                    # A slot brings its own.
                    _make_folder(folder)
                    peer = await self._fork(is_brief=request.is_brief)
                return await self._launch_once(request, folder, fds, peer)
            except SpawnerLost:
                logger.warning("spawner or slot ended during a start, trying again")
                peer = None
                self._slots.forget(request.container_id)
                await asyncio.sleep(_LAUNCH_PAUSE_S * 2**attempt)
        raise ShimLaunchError("spawner", "", 0, "spawner ends again and again")

    def _learn_class(self, request: ShimRequest) -> str:
        """The key of the slots that may serve the container, "" for none."""
        if not self._slots.count or request.cgroup_systemd or request.with_resolver:
            return ""
        document = slot_class(request.oci, _encode_interfaces(request))
        parent, _, name = request.cgroup_path.rpartition("/")
        if document is None or name != request.container_id:
            return ""
        found = SlotClass(parent, document)
        self._slots.learn(Hint(parent, request.network), found)
        return found.key

    async def _fork(self, *, is_brief: bool) -> Peer:
        await self._wait_for_spawner()
        ours, theirs = open_pair()
        peer = Peer(Channel(ours))
        try:
            self._fork_shim(theirs.detach(), is_brief=is_brief)
        except SpawnerLost:
            peer.close()
            raise
        return peer

    def _fork_shim(self, control_fd: int, *, is_brief: bool) -> None:
        if self._spawner is None:
            os.close(control_fd)
            raise SpawnerLost
        self._spawner.fork_shim(control_fd, is_brief=is_brief)

    async def _launch_once(
        self, request: ShimRequest, folder: Path, fds: list[int], peer: Peer
    ) -> ShimHandle:
        try:
            reply = await peer.request(_encode_launch(request, folder), [os.dup(fd) for fd in fds])
        except ShimGone as gone:
            peer.close()
            if not folder.joinpath(SOCKET_NAME).exists():
                raise SpawnerLost from gone
            await asyncio.to_thread(
                _bury_container,
                folder,
                request.cgroup_path,
                systemd=request.cgroup_systemd,
                pidfd=-1,
            )
            raise ShimLaunchError("shim", "", 0, "shim ended during the start") from gone
        except BaseException:
            peer.close()
            raise
        return ShimHandle(
            container_id=request.container_id,
            generation=request.generation,
            folder=folder,
            peer=peer,
            pid=get_int(reply.body, "pid"),
            pidfd=reply.fds.pop(0),
            resolver=reply.fds,
            cgroup_path=request.cgroup_path,
            cgroup_systemd=request.cgroup_systemd,
        )

    async def _wait_for_spawner(self) -> None:
        if self._spawner is not None:
            return
        try:
            async with asyncio.timeout(_SPAWNER_PATIENCE_S):
                await self._spawner_ready.wait()
        except TimeoutError as error:
            raise ShimLaunchError("spawner", "", 0, "spawner does not start") from error

    async def _start_spawner(self) -> None:
        spawner = Spawner(self._run_dir, self._lose_spawner)
        try:
            async with asyncio.timeout(_SPAWNER_PATIENCE_S):
                await spawner.ready()
        except BaseException:
            await spawner.close()
            raise
        self._spawner = spawner
        self._spawner_ready.set()

    def _lose_spawner(self) -> None:
        self._spawner = None
        self._spawner_ready.clear()
        if self._closing or self._restart is not None:
            return
        logger.warning("spawner ended, starting another")
        self._restart = asyncio.get_running_loop().create_task(self._restart_spawner())

    async def _restart_spawner(self) -> None:
        delay_s = 0.0
        while not self._closing:
            await asyncio.sleep(delay_s)
            try:
                await self._start_spawner()
            except (OSError, SpawnerLost) as error:
                logger.error("start spawner: %s", error)
                delay_s = min(5.0, delay_s * 2 + 0.1)
                continue
            break
        self._restart = None


def _encode_attachment(attachment: Attachment, fd_index: int) -> dict[str, object]:
    return {
        "fd": fd_index,
        "early": base64.b64encode(attachment.early).decode(),
        "stdin": attachment.stdin,
        "stdout": attachment.stdout,
        "stderr": attachment.stderr,
        "multiplexed": attachment.multiplexed,
        "detach_keys": attachment.detach_keys.hex(),
    }


def _encode_attachments(attachments: Sequence[Attachment]) -> list[dict[str, object]]:
    return [_encode_attachment(attachment, index) for index, attachment in enumerate(attachments)]


def _encode_interfaces(request: ShimRequest) -> list[JsonObject]:
    return [asdict(interface) for interface in request.interfaces]


def _encode_launch(request: ShimRequest, folder: Path) -> dict[str, object]:
    root = request.root
    log = request.log
    return {
        "op": "launch",
        "container_id": request.container_id,
        "folder": str(folder),
        "oci": request.oci,
        "root": {"path": str(root)} if isinstance(root, Path) else asdict(root),
        "cgroup": request.cgroup_path,
        "systemd": request.cgroup_systemd,
        "stdin": request.stdin,
        "log": None
        if log is None
        else {
            "path": str(log.path),
            "max_size": log.max_size,
            "max_file": log.max_file,
            "compress": log.compress,
            "attributes": dict(log.attributes),
        },
        "interfaces": _encode_interfaces(request),
        "with_resolver": request.with_resolver,
        "attachments": _encode_attachments(request.attachments),
        "waiters": len(request.waiters),
    }


async def _undo_launch(launching: asyncio.Task[ShimHandle]) -> None:
    await asyncio.wait({launching})
    if launching.cancelled() or launching.exception() is not None:
        return
    handle = launching.result()
    with contextlib.suppress(ProcessLookupError):
        handle.send_signal(signal.SIGKILL)
    await handle.exited
    await handle.release()


def _bury_container(folder: Path, cgroup_path: str, *, systemd: bool, pidfd: int) -> ExitRecord:
    """Kills and frees what a dead shim leaves. Blocking."""
    record = _read_exit_at(folder)
    try:
        bury_cgroup(open_cgroup(cgroup_path, systemd=systemd), pidfd=pidfd)
    except OSError as error:
        logger.warning("free the cgroups %s of a dead shim: %s", cgroup_path, error)
    if record is not None:
        return record
    return ExitRecord(
        exit_code=_KILLED_EXIT_CODE,
        finished_at_ns=time.time_ns(),
        error="shim ended unexpectedly, the container was killed",
    )


def _bury_adopted(folder: Path, state: ShimState | None) -> ExitRecord | None:
    """As `_bury_container`, for a shim that died while no engine ran. Blocking."""
    if state is None:
        record = _read_exit_at(folder)
        if record is None:
            _remove_folder(folder)
        return record
    return _bury_container(folder, state.cgroup, systemd=state.systemd, pidfd=-1)


def _make_folder(folder: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)


def _read_exit_at(folder: Path) -> ExitRecord | None:
    try:
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return read_exit(folder_fd)
    finally:
        os.close(folder_fd)


def _remove_folder(folder: Path) -> None:
    if remove_folder(str(folder)):
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
