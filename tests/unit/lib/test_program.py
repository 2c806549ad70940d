"""Programs and workers: ends, errors, time limits, descriptors, bounded numbers."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.image.content import ContentStore
from wherry.image.digest import digest_of
from wherry.lib import program
from wherry.lib.program import (
    ProgramFailed,
    ProgramMissing,
    WorkerError,
    run_program,
    run_worker,
)


def test_program_output_and_input() -> None:
    done = asyncio.run(run_program(["cat"], input=b"hello"))
    assert (done.returncode, done.stdout) == (0, b"hello")


def test_missing_program_is_named() -> None:
    with pytest.raises(ProgramMissing, match="no-such-program-here"):
        asyncio.run(run_program(["no-such-program-here"]))


def test_failing_program_says_why() -> None:
    with pytest.raises(ProgramFailed, match="sh ended with 3: oops"):
        asyncio.run(run_program(["sh", "-c", "echo oops >&2; exit 3"]))
    assert asyncio.run(run_program(["sh", "-c", "exit 3"], check=False)).returncode == 3


def test_slow_program_is_killed() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(run_program(["sleep", "60"], timeout_s=0.1))


def test_what_a_killed_program_started_is_killed_too(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def run() -> None:
        script = f"exec > {fifo}; sleep 600 & echo; wait"
        running = asyncio.ensure_future(run_program(["sh", "-c", script]))
        with await asyncio.to_thread(fifo.open, "rb") as stream:
            assert await asyncio.to_thread(stream.readline) == b"\n"
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert await asyncio.to_thread(stream.read) == b""  # all of them have ended

    asyncio.run(run())


def test_a_tethered_program_ends_as_it_would() -> None:
    done = asyncio.run(run_program(["cat"], input=b"hello", is_tethered=True))
    assert (done.returncode, done.stdout) == (0, b"hello")
    with pytest.raises(ProgramFailed, match="sh ended with 3: oops"):
        asyncio.run(run_program(["sh", "-c", "echo oops >&2; exit 3"], is_tethered=True))
    done = asyncio.run(run_program(["sh", "-c", "kill -9 $$"], is_tethered=True, check=False))
    assert done.returncode == 128 + 9


def test_a_tethered_program_ends_with_who_asked_for_it(tmp_path: Path) -> None:
    code = "import asyncio, sys; from wherry.lib.program import run_program"
    code += "; asyncio.run(run_program(sys.argv[1:], is_tethered=True))"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = f"exec > {fifo}; sleep 600 & echo; sleep 600"
    asking = subprocess.Popen(
        [sys.executable, "-c", code, "sh", "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(program.__file__).parents[2])},
    )
    with fifo.open("rb") as stream:
        assert stream.readline() == b"\n"  # it runs, and what it has started
        asking.kill()
        asking.wait()
        assert stream.read() == b""  # all of them have ended


def test_worker_result_and_progress(tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    store = ContentStore(tmp_path)
    store.put(digest_of(b"x"), b"x")
    seen: list[object] = []
    arguments = {"root": str(tmp_path)}
    result = asyncio.run(run_worker("wherry.image.check:check", arguments, on_progress=seen.append))
    assert result == []
    assert seen == [{"checking": digest_of(b"x")}]


def test_worker_error_keeps_kind_and_errno(tmp_path: Path) -> None:
    with pytest.raises(WorkerError) as caught:
        asyncio.run(run_worker("wherry.lib.worker:nothing", None))
    assert caught.value.kind == "AttributeError"
    with pytest.raises(WorkerError) as caught:
        asyncio.run(run_worker("wherry.image.check:check", {"root": str(tmp_path)}))
    assert (caught.value.kind, caught.value.errno) == ("OSError", errno.ENOENT)


def test_worker_that_dies_is_noticed(tmp_path: Path) -> None:
    async def run() -> None:
        reader, writer = os.pipe()
        arguments = {"input": reader, "layers": str(tmp_path), "driver": "overlay2"}
        work = asyncio.ensure_future(
            run_worker("wherry.image.layer.build:build", arguments, fds=[reader])
        )
        await until(lambda: os.listdir(tmp_path))  # it has begun
        for pid in children_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        try:
            await work
        finally:
            os.close(reader)
            os.close(writer)

    with pytest.raises(WorkerError) as caught:
        asyncio.run(run())
    assert caught.value.kind == "WorkerDied"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - neither folders nor /proc wake anybody
            await asyncio.sleep(0.01)


def children_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_cancelled_worker_is_gone() -> None:
    async def run() -> None:
        reader, writer = os.pipe()
        work = asyncio.ensure_future(
            run_worker("wherry.image.layer.build:build", {"input": reader}, fds=[reader])
        )
        await until(lambda: children_of(os.getpid()))
        work.cancel()
        await asyncio.wait([work])
        os.close(reader)
        os.close(writer)
        assert children_of(os.getpid()) == []

    asyncio.run(run())


def test_worker_has_no_descriptor_that_is_not_named() -> None:
    reader, writer = os.pipe()
    try:
        os.set_inheritable(writer, True)
        with pytest.raises(WorkerError) as caught:
            asyncio.run(run_worker("wherry.image.layer.build:build", {"input": writer}))
        assert caught.value.kind == "OSError"
    finally:
        os.close(reader)
        os.close(writer)


def test_streams_do_not_keep_work_waiting() -> None:
    async def run() -> None:
        reader, writer = os.pipe()
        waiting = [
            asyncio.ensure_future(
                run_worker(
                    "wherry.image.layer.build:build", {"input": reader}, fds=[reader], pool="stream"
                )
            )
            for _ in range((os.cpu_count() or 1) + 4)
        ]
        with pytest.raises(WorkerError):
            await run_worker("wherry.lib.worker:nothing", None)
        os.close(writer)
        os.close(reader)
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(run())
