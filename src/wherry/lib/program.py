"""Other programs and confined work, the only two ways in which the engine leaves its process.

`run_program` runs a system program to its end. `run_worker` runs one function of ours in a fresh
interpreter (`lib.worker`) at a lower priority: bulk work never runs on the event loop, and never in a
fork of the engine. How many run at once is bounded per loop and kind of work; the rest wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

from wherry.lib import tether, worker
from wherry.lib.jsonvalue import (
    JsonObject,
    JsonValue,
    get_bool,
    get_int,
    get_object,
    get_str,
)

_MESSAGE_LIMIT = 256 << 20
_PROCESSORS = os.cpu_count() or 1
# Work that waits for somebody outside (a client that reads slowly, a registry that stalls) has places of
# its own, so that it never keeps a commit or a build step waiting.
_PLACES = {"work": _PROCESSORS + 2, "ingest": _PROCESSORS + 2, "stream": 64}
Pool = Literal["work", "ingest", "stream"]
_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = (
    WeakKeyDictionary()
)


class ProgramMissing(Exception):
    """The program is not in PATH; `name` is what a person would install."""

    def __init__(self, name: str) -> None:
        super().__init__(f"program {name} is not installed")
        self.name = name


class ProgramFailed(Exception):
    """The program ended with another code than 0; the message holds the end of its stderr."""

    def __init__(self, name: str, returncode: int, stderr: bytes) -> None:
        self.stderr = stderr.decode(errors="replace")
        detail = self.stderr.strip()[-2000:]
        super().__init__(f"{name} ended with {returncode}" + (f": {detail}" if detail else ""))
        self.returncode = returncode


class WorkerError(Exception):
    """The worker's function raised: `kind` is the name of its exception class ("OSError" for all of those)."""

    def __init__(self, kind: str, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.kind = kind
        self.errno = errno


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a program ended and what it said; a negative `returncode` is a signal."""

    returncode: int
    stdout: bytes
    stderr: bytes


async def run_program(
    argv: Sequence[str],
    *,
    input: bytes = b"",  # noqa: A002 - the name that subprocess.run uses
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float | None = None,
    check: bool = True,
    is_tethered: bool = False,
) -> Completed:
    """Runs a program to its end, with our environment unless `env` is given.

    Raises ProgramMissing, ProgramFailed (unless `check` is false) and TimeoutError (it was killed, and its children).
    One that `is_tethered` ends with us, and with its children, also when we are killed.
    """
    path = shutil.which(argv[0], path=None if env is None else env.get("PATH"))
    if path is None:
        raise ProgramMissing(argv[0])
    command = [path, *argv[1:]]
    with contextlib.ExitStack() as stack:
        lifeline: tuple[int, ...] = ()
        if is_tethered:
            reader, writer = os.pipe()
            stack.callback(os.close, writer)
            stack.callback(os.close, reader)
            command = [sys.executable, "-I", "-S", tether.__file__, str(reader), *command]
            lifeline = (reader,)
        # Without input no pipe: uvloop raises RuntimeError when the program ends before the pipe is closed.
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE if input else DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
            pass_fds=lifeline,
        )
        try:
            async with asyncio.timeout(timeout_s):
                stdout, stderr = await process.communicate(input or None)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with what it started
            await _reap(process)
    returncode = process.returncode or 0
    if check and returncode != 0:
        raise ProgramFailed(argv[0], returncode, stderr)
    return Completed(returncode=returncode, stdout=stdout, stderr=stderr)


async def run_worker(
    target: str,
    arguments: JsonValue,
    *,
    fds: Sequence[int] = (),
    nice: bool = True,
    pool: Pool = "work",
    on_progress: Callable[[JsonValue], None] | None = None,
) -> JsonValue:
    """Calls `target` ("package.module:function") as `function(arguments, report)` in a fresh interpreter.

    `fds` are inherited under the same numbers, so `arguments` may name them. Cancelling kills the
    worker. Raises WorkerError with what the function raised, or of kind "WorkerDied".
    """
    pools = _slots.setdefault(asyncio.get_running_loop(), {})
    async with pools.setdefault(pool, asyncio.Semaphore(_PLACES[pool])):
        process = await _spawn_worker(fds)
        try:
            return await _converse(
                process, _request(target, arguments, nice=nice, again=False), on_progress
            )
        finally:
            await _reap(process)


class WorkerPool:
    """Workers that stay for a moment after their work: the layers of a pull, each too small for a start-up of 60 ms.

    Only for functions that leave their process as they found it and inherit no descriptors. A worker whose function
    raised, or whose caller was cancelled, is not used again. `close()` before the loop ends.
    """

    def __init__(self, places: int = _PLACES["ingest"], idle_s: float = 2.0) -> None:
        self._places = asyncio.Semaphore(places)
        self._idle_s = idle_s
        self._idle: dict[Process, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(
        self,
        target: str,
        arguments: JsonValue,
        *,
        on_progress: Callable[[JsonValue], None] | None = None,
    ) -> JsonValue:
        """As `run_worker`."""
        async with self._places:
            process = self._take() or await _spawn_worker(())
            try:
                result = await _converse(
                    process, _request(target, arguments, nice=True, again=True), on_progress
                )
            except BaseException:
                await _reap(process)
                raise
            self._keep(process)
            return result

    async def close(self) -> None:
        """Ends the workers that wait for work."""
        self._closed = True
        while self._idle:
            process, timer = self._idle.popitem()
            timer.cancel()
            await _reap(process)
        if self._ending:
            await asyncio.wait(self._ending)

    def _take(self) -> Process | None:
        while self._idle:
            process, timer = self._idle.popitem()
            timer.cancel()
            if process.returncode is None:
                return process
            self._end(process)
        return None

    def _keep(self, process: Process) -> None:
        if self._closed:
            self._end(process)
            return
        loop = asyncio.get_running_loop()
        self._idle[process] = loop.call_later(self._idle_s, self._expire, process)

    def _expire(self, process: Process) -> None:
        del self._idle[process]
        self._end(process)

    def _end(self, process: Process) -> None:
        task = asyncio.get_running_loop().create_task(_reap(process))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _spawn_worker(fds: Sequence[int]) -> Process:
    return await asyncio.create_subprocess_exec(
        *_worker_command(),
        stdin=PIPE,
        stdout=PIPE,
        stderr=None,
        pass_fds=tuple(fds),
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            worker.PARENT: str(os.getpid()),
        },
        cwd="/",
        start_new_session=True,
        limit=_MESSAGE_LIMIT,
    )


def _request(target: str, arguments: JsonValue, *, nice: bool, again: bool) -> JsonObject:
    return {"target": target, "arguments": arguments, "nice": nice, "again": again}


def _worker_command() -> list[str]:
    # -S hides site-packages, -I the current folder: what may be imported is named here, ours first.
    root = str(Path(worker.__file__).resolve().parents[2])
    folders = [
        root,
        *(entry for entry in sys.path if entry.endswith("-packages") and entry != root),
    ]
    start = f"import sys; sys.path.extend({folders!r}); from wherry.lib.worker import main; main()"
    return [sys.executable, "-I", "-S", "-c", start]


async def _converse(
    process: Process,
    request: JsonObject,
    on_progress: Callable[[JsonValue], None] | None,
) -> JsonValue:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the worker has no pipes")
    process.stdin.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
    try:
        await process.stdin.drain()
        if not get_bool(request, "again"):
            process.stdin.close()
    except ConnectionError:
        pass  # it died at once; its end is found below
    while line := await process.stdout.readline():
        message = json.loads(line)
        if "progress" in message:
            if on_progress is not None:
                on_progress(message["progress"])
        elif "error" in message:
            error = get_object(message, "error")
            raise WorkerError(
                get_str(error, "kind"), get_str(error, "message"), get_int(error, "errno")
            )
        elif "result" in message:
            result: JsonValue = message["result"]
            return result
    code = await process.wait()
    raise WorkerError(
        "WorkerDied", f"worker {request['target']} ended with {code} before it answered"
    )


async def _reap(process: Process) -> None:
    """Kills what still runs and waits for its end, whatever happens to the caller."""
    if process.returncode is None:
        try:
            process.send_signal(signal.SIGKILL)
        except ProcessLookupError:
            pass
    await asyncio.shield(process.wait())
    # wait() returns before the pipes have seen their end; a loop that closes now would leave them open.
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio has no public way
