"""Clients of real containers: attach, terminals, slow readers, stdin; and execs with theirs."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import time
from collections.abc import Callable

import pytest
from tests.engine.shims.conftest import Bench, Story, build_process, connect, wait_until

from wherry.engine.shims import ExecRequest, ShimGone, ShimHandle, ShimLaunchError

Play = Callable[[Story], None]


async def end(handle: ShimHandle) -> int:
    handle.send_signal(signal.SIGKILL)
    record = await handle.exited
    await handle.release()
    return record.exit_code


def demultiplex(data: bytes) -> dict[int, bytes]:
    streams: dict[int, bytes] = {}
    while data:
        number, size = struct.unpack(">BxxxI", data[:8])
        streams[number] = streams.get(number, b"") + data[8 : 8 + size]
        data = data[8 + size :]
    return streams


def test_attached_before_the_start(play: Play) -> None:
    async def story(bench: Bench) -> None:
        client, attachment = connect(multiplexed=True)
        code, _ = await bench.run("sh", "-c", "echo out; echo err >&2", attachments=[attachment])
        assert code == 0
        assert demultiplex(await client.read_to_end()) == {1: b"out\n", 2: b"err\n"}

    play(story)


def test_streams_end_only_after_release(play: Play) -> None:
    async def story(bench: Bench) -> None:
        client, attachment = connect()
        handle = await bench.launch("echo", "hi", attachments=[attachment])
        await handle.exited
        assert await client.read(3) == b"hi\n"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.read(1)
        await handle.release()
        assert await client.read_to_end() == b""

    play(story)


def test_input_of_one_client(play: Play) -> None:
    async def story(bench: Bench) -> None:
        client, attachment = connect(stdin=True, early=b"early ")
        handle = await bench.launch("cat", stdin="once", attachments=[attachment])
        await client.write(b"late\n")
        assert await client.read(11) == b"early late\n"
        client.end_input()
        assert (await handle.exited).exit_code == 0
        await handle.release()
        assert await client.read_to_end() == b""

    play(story)


def test_a_large_input_comes_back(play: Play) -> None:
    async def story(bench: Bench) -> None:
        client, attachment = connect(stdin=True)
        handle = await bench.launch("cat", stdin="once", attachments=[attachment])
        data = bytes(range(256)) * 8192

        async def write() -> None:
            await client.write(data)
            client.end_input()

        writing = asyncio.create_task(write())
        assert await client.read(len(data)) == data
        await writing
        assert (await handle.exited).exit_code == 0
        await handle.release()
        client.close()

    play(story)


def test_stdin_that_stays_open(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("cat", stdin="open")
        for text in (b"one\n", b"two\n"):
            client, attachment = connect(stdin=True)
            await handle.attach(attachment)
            await client.write(text)
            assert await client.read(4) == text
            client.end_input()
            assert await client.read_to_end() == b""
        await handle.close_stdin()
        assert (await handle.exited).exit_code == 0
        await handle.release()
        assert bench.read_log(handle.container_id) == "one\ntwo\n"

    play(story)


def test_a_client_that_reads_nothing_holds_up_neither_execs_nor_the_exit(play: Play) -> None:
    async def story(bench: Bench) -> None:
        slow, attachment = connect()
        handle = await bench.launch(
            "sh", "-c", "seq 1 100000; exec sleep 600", attachments=[attachment]
        )
        assert await bench.exec(handle, "echo", "alive") == (0, b"alive\n")
        lines = await slow.read_until(b"\n100000\n")
        assert lines.count(b"\n") == 100000
        assert await end(handle) == 137
        assert await slow.read_to_end() == b""
        assert bench.read_log(handle.container_id).count("\n") == 100000

    play(story)


def test_terminal(play: Play) -> None:
    async def story(bench: Bench) -> None:
        detached: list[str | None] = []
        client, attachment = connect(stdin=True, detach_keys=b"\x10\x11")
        handle = await bench.launch("sh", terminal=True, stdin="open", attachments=[attachment])
        handle.on_detach = detached.append
        await handle.resize(33, 77)
        await client.write(b"stty size\n")
        await client.read_until(b"33 77\r\n")
        await client.write(b"tty\n")
        await client.read_until(b"/dev/pts/0\r\n")
        await client.write(b"\x10\x11")
        await client.read_to_end()
        await wait_until(lambda: detached == [None])
        again, attachment = connect(stdin=True)
        await handle.attach(attachment)
        await again.write(b"exit 7\n")
        assert (await handle.exited).exit_code == 7
        await handle.release()
        assert b"exit 7" in await again.read_to_end()

    play(story)


def test_window_size_reaches_the_program_as_a_signal(play: Play) -> None:
    async def story(bench: Bench) -> None:
        client, attachment = connect(stdin=True)
        handle = await bench.launch(
            "sh",
            "-c",
            "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done",
            terminal=True,
            stdin="open",
            attachments=[attachment],
        )
        await client.read_until(b"ready")
        await handle.resize(40, 100)
        await client.read_until(b"40 100")
        await handle.exited
        await handle.release()
        client.close()

    play(story)


def test_exec(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sleep", "600")
        assert await bench.exec(handle, "sh", "-c", "echo out; exit 5") == (5, b"out\n")
        code, output = await bench.exec(handle, "sh", "-c", "tty; exit 3", terminal=True)
        assert (code, output) == (3, b"/dev/pts/0\r\n")
        assert (await bench.exec(handle, "sh", "-c", "kill -9 $$"))[0] == 137
        with pytest.raises(ShimLaunchError) as caught:
            await bench.exec(handle, "nope")
        assert caught.value.step == "exec"
        assert await end(handle) == 137

    play(story)


def test_many_execs_at_once(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sleep", "600")
        results = await asyncio.gather(
            *(
                bench.exec(handle, "sh", "-c", f"echo {number}; exit {number}")
                for number in range(16)
            )
        )
        assert results == [(number, b"%d\n" % number) for number in range(16)]
        assert await end(handle) == 137

    play(story)


def test_input_of_an_exec(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sleep", "600")
        client, attachment = connect(stdin=True)
        running = await handle.exec(
            ExecRequest(
                exec_id="e",
                process=build_process(["cat"]),
                stdin=True,
                attachments=[attachment],
            )
        )
        assert handle.execs == {"e": running}
        await client.write(b"hello\n")
        assert await client.read(6) == b"hello\n"
        client.end_input()
        assert await running.exited == 0
        running.release()
        assert handle.execs == {}
        assert await client.read_to_end() == b""
        await end(handle)

    play(story)


def test_a_child_that_holds_an_execs_stdout_delays_its_end_by_two_seconds(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sleep", "600")
        began = time.monotonic()
        code, output = await bench.exec(handle, "sh", "-c", "sleep 30 & echo started")
        assert (code, output) == (0, b"started\n")
        assert 1.9 < time.monotonic() - began < 6
        await end(handle)

    play(story)


def test_execs_end_with_the_container(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sleep", "600")
        client, attachment = connect()
        running = await handle.exec(
            ExecRequest(
                exec_id="e", process=build_process(["sleep", "600"]), attachments=[attachment]
            )
        )
        handle.send_signal(signal.SIGKILL)
        await handle.exited
        assert await running.exited == 137
        running.release()
        await handle.release()
        assert await client.read_to_end() == b""

    play(story)


def test_asking_after_the_end(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("true")
        await handle.exited
        with pytest.raises(ShimGone):
            await bench.exec(handle, "true")
        with pytest.raises(ShimGone):
            await handle.resize(1, 1, exec_id="none")
        late, attachment = connect()
        await handle.attach(attachment)
        await handle.release()
        assert await late.read_to_end() == b""
        for question in (handle.resize(1, 1), handle.close_stdin(), handle.open_root()):
            with pytest.raises(ShimGone):
                await question

    play(story)


def test_root_of_a_running_container(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sleep", "600")
        root = await handle.open_root()
        folder = os.open("bin", os.O_RDONLY, dir_fd=root)
        assert "busybox" in os.listdir(folder)
        os.close(folder)
        os.close(root)
        await end(handle)

    play(story)


def test_clients_that_come_and_go(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sh", "-c", "while :; do echo tick; sleep 0.01; done")
        for _ in range(20):
            client, attachment = connect()
            await handle.attach(attachment)
            await client.read(5)
            client.close()
        await end(handle)

    play(story)
