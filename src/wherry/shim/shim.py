"""The shim: parent of one container's processes, from before its start until its end is recorded.

Outlives engine and spawner. It starts the container, pumps its streams, writes its log, reaps it and its
execs, and leaves the exit record. Order at the end (pitfalls 13, 14): outputs are drained, the record is
written, the engine is told and says `release`, or is found gone; only then clients' streams end, and mounts
and cgroups are freed.

Messages from the engine carry `op` (see `_operations`) and a number `re`, which the answer repeats; what the
shim says by itself carries `event`: "exited", "exec_exited", "detached".
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from wherry.kernel import syscalls
from wherry.kernel.consts import PR
from wherry.lib.jsonvalue import (
    JsonObject,
    get_bool,
    get_int,
    get_object,
    get_objects,
    get_str,
    get_strings,
)
from wherry.logs.codec import STDERR, STDOUT
from wherry.runtime.cgroups import Cgroup, open_cgroup
from wherry.runtime.errors import LaunchError
from wherry.runtime.interface import Interface
from wherry.runtime.launch import execute, launch
from wherry.runtime.root import DirectoryRoot, OverlayRoot, Root
from wherry.runtime.spec import parse_process, parse_spec
from wherry.shim.log import open_log
from wherry.shim.loop import READ, WRITE, Loop
from wherry.shim.program import Program, start_program
from wherry.shim.protocol import Channel, Message, ProtocolError, close_all, listen_at
from wherry.shim.record import (
    EXIT_NAME,
    SOCKET_NAME,
    STATE_NAME,
    ExitRecord,
    ShimState,
    write_record,
)
from wherry.shim.streams import Client, Session, Sink, close_connection
from wherry.shim.teardown import bury_cgroup


def run_shim(control_fd: int) -> NoReturn:
    """The life of a shim, in the process that was forked for it. `control_fd` leads to the engine."""
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        syscalls.prctl(PR.SET_CHILD_SUBREAPER, 1)
        channel = Channel(socket.socket(fileno=control_fd))
        message = _await_launch(channel)
        if message is not None:
            Shim(channel).run(message)
        status = 0
    except BaseException:  # noqa: BLE001 # the shim's edge: a traceback is all that can be left
        sys.stderr.write(traceback.format_exc())
        sys.stderr.flush()
    finally:
        os._exit(status)


def _await_launch(channel: Channel) -> Message | None:
    """The first order, or None when the engine is gone before it gave one."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    while not channel.closed:
        message = channel.receive()
        if message is not None:
            return message
        if not channel.closed:
            poll.poll()
    return None


class _Gone(Exception):
    """The exec that was named has ended, or the container has."""


class Shim:
    """One container. `run` returns when nothing is left to do."""

    def __init__(self, engine: Channel) -> None:
        self._loop = Loop(self._report)
        self._engine: Channel | None = engine
        self._container_id = ""
        self._folder_fd = -1
        self._listener: socket.socket | None = None
        self._state = ShimState(cgroup="", systemd=False)
        self._cgroup: Cgroup | None = None
        self._shares_pids = False
        self._init: Program | None = None
        self._programs: dict[int, Program] = {}
        self._execs: dict[str, Program] = {}
        self._ended_execs: dict[str, Program] = {}
        self._helpers: dict[int, Callable[[], None]] = {}
        self._waiters: list[int] = []
        self._record: ExitRecord | None = None
        self._sessions = 0
        self._is_freed = False
        self._operations: dict[str, Callable[[Message], _Answer | None]] = {
            "hello": self._hello,
            "attach": self._attach,
            "exec": self._exec,
            "resize": self._resize,
            "close_stdin": self._close_stdin,
            "add_waiter": self._add_waiter,
            "open_root": self._open_root,
            "release_exec": self._release_exec,
            "release": self._release,
        }

    def run(self, first: Message) -> None:
        """Obeys the first order, which must be a launch, and serves until the end."""
        wake_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, _ignore_signal)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        self._loop.watch(wake_fd, READ, lambda _: self._reap(wake_fd))
        if not self._launch(first):
            return
        engine = self._engine
        if engine is not None:
            self._loop.watch(engine.fileno(), READ, lambda _: self._serve(engine))
        listener = self._listener
        if listener is not None:
            self._loop.watch(listener.fileno(), READ, lambda _: self._accept(listener))
        self._loop.run()

    # The start.

    def _launch(self, message: Message) -> bool:
        body = message.body
        number = get_int(body, "re")
        try:
            program = self._start_container(body)
        except Exception as error:  # noqa: BLE001 # whatever it was, the engine must be told
            self._say({"re": number, "error": _encode_error(error)})
            message.close()
            return False
        self._init = program
        self._programs[program.launched.pid] = program
        self._say({"re": number, "pid": program.launched.pid}, [os.dup(program.launched.pidfd)])
        fds, message.fds = message.fds, []
        clients = get_objects(body, "attachments")
        self._waiters = fds[len(clients) :]
        target = get_object(body, "log")
        sinks = open_log(target, warn=self._warn, on_child=self._adopt) if target else {}
        self._connect(program, body, clients, fds, sinks)
        return True

    def _start_container(self, body: JsonObject) -> Program:
        self._container_id = get_str(body, "container_id")
        folder_flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._folder_fd = os.open(get_str(body, "folder"), folder_flags)
        self._state = ShimState(cgroup=get_str(body, "cgroup"), systemd=get_bool(body, "systemd"))
        write_record(self._folder_fd, STATE_NAME, self._state)
        # An engine that found no socket has removed the folder: then this fails, as it must.
        self._listener = listen_at(self._folder_fd, SOCKET_NAME)
        spec = parse_spec(body.get("oci"))
        cgroup = open_cgroup(self._state.cgroup, systemd=self._state.systemd)
        self._cgroup = cgroup
        self._shares_pids = not spec.is_new("pid")
        root = _decode_root(get_object(body, "root"))
        interfaces = tuple(_decode_interface(item) for item in get_objects(body, "interfaces"))
        return start_program(
            None,
            terminal=spec.process.terminal,
            stdin=get_str(body, "stdin") in ("open", "once"),
            start=lambda stdio: launch(
                spec, root=root, stdio=stdio, cgroup=cgroup, interfaces=interfaces
            ),
        )

    def _connect(
        self,
        program: Program,
        body: JsonObject,
        clients: tuple[JsonObject, ...],
        fds: list[int],
        sinks: dict[str, Sink],
    ) -> None:
        exec_id = program.exec_id
        session = program.connect(
            self._loop,
            stdin_once=exec_id is not None or get_str(body, "stdin") == "once",
            sinks=sinks,
            on_detach=lambda: self._say({"event": "detached", "exec_id": exec_id}),
        )
        self._sessions += 1
        for client in clients:
            _attach(session, client, fds[get_int(client, "fd")])

    # What the engine asks.

    def _accept(self, listener: socket.socket) -> None:
        """A new engine: the last one to come is the one that counts."""
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        if self._engine is not None:
            self._loop.forget(self._engine.fileno())
            self._engine.close()
        engine = self._engine = Channel(connection)
        self._loop.watch(engine.fileno(), READ, lambda _: self._serve(engine))

    def _serve(self, engine: Channel) -> None:
        engine.flush()
        try:
            while (message := engine.receive()) is not None:
                self._obey(message)
        except ProtocolError as error:
            self._warn(f"engine's connection: {error}")
            engine.closed = True
        if engine.closed:
            self._lose_engine()
        elif engine is self._engine:
            self._watch_engine(engine)

    def _obey(self, message: Message) -> None:
        body = message.body
        answer: dict[str, object] = {"re": get_int(body, "re")}
        fds: list[int] = []
        try:
            operation = self._operations.get(get_str(body, "op"))
            if operation is None:
                raise ProtocolError(f"unknown operation {get_str(body, 'op')!r}")
            result = operation(message)
            if result is None:
                return
            values, fds = result
            answer.update(values)
        except Exception as error:  # noqa: BLE001 # the shim's edge: the engine is told
            answer["error"] = _encode_error(error)
        finally:
            message.close()
        self._say(answer, fds)

    def _hello(self, _: Message) -> _Answer:
        program = self._running_init()
        self._loop.call_later(0, self._tell_ends)
        execs = [
            {"exec_id": exec_id, "pid": ended.launched.pid}
            for exec_id, ended in (self._execs | self._ended_execs).items()
        ]
        return {
            "pid": program.launched.pid,
            "cgroup": self._state.cgroup,
            "systemd": self._state.systemd,
            "execs": execs,
        }, [os.dup(program.launched.pidfd)]

    def _tell_ends(self) -> None:
        """What has ended while nobody listened."""
        for program in self._ended_execs.values():
            self._tell_exec_exit(program)
        self._tell_exit()

    def _attach(self, message: Message) -> _Answer:
        session = self._find(message.body).session
        if session is None:
            raise _Gone
        _attach(session, get_object(message.body, "attachment"), message.fds.pop(0))
        return _DONE

    def _exec(self, message: Message) -> _Answer:
        body = message.body
        exec_id = get_str(body, "exec_id")
        container = self._running_init().launched
        cgroup = self._cgroup
        if self._running_init().exit_code is not None or cgroup is None:
            raise _Gone
        process = parse_process(body.get("process"))
        program = start_program(
            exec_id,
            terminal=process.terminal,
            stdin=get_bool(body, "stdin"),
            start=lambda stdio: execute(container, process, cgroup=cgroup, stdio=stdio),
        )
        self._programs[program.launched.pid] = program
        self._execs[exec_id] = program
        fds, message.fds = message.fds, []
        self._connect(program, body, get_objects(body, "attachments"), fds, {})
        return {"pid": program.launched.pid}, []

    def _resize(self, message: Message) -> _Answer:
        body = message.body
        self._find(body).resize(get_int(body, "rows"), get_int(body, "columns"))
        return _DONE

    def _close_stdin(self, message: Message) -> _Answer:
        session = self._find(message.body).session
        if session is not None:
            session.close_stdin()
        return _DONE

    def _add_waiter(self, message: Message) -> _Answer:
        self._waiters.append(message.fds.pop(0))
        return _DONE

    def _open_root(self, _: Message) -> _Answer:
        if self._is_freed:
            raise _Gone
        return {}, [os.dup(self._running_init().launched.root)]

    def _release_exec(self, message: Message) -> None:
        program = self._ended_execs.pop(get_str(message.body, "exec_id"), None)
        if program is not None:
            self._finish(program)

    def _release(self, _: Message) -> _Answer:
        if self._record is None:
            raise ProtocolError("the container has not ended")
        # Those connections are the engine's to answer.
        close_all(self._waiters)
        self._waiters = []
        self._free(keep_record=False)
        return _DONE

    def _find(self, body: JsonObject) -> Program:
        exec_id = body.get("exec_id")
        if exec_id is None:
            return self._running_init()
        program = self._execs.get(str(exec_id)) or self._ended_execs.get(str(exec_id))
        if program is None:
            raise _Gone
        return program

    def _running_init(self) -> Program:
        if self._init is None:
            raise _Gone
        return self._init

    # Ends.

    def _adopt(self, pid: int, on_end: Callable[[], None]) -> None:
        self._helpers[pid] = on_end

    def _reap(self, wake_fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(wake_fd, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            helper = self._helpers.pop(pid, None)
            if helper is not None:
                helper()
            program = self._programs.pop(pid, None)
            if program is not None:
                code = os.waitstatus_to_exitcode(status)
                program.exit_code = code if code >= 0 else 128 - code
                self._end(program)

    def _end(self, program: Program) -> None:
        on_drained = self._end_container if program is self._init else self._end_exec
        session = program.session
        finished_at_ns = time.time_ns()
        if session is not None:
            session.drain(lambda: on_drained(program, finished_at_ns))

    def _end_container(self, program: Program, finished_at_ns: int) -> None:
        oom_kills = 0
        if self._cgroup is not None:
            if self._shares_pids:
                # Nobody else ends what init leaves in a pid namespace that is not its own.
                self._cgroup.kill()
            oom_kills = self._cgroup.oom_kills()
        self._record = ExitRecord(
            exit_code=program.exit_code or 0,
            finished_at_ns=finished_at_ns,
            oom_killed=oom_kills > 0,
        )
        try:
            write_record(self._folder_fd, EXIT_NAME, self._record)
        except OSError as error:
            self._warn(f"write exit record: {error.strerror}")
        if self._engine is None:
            self._go_alone()
        else:
            self._tell_exit()

    def _end_exec(self, program: Program, _: int) -> None:
        exec_id = program.exec_id or ""
        self._execs.pop(exec_id, None)
        if self._engine is None or self._is_freed:
            self._finish(program)
            return
        self._ended_execs[exec_id] = program
        self._tell_exec_exit(program)

    def _tell_exit(self) -> None:
        if self._record is not None:
            self._say({"event": "exited", "record": self._record.encode()})

    def _tell_exec_exit(self, program: Program) -> None:
        self._say(
            {
                "event": "exec_exited",
                "exec_id": program.exec_id,
                "exit_code": program.exit_code,
            }
        )

    def _finish(self, program: Program) -> None:
        program.close()
        if program.session is not None:
            program.session.finish(self._end_session)

    def _end_session(self) -> None:
        self._sessions -= 1
        self._check_end()

    def _go_alone(self) -> None:
        """The container has ended and no engine is there: its waiting clients are answered from here."""
        if self._record is None or self._is_freed:
            return
        body = json.dumps({"StatusCode": self._record.exit_code}, separators=(",", ":")) + "\n"
        answer = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n".encode()
        for fd in self._waiters:
            with contextlib.suppress(OSError):
                os.write(fd, answer)
            close_connection(fd)
        self._waiters = []
        self._free(keep_record=True)

    def _free(self, *, keep_record: bool) -> None:
        """Clients' streams end; mounts, cgroups and files go. The network went with init."""
        if self._is_freed:
            return
        self._is_freed = True
        for program in (self._init, *self._ended_execs.values()):
            if program is not None:
                self._finish(program)
        self._ended_execs.clear()
        try:
            if self._cgroup is not None:
                bury_cgroup(self._cgroup)
        except OSError as error:
            self._warn(f"remove cgroup {self._state.cgroup}: {error.strerror}")
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None
        names = [SOCKET_NAME, STATE_NAME]
        if not keep_record:
            names.append(EXIT_NAME)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder_fd)
        self._check_end()

    def _check_end(self) -> None:
        if self._is_freed and self._sessions == 0:
            self._loop.stop()

    # The engine's connection.

    def _say(self, body: dict[str, object], fds: list[int] | None = None) -> None:
        engine = self._engine
        if engine is None:
            close_all(fds or [])
            return
        engine.send(body, fds)
        self._watch_engine(engine)

    def _watch_engine(self, engine: Channel) -> None:
        mask = READ | WRITE if engine.blocked else READ
        self._loop.watch(engine.fileno(), mask, lambda _: self._serve(engine))

    def _lose_engine(self) -> None:
        if self._engine is None:
            return
        self._loop.forget(self._engine.fileno())
        self._engine.close()
        self._engine = None
        for program in self._ended_execs.values():
            self._finish(program)
        self._ended_execs.clear()
        self._go_alone()

    def _warn(self, text: str) -> None:
        self._write_event("warning", text)

    def _report(self, error: BaseException) -> None:
        self._write_event("error", "".join(traceback.format_exception(error)))

    def _write_event(self, level: str, text: str) -> None:
        event = {"level": level, "container": self._container_id, "text": text}
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(json.dumps(event) + "\n")
            sys.stderr.flush()


_Answer = tuple[dict[str, object], list[int]]
_DONE: _Answer = ({}, [])


def _ignore_signal(_number: int, _frame: object) -> None:
    """SIGCHLD's handler: only that there is one makes the wake-up descriptor readable."""


def _attach(session: Session, client: JsonObject, fd: int) -> None:
    streams = tuple(name for name in (STDOUT, STDERR) if get_bool(client, name))
    session.attach(
        Client(
            fd,
            has_stdin=get_bool(client, "stdin"),
            streams=streams,
            multiplexed=get_bool(client, "multiplexed"),
            detach_keys=bytes.fromhex(get_str(client, "detach_keys")),
        ),
        base64.b64decode(get_str(client, "early")),
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


def _decode_interface(document: JsonObject) -> Interface:
    return Interface(
        name=get_str(document, "name"),
        host_name=get_str(document, "host_name"),
        bridge=get_str(document, "bridge"),
        mac=get_str(document, "mac"),
        mtu=get_int(document, "mtu"),
        addresses=get_strings(document, "addresses"),
        gateway=get_str(document, "gateway"),
        gateway6=get_str(document, "gateway6"),
    )


def _encode_error(error: Exception) -> dict[str, object]:
    """What failed, as the engine's `ShimLaunchError` or `ShimGone` rebuilds it."""
    if isinstance(error, LaunchError):
        step, name, number, detail = error.step, error.object, error.errno, error.message
    elif isinstance(error, OSError):
        step, name, number = "shim", str(error.filename or ""), error.errno or 0
        detail = str(error.strerror or error)
    elif isinstance(error, _Gone):
        step, name, number, detail = "gone", "", 0, ""
    else:
        step, name, number = "shim", "", 0
        detail = f"{type(error).__name__}: {error}"
    return {"step": step, "object": name, "errno": number, "detail": detail}
