"""The shim: parent of one container's processes, from before its start until its end is recorded.

Outlives engine and spawner. It starts the container, pumps its streams, writes its log, reaps it and its
execs, and leaves the exit record. Order at the end (pitfalls 13, 14): outputs are drained, the record is
written, the engine is told and says `release`, or is found gone; only then clients' streams end, and mounts
and cgroups are freed.

Messages from the engine carry `op` (see `_operations`) and a number `re`, which the answer repeats; what the
shim says by itself carries `event`: "exited", "exec_exited", "detached".
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # typeshed has no stub of it
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
from wherry.kernel.title import TitleRoom
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
from wherry.runtime.resolver import open_resolver
from wherry.shim.log import open_log
from wherry.shim.loop import READ, WRITE, Loop, Timer
from wherry.shim.program import Program, ProgramFds
from wherry.shim.protocol import Channel, Message, ProtocolError, close_all
from wherry.shim.record import (
    EXIT_NAME,
    SOCKET_NAME,
    STATE_NAME,
    ExitRecord,
    write_record,
)
from wherry.shim.starter import (
    Helper,
    InPlace,
    decode_target,
    encode_error,
    start_container,
    start_exec,
)
from wherry.shim.streams import DRAIN_S, Client, Session, Sink, close_connection
from wherry.shim.teardown import bury_cgroup

_UNTOLD_CODES = 256


def run_shim(control_fd: int, title: TitleRoom, *, is_brief: bool) -> NoReturn:
    """The life of a shim, in the process that was forked for it. `control_fd` leads to the engine."""
    status = 1
    try:
        os.setsid()
        wake_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Without the enums of the signal module, whose memory would be the shim's own.
        _signal.signal(signal.SIGCHLD, ignore_signal)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        syscalls.prctl(PR.SET_CHILD_SUBREAPER, 1)
        begin = InPlace if is_brief else Helper
        starter = begin(lambda tell: start_container(control_fd, tell, for_parent=not is_brief))
        started = starter.wait()
        slot_path = ""
        if started is not None and "staged" in started.body:
            slot_path = get_str(started.body, "staged")
            started = starter.wait()
        if started is not None:
            title.write(f"wherry-shim {get_str(started.body, 'folder')}")
            _sleep(started, starter, control_fd, wake_fd)
            engine = Channel(socket.socket(fileno=control_fd), is_inherited=True)
            Shim(engine, started, wake_fd).run()
        elif slot_path:
            # The start has failed, or an unused slot is not wanted any more: nothing of it stays.
            starter.wait_for_end()
            bury_cgroup(open_cgroup(slot_path))
        status = 0
    except BaseException:  # noqa: BLE001 # the shim's edge: a traceback is all that can be left
        sys.stderr.write(traceback.format_exc())
        sys.stderr.flush()
    finally:
        os._exit(status)


def _sleep(started: Message, starter: InPlace | Helper, control_fd: int, wake_fd: int) -> None:
    """Until there is something to do: a container that is idle from the start keeps its shim as small as it is now.

    What a `Shim` touches of Python is memory of its own, more than all it takes until here.
    """
    body = started.body
    if get_objects(body, "attachments"):
        return
    names = get_strings(body, "fds")
    folder_and_listener = 2
    poll = select.poll()
    for fd in (
        control_fd,
        wake_fd,
        started.fds[1],  # the listener
        *(
            started.fds[folder_and_listener + names.index(name)]
            for name in ("stdout", "stderr")
            if name in names
        ),
    ):
        poll.register(fd, select.POLLIN)
    while [fd for fd, _ in poll.poll()] == [wake_fd]:
        os.read(wake_fd, 4096)
        starter.reap()
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return


class _Gone(Exception):
    """The exec that was named has ended, or the container has."""


class Shim:
    """One container. `run` returns when nothing is left to do."""

    def __init__(self, engine: Channel, started: Message, wake_fd: int) -> None:
        """`started` is what the helper has left; `wake_fd` becomes readable when a child has ended."""
        self._loop = Loop(self._report)
        self._engine: Channel | None = engine
        self._wake_fd = wake_fd
        self._started = body = started.body
        self._container_id = get_str(body, "container_id")
        self._programs: dict[int, Program] = {}
        self._execs: dict[str, Program] = {}
        self._ended_execs: dict[str, Program] = {}
        self._untold_codes: dict[str, int] = {}  # of execs that ended while no engine was there
        self._children: dict[int, Callable[[], None]] = {}
        self._starting = 0
        self._record: ExitRecord | None = None
        self._finished_at_ns = 0
        self._straggler_timer: Timer | None = None
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
            "open_resolver": self._open_resolver,
            "kill_exec": self._kill_exec,
            "release_exec": self._release_exec,
            "release": self._release,
        }
        fds, started.fds = started.fds, []
        self._folder_fd = fds.pop(0)
        self._listener = socket.socket(fileno=fds.pop(0))
        program_fds = ProgramFds.unpack(get_strings(body, "fds"), fds)
        target = get_object(body, "log")
        streams = (STDOUT, STDERR) if program_fds.stderr >= 0 else (STDOUT,)
        self._init = self._take_program(
            None,
            get_int(body, "pid"),
            program_fds,
            stdin_once=get_str(body, "stdin") == "once",
            sinks=open_log(target, streams, warn=self._warn, on_child=self._adopt)
            if target
            else {},
        )
        # The attachments' descriptors are gone from the list: those left are of clients that wait.
        self._waiters = fds
        # Of these the engine is gone, and a later one does not know them.
        self._orphans: list[int] = []
        self._attach_all(self._init, get_objects(body, "attachments"), fds)
        self._loop.watch(wake_fd, READ, lambda _: self._reap())
        self._loop.watch(engine.fileno(), READ, lambda _: self._serve(engine))
        self._loop.watch(self._listener.fileno(), READ, lambda _: self._accept())

    def run(self) -> None:
        """Serves until the end."""
        self._reap()  # what has ended before
        self._loop.run()

    def _take_program(
        self,
        exec_id: str | None,
        pid: int,
        fds: ProgramFds,
        *,
        stdin_once: bool,
        sinks: dict[str, Sink],
    ) -> Program:
        """A program that a helper has started."""
        program = Program(
            exec_id,
            pid,
            fds,
            loop=self._loop,
            stdin_once=stdin_once,
            sinks=sinks,
            on_detach=lambda: self._say({"event": "detached", "exec_id": exec_id}),
        )
        self._programs[program.pid] = program
        self._sessions += 1
        return program

    def _attach_all(
        self, program: Program, clients: tuple[JsonObject, ...], fds: list[int]
    ) -> None:
        for client in clients:
            _attach(program.session, client, fds.pop(0))

    # What the engine asks.

    def _accept(self) -> None:
        """A new engine: the last one to come is the one that counts."""
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if self._engine is not None:
            self._loop.forget(self._engine.fileno())
            self._engine.close()
            self._orphan_waiters()
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
        if engine is not self._engine:
            return
        if engine.closed:
            self._lose_engine()
        else:
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
        self._loop.call_later(0, self._tell_ends)
        execs = self._execs | self._ended_execs
        return {
            "pid": self._init.pid,
            "cgroup": get_str(self._started, "cgroup"),
            "systemd": get_bool(self._started, "systemd"),
            "execs": [
                {"exec_id": exec_id, "pid": program.pid} for exec_id, program in execs.items()
            ],
            "ended_execs": [
                {"exec_id": exec_id, "exit_code": code}
                for exec_id, code in self._untold_codes.items()
            ],
        }, [os.dup(self._init.fds.pidfd), *self._init.fds.resolver()]

    def _tell_ends(self) -> None:
        """What has ended while nobody listened."""
        for program in self._ended_execs.values():
            self._tell_exec_exit(program)
        self._tell_exit()

    def _attach(self, message: Message) -> _Answer:
        session = self._find(message.body).session
        _attach(session, get_object(message.body, "attachment"), message.fds.pop(0))
        return _DONE

    def _exec(self, message: Message) -> None:
        """Answered when the helper has."""
        if self._init.exit_code is not None:
            raise _Gone
        body = message.body
        helper = Helper(
            lambda tell: start_exec(
                body,
                decode_target(self._started, self._init.fds),
                get_str(self._started, "cgroup"),
                systemd=get_bool(self._started, "systemd"),
                tell=tell,
            )
        )
        channel = helper.open_channel()
        self._starting += 1
        fds, message.fds = message.fds, []
        self._loop.watch(channel.fileno(), READ, lambda _: self._take_exec(channel, body, fds))

    def _take_exec(self, helper: Channel, body: JsonObject, client_fds: list[int]) -> None:
        result = helper.receive()
        if result is None and not helper.closed:
            return
        self._loop.forget(helper.fileno())
        helper.close()
        self._starting -= 1
        answer: dict[str, object] = {"re": get_int(body, "re")}
        if result is None:
            answer["error"] = {"step": "shim", "detail": "the helper of the exec died"}
        elif "error" in result.body:
            answer["error"] = result.body["error"]
        else:
            exec_id = get_str(body, "exec_id")
            program = self._take_program(
                exec_id,
                get_int(result.body, "pid"),
                ProgramFds.unpack(get_strings(result.body, "fds"), result.fds),
                stdin_once=True,
                sinks={},
            )
            self._execs[exec_id] = program
            answer["pid"] = program.pid
            self._attach_all(program, get_objects(body, "attachments"), client_fds)
        close_all(client_fds)
        self._say(answer)
        self._reap()
        self._check_stragglers()

    def _resize(self, message: Message) -> _Answer:
        body = message.body
        self._find(body).resize(get_int(body, "rows"), get_int(body, "columns"))
        return _DONE

    def _close_stdin(self, message: Message) -> _Answer:
        self._find(message.body).session.close_stdin()
        return _DONE

    def _add_waiter(self, message: Message) -> _Answer:
        self._waiters.append(message.fds.pop(0))
        return _DONE

    def _open_root(self, _: Message) -> _Answer:
        if self._is_freed:
            raise _Gone
        return {}, [os.dup(self._init.fds.root)]

    def _open_resolver(self, _: Message) -> _Answer:
        """For a container that was not started on a network with names and is on one now."""
        fds = self._init.fds
        if self._is_freed or self._init.exit_code is not None:
            raise _Gone
        if fds.resolver_udp < 0:
            fds.resolver_udp, fds.resolver_streams = open_resolver(fds.pidfd)
        return {}, fds.resolver()

    def _kill_exec(self, message: Message) -> None:
        program = self._execs.get(get_str(message.body, "exec_id"))
        if program is not None and program.exit_code is None:
            program.kill()

    def _release_exec(self, message: Message) -> None:
        self._untold_codes.pop(get_str(message.body, "exec_id"), None)
        program = self._ended_execs.pop(get_str(message.body, "exec_id"), None)
        if program is not None:
            self._finish(program)

    def _release(self, _: Message) -> _Answer:
        if self._record is None:
            raise ProtocolError("the container has not ended")
        # Those connections are the engine's to answer.
        close_all(self._waiters)
        self._waiters = []
        self._answer_orphans(self._record)
        self._free(keep_record=False)
        return _DONE

    def _find(self, body: JsonObject) -> Program:
        exec_id = body.get("exec_id")
        if exec_id is None:
            return self._init
        program = self._execs.get(str(exec_id)) or self._ended_execs.get(str(exec_id))
        if program is None:
            raise _Gone
        return program

    # Ends.

    def _adopt(self, pid: int, on_end: Callable[[], None]) -> None:
        self._children[pid] = on_end

    def _reap(self) -> None:
        """Children of ours by their pids; the others, orphans of the container and helpers, are discarded.

        While a helper works its program may already be our child, and may have ended, without our
        knowing of it: unknown children wait until no helper works.
        """
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_fd, 4096)
        known = [*self._programs, *self._children]
        for pid in known if self._starting else [-1]:
            while self._reap_one(pid):
                continue

    def _reap_one(self, wanted: int) -> bool:
        try:
            pid, status = os.waitpid(wanted, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return False
        on_end = self._children.pop(pid, None)
        if on_end is not None:
            on_end()
        program = self._programs.pop(pid, None)
        if program is not None:
            code = os.waitstatus_to_exitcode(status)
            program.exit_code = code if code >= 0 else 128 - code
            self._end(program)
        return True

    def _end(self, program: Program) -> None:
        on_drained = self._end_container if program is self._init else self._end_exec
        finished_at_ns = time.time_ns()
        if program is self._init and get_bool(self._started, "shares_pids"):
            self._end_leftovers()
        program.fds.close_resolver()
        program.session.drain(lambda: on_drained(program, finished_at_ns))

    def _end_leftovers(self) -> None:
        """Nobody else ends what init leaves in a pid namespace that is not its own."""
        try:
            self._open_cgroup().kill()
        except OSError as error:
            self._warn(f"end what init has left: {error}")

    def _end_container(self, _: Program, finished_at_ns: int) -> None:
        self._finished_at_ns = finished_at_ns
        self._straggler_timer = self._loop.call_later(DRAIN_S, self._report_end)
        self._check_stragglers()

    def _check_stragglers(self) -> None:
        """Execs have ended with the container; their exit codes are told before its own."""
        if self._straggler_timer is not None and not self._execs and not self._starting:
            self._report_end()

    def _report_end(self) -> None:
        if self._straggler_timer is not None:
            self._straggler_timer.cancel()
            self._straggler_timer = None
        oom_kills = self._open_cgroup().oom_kills()
        self._record = ExitRecord(
            exit_code=self._init.exit_code or 0,
            finished_at_ns=self._finished_at_ns,
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
            self._keep_code(program)
            self._finish(program)
        else:
            self._ended_execs[exec_id] = program
            self._tell_exec_exit(program)
        self._check_stragglers()

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
        program.session.finish(self._end_session)

    def _end_session(self) -> None:
        self._sessions -= 1
        self._check_end()

    def _go_alone(self) -> None:
        """The container has ended and no engine is there: its waiting clients are answered from here."""
        if self._record is None or self._is_freed:
            return
        self._answer_orphans(self._record)
        self._free(keep_record=True)

    def _answer_orphans(self, record: ExitRecord) -> None:
        body = json.dumps({"StatusCode": record.exit_code}, separators=(",", ":")) + "\n"
        answer = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n".encode()
        for fd in self._orphans:
            with contextlib.suppress(OSError):
                os.write(fd, answer)
            close_connection(fd)
        self._orphans = []

    def _free(self, *, keep_record: bool) -> None:
        """Clients' streams end; mounts, cgroups and files go. The network went with init."""
        if self._is_freed:
            return
        self._is_freed = True
        for program in (self._init, *self._ended_execs.values()):
            self._finish(program)
        self._ended_execs.clear()
        try:
            bury_cgroup(self._open_cgroup())
        except OSError as error:
            self._warn(f"remove cgroup: {error}")
        self._loop.forget(self._listener.fileno())
        self._listener.close()
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

    def _open_cgroup(self) -> Cgroup:
        started = self._started
        return open_cgroup(get_str(started, "cgroup"), systemd=get_bool(started, "systemd"))

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
        self._orphan_waiters()
        for program in self._ended_execs.values():
            self._keep_code(program)
            self._finish(program)
        self._ended_execs.clear()
        self._go_alone()

    def _keep_code(self, program: Program) -> None:
        """For the next engine; the oldest make way, since an engine may never come."""
        self._untold_codes[program.exec_id or ""] = program.exit_code or 0
        while len(self._untold_codes) > _UNTOLD_CODES:
            del self._untold_codes[next(iter(self._untold_codes))]

    def _orphan_waiters(self) -> None:
        self._orphans += self._waiters
        self._waiters = []

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


def ignore_signal(_number: int, _frame: object) -> None:
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


def _encode_error(error: Exception) -> JsonObject:
    if isinstance(error, _Gone):
        return {"step": "gone"}
    return encode_error(error)
