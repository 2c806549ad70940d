"""Starting programs for a shim, mostly in a helper process of its own that ends with the start.

What a start touches (the spec, the plan, its steps: some 3 MB of Python) would stay private memory of the shim
for the container's life. So a child of the shim does it and makes the program a child of the shim
(CLONE_PARENT), hands its descriptors over, and ends. The shim never waits for a kernel that is slow in a
container's or a network's file system either. A shim whose container is brief does without: what a helper costs
(a fork, and the pages that it writes) is a tenth of the start.

The work tells the shim one thing: `pid`, `fds` (names of `ProgramFds`) and the descriptors, or `error`.
That of a container's start reads the engine's order and answers it itself. An order to "stage" makes
it a slot (`wherry.shim.slots`): it tells shim and engine, and waits for the order to launch.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable

from wherry.kernel import syscalls
from wherry.kernel.consts import PR
from wherry.lib.jsonvalue import (
    JsonObject,
    JsonValue,
    get_bool,
    get_int,
    get_list,
    get_object,
    get_objects,
    get_str,
    get_strings,
)
from wherry.runtime.cgroups import open_cgroup
from wherry.runtime.errors import LaunchError
from wherry.runtime.interface import decode_interface
from wherry.runtime.launch import Launched, execute, launch
from wherry.runtime.root import DirectoryRoot, OverlayRoot, Root
from wherry.runtime.spec import parse_process, parse_spec
from wherry.runtime.staging import Stage, StageLost, launch_staged, stage
from wherry.shim.program import ProgramFds
from wherry.shim.protocol import Channel, Message, close_all, listen_at, open_pair, receive_blocking
from wherry.shim.record import FILE_NAMES, SOCKET_NAME, STATE_NAME, ShimState, write_record

Stdio = tuple[int, int, int]
Tell = Callable[[JsonObject, list[int]], None]

_KEPT_KEYS = ("container_id", "folder", "cgroup", "systemd", "stdin", "log", "attachments")


class InPlace:
    """Work that the shim does itself."""

    __slots__ = ("_told",)

    def __init__(self, work: Callable[[Tell], None]) -> None:
        """Returns when it is done."""
        self._told: list[Message] = []
        work(lambda body, fds: self._told.append(Message(body, fds)))

    def wait(self) -> Message | None:
        """The next thing that it told, or None."""
        return self._told.pop(0) if self._told else None

    def wait_for_end(self) -> None:
        """It has ended."""

    def reap(self) -> None:
        """There is no process."""


class Helper:
    """A helper at work, as the shim sees it: its process and where its message will come from."""

    __slots__ = ("_connection", "pid")

    def __init__(self, work: Callable[[Tell], None]) -> None:
        """Forks; `work` runs in the child."""
        ours, theirs = open_pair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                syscalls.prctl(PR.SET_PDEATHSIG, signal.SIGKILL)
                channel = Channel(theirs, is_private=True)
                work(lambda body, fds: channel.send({**body}, fds))
            except BaseException:  # noqa: BLE001 # the helper's edge: its parent sees it end
                sys.stderr.write(traceback.format_exc())
                sys.stderr.flush()
            finally:
                os._exit(0)
        theirs.close()
        self._connection = ours

    def wait(self) -> Message | None:
        """Its message, or None when it ended without one. Blocking."""
        return receive_blocking(self._connection)

    def open_channel(self) -> Channel:
        """For who has something else to do than `wait`; the caller closes it."""
        return Channel(self._connection, is_private=True)

    def wait_for_end(self) -> None:
        """Blocking; reaps it."""
        os.waitpid(self.pid, 0)

    def reap(self) -> None:
        """If it has ended. Idempotent."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)


def start_container(engine_fd: int, tell: Tell, *, for_parent: bool) -> None:
    """Obeys the engine's first order to launch, and one to stage before that.

    `for_parent`: this is a helper, and the container's process becomes a child of the shim.
    """
    engine = Channel(socket.socket(fileno=os.dup(engine_fd)))
    order = await_message(engine)
    waiting = traces = None
    if order is not None and get_str(order.body, "op") == "stage":
        path = get_str(order.body, "cgroup")
        try:
            traces = _Traces(get_str(order.body, "folder"), ShimState(cgroup=path, systemd=False))
            waiting = stage(order.body, open_cgroup(path), for_parent=for_parent)
        except (OSError, LaunchError) as error:
            engine.send({"event": "refused", "why": str(error)})
            return
        tell({"staged": path}, [])
        engine.send({"event": "ready"})
        order = await_message(engine, beside=waiting.orders.fileno())
    if order is None:
        return
    body = order.body
    number = get_int(body, "re")
    try:
        if get_str(body, "op") != "launch":
            raise LaunchError("shim", "", 0, "the first order is not a launch")
        start = _ContainerStart(body, waiting, traces, for_parent=for_parent)
        if engine.is_peer_gone():
            # From here on an engine that dies has a successor that finds the socket; this one may have none.
            raise LaunchError("shim", "", 0, "the engine is gone")
        program = start.run()
    except Exception as error:  # noqa: BLE001 # whatever it was, the engine must be told
        _discard_files(get_str(body, "folder"))
        engine.send({"re": number, "error": encode_error(error)})
        return
    names, fds = start.fds.pack()
    shared = [os.dup(program.pidfd), *start.fds.resolver()]
    # Before the shim knows: what that says of the container's end must not overtake this.
    engine.send({"re": number, "pid": program.pid}, shared)
    tell(
        {
            "pid": program.pid,
            "fds": names,
            "shares_pids": start.shares_pids,
            "namespaces": program.namespaces,
            "seccomp": _encode_filter(program),
            **{key: body.get(key) for key in _KEPT_KEYS},
        },
        [start.traces.folder_fd, start.traces.listener.detach(), *fds, *order.fds],
    )


def start_exec(
    body: JsonObject, target: Launched, cgroup_path: str, *, systemd: bool, tell: Tell
) -> None:
    """Starts a program in the running container `target`."""
    try:
        process = parse_process(body.get("process"))
        cgroup = open_cgroup(cgroup_path, systemd=systemd)
        fds, program = _start(
            terminal=process.terminal,
            stdin=get_bool(body, "stdin"),
            start=lambda stdio: execute(
                target, process, cgroup=cgroup, stdio=stdio, for_parent=True
            ),
        )
    except Exception as error:  # noqa: BLE001 # whatever it was, the engine must be told
        tell({"error": encode_error(error)}, [])
        return
    names, values = fds.pack()
    tell({"pid": program.pid, "fds": names}, values)


def encode_error(error: Exception) -> JsonObject:
    """What failed, as the engine's `ShimLaunchError` rebuilds it."""
    if isinstance(error, LaunchError):
        step, name, number, detail = error.step, error.object, error.errno, error.message
    elif isinstance(error, OSError):
        step, name, number = "shim", str(error.filename or ""), error.errno or 0
        detail = str(error.strerror or error)
    else:
        step, name, number = "shim", "", 0
        detail = f"{type(error).__name__}: {error}"
    return {"step": step, "object": name, "errno": number, "detail": detail}


def _encode_filter(program: Launched) -> list[JsonValue] | None:
    """The seccomp filter, which execs get as well."""
    if program.seccomp is None:
        return None
    code, flags = program.seccomp
    return [code.hex(), flags]


class _Traces:
    """By what another engine finds the container: a folder with the shim's state and socket."""

    def __init__(self, folder: str, state: ShimState) -> None:
        self._folder = folder
        self.folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        write_record(self.folder_fd, STATE_NAME, state)
        self.listener = listen_at(self.folder_fd, SOCKET_NAME)

    def move(self, folder: str) -> None:
        os.rename(self._folder, folder)


class _ContainerStart:
    """One container's start, in the order in which another engine could find its traces."""

    def __init__(
        self, body: JsonObject, waiting: Stage | None, traces: _Traces | None, *, for_parent: bool
    ) -> None:
        self._body = body
        self._for_parent = for_parent
        self._waiting = waiting
        folder = get_str(body, "folder")
        state = ShimState(cgroup=get_str(body, "cgroup"), systemd=get_bool(body, "systemd"))
        if traces is None:
            traces = _Traces(folder, state)
        else:
            traces.move(folder)
        self.traces = traces
        self._state = state
        oci = get_object(body, "oci")
        kinds = {
            get_str(item, "type") for item in get_objects(get_object(oci, "linux"), "namespaces")
        }
        self.shares_pids = "pid" not in kinds
        self._terminal = get_bool(get_object(oci, "process"), "terminal")
        self.fds = ProgramFds()

    def run(self) -> Launched:
        self.fds, program = _start(
            terminal=self._terminal,
            stdin=get_str(self._body, "stdin") in ("open", "once"),
            start=self._launch,
        )
        return program

    def _launch(self, stdio: Stdio | None) -> Launched:
        body = self._body
        root = _decode_root(get_object(body, "root"))
        if self._waiting is not None:
            with contextlib.suppress(StageLost):
                return launch_staged(
                    self._waiting, body.get("oci"), body.get("interfaces"), root=root, stdio=stdio
                )
        return launch(
            parse_spec(body.get("oci")),
            root=root,
            stdio=stdio,
            cgroup=open_cgroup(self._state.cgroup, systemd=self._state.systemd),
            interfaces=tuple(decode_interface(item) for item in get_objects(body, "interfaces")),
            with_resolver=get_bool(body, "with_resolver"),
            for_parent=self._for_parent,
        )


def _discard_files(folder: str) -> None:
    """After a failed start: an engine that finds these would bury a container that never was."""
    for name in FILE_NAMES:
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}/{name}")


def _start(
    *, terminal: bool, stdin: bool, start: Callable[[Stdio | None], Launched]
) -> tuple[ProgramFds, Launched]:
    """Calls `start` with the program's ends of new pipes, or with None for a pty. Raises what it raises."""
    fds = ProgramFds()
    if terminal:
        program = start(None)
        # epoll knows a descriptor once: reading and writing each have their own.
        fds.stdin, fds.stdout = os.dup(program.console), os.dup(program.console)
    else:
        if stdin:
            stdin_fd, fds.stdin = os.pipe2(os.O_CLOEXEC)
        else:
            stdin_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        fds.stdout, stdout_fd = os.pipe2(os.O_CLOEXEC)
        fds.stderr, stderr_fd = os.pipe2(os.O_CLOEXEC)
        program = start((stdin_fd, stdout_fd, stderr_fd))
        close_all([stdin_fd, stdout_fd, stderr_fd])
    fds.pidfd = program.pidfd
    fds.console = program.console
    fds.root = program.root
    fds.devpts = program.devpts
    if program.resolver is not None:
        fds.resolver_udp, fds.resolver_streams = program.resolver
    return fds, program


def await_message(channel: Channel, *, beside: int = -1) -> Message | None:
    """The next message, or None when the peer is gone before it sent one, or the descriptor `beside` ends. Blocking."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    if beside >= 0:
        poll.register(beside, 0)
    while not channel.closed:
        message = channel.receive()
        if message is not None:
            return message
        if not channel.closed and any(fd == beside for fd, _ in poll.poll()):
            break
    return None


def decode_target(started: JsonObject, fds: ProgramFds) -> Launched:
    """A running container as `execute` wants it, from what its own helper said of it."""
    seccomp = get_list(started, "seccomp")
    code, flags = seccomp or ("", 0)
    return Launched(
        get_int(started, "pid"),
        fds.pidfd,
        devpts=fds.devpts,
        namespaces=get_int(started, "namespaces"),
        seccomp=(bytes.fromhex(str(code)), int(str(flags))) if seccomp else None,
    )


def _decode_root(root: JsonObject) -> Root:
    path = get_str(root, "path")
    if path:
        return DirectoryRoot(path)
    return OverlayRoot(
        get_strings(root, "lowers"),
        get_str(root, "upper"),
        get_str(root, "work"),
        volatile=get_bool(root, "volatile"),
    )
