"""Programs and workers: ends, errors, time limits, descriptors, bounded numbers."""

from __future__ import annotations

import asyncio
import os

import pytest

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


def test_worker_result_and_progress() -> None:
    seen: list[object] = []
    # builtins.map is lazy and not JSON; sorted(key=...) would need a keyword: `divmod`-like builtins
    # take (arguments, report), and `isinstance` style ones refuse: the error comes back typed.
    with pytest.raises(WorkerError) as caught:
        asyncio.run(run_worker("operator:getitem", [1], on_progress=seen.append))
    assert (caught.value.kind, seen) == ("TypeError", [])


def test_worker_error_keeps_kind() -> None:
    with pytest.raises(WorkerError) as caught:
        asyncio.run(run_worker("wherry.lib.worker:nothing", None))
    assert caught.value.kind == "AttributeError"


def test_worker_that_dies_is_noticed() -> None:
    async def run() -> None:
        # signal.signal(15, report) is no result, but os.kill on itself is an end without an answer.
        await run_worker("wherry.lib.worker:_read_request", None)

    with pytest.raises(WorkerError):
        asyncio.run(run())


def test_worker_closes_what_is_not_named() -> None:
    reader, writer = os.pipe()
    try:
        os.set_inheritable(writer, True)
        with pytest.raises(WorkerError):
            asyncio.run(run_worker("posix:close", writer))
    finally:
        os.close(reader)
        os.close(writer)
