"""Engine, spawner and shims are killed, alone and together: what must go on goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine.shims.conftest import Bench, Story, build_process, connect, wait_until

import wherry
from wherry.engine.shims import ExecRequest, ExitRecord, ShimHandle, ShimLaunchError
from wherry.runtime.cgroups import open_cgroup

Play = Callable[[Story], None]


async def adopt(bench: Bench, container_id: str, generation: int = 1) -> ShimHandle:
    handle = await bench.shims.adopt(container_id, generation)
    assert isinstance(handle, ShimHandle)
    bench.handles.append(handle)
    return handle


async def end(handle: ShimHandle) -> int:
    handle.send_signal(signal.SIGKILL)
    record = await handle.exited
    await handle.release()
    return record.exit_code


def is_alive(pid: int) -> bool:
    """Nobody may reap what the killed shim has left: a zombie is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_nothing_to_adopt(play: Play) -> None:
    async def story(bench: Bench) -> None:
        assert await bench.shims.adopt("f" * 64, 1) is None
        await bench.shims.forget("f" * 64, 1)

    play(story)


def test_a_new_engine_finds_running_containers(play: Play) -> None:
    async def story(bench: Bench) -> None:
        client, attachment = connect(stdin=True)
        old = await bench.launch(
            "sh",
            "-c",
            "while read line; do echo got $line; done",
            stdin="open",
            attachments=[attachment],
        )
        await bench.abandon()
        handle = await adopt(bench, old.container_id)
        assert handle.pid == old.pid
        await client.write(b"after\n")
        assert await client.read(10) == b"got after\n"
        assert await bench.exec(handle, "echo", "hi") == (0, b"hi\n")
        assert await end(handle) == 137
        assert await client.read_to_end() == b""
        assert bench.read_log(handle.container_id) == "got after\n"

    play(story)


def test_execs_survive_the_engine(play: Play) -> None:
    async def story(bench: Bench) -> None:
        old = await bench.launch("sleep", "600")
        client, attachment = connect(stdin=True)
        await old.exec(
            ExecRequest(
                exec_id="e",
                process=build_process(["sh", "-c", "read x; exit 4"]),
                stdin=True,
                attachments=[attachment],
            )
        )
        await bench.abandon()
        handle = await adopt(bench, old.container_id)
        running = handle.execs["e"]
        await client.write(b"\n")
        assert await running.exited == 4
        running.release()
        assert await client.read_to_end() == b""
        await end(handle)

    play(story)


def test_a_container_that_ends_while_no_engine_runs(play: Play) -> None:
    async def story(bench: Bench) -> None:
        client, attachment = connect(stdin=True)
        ours, theirs = socket.socketpair()
        handle = await bench.launch(
            "sh",
            "-c",
            "read line; echo $line; exit 9",
            stdin="open",
            attachments=[attachment],
            waiters=[theirs.detach()],
        )
        await bench.abandon()
        await client.write(b"last words\n")
        assert await client.read_to_end() == b"last words\n"
        ours.setblocking(False)
        answer = await asyncio.get_running_loop().sock_recv(ours, 4096)
        assert answer == b'11\r\n{"StatusCode":9}\n\r\n0\r\n\r\n'
        ours.close()
        await wait_until(lambda: not bench.shim_pids())
        assert bench.cgroups() == []
        record = await bench.shims.adopt(handle.container_id, 1)
        assert isinstance(record, ExitRecord)
        assert (record.exit_code, record.error) == (9, "")
        await bench.shims.forget(handle.container_id, 1)
        assert bench.read_log(handle.container_id) == "last words\n"

    play(story)


def test_waiters_are_the_engines_to_answer_while_it_is_there(play: Play) -> None:
    async def story(bench: Bench) -> None:
        ours, theirs = socket.socketpair()
        handle = await bench.launch("true")
        await handle.add_waiter(theirs.detach())
        await handle.exited
        await handle.release()
        ours.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(ours, 4096) == b""
        ours.close()

    play(story)


def test_the_exit_is_told_again_when_the_engine_dies_before_release(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sh", "-c", "exit 6")
        await handle.exited
        await bench.abandon()
        await wait_until(lambda: not bench.shim_pids())
        record = await bench.shims.adopt(handle.container_id, 1)
        assert isinstance(record, ExitRecord)
        assert record.exit_code == 6
        await bench.shims.forget(handle.container_id, 1)

    play(story)


def test_a_killed_shim_takes_its_container_along(play: Play) -> None:
    async def story(bench: Bench) -> None:
        client, attachment = connect()
        handle = await bench.launch("sh", "-c", "sleep 600", attachments=[attachment])
        running = await handle.exec(
            ExecRequest(exec_id="e", process=build_process(["sleep", "600"]))
        )
        [shim] = await bench.named_shims(1)
        os.kill(shim, signal.SIGKILL)
        record = await handle.exited
        assert record.exit_code == 137
        assert "shim" in record.error
        assert await running.exited == 137
        assert not is_alive(handle.pid)
        await handle.release()
        assert await client.read_to_end() == b""

    play(story)


@pytest.mark.parametrize("host_pids", [False, True])
def test_a_shim_that_is_killed_while_its_container_is_frozen(play: Play, host_pids: bool) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sh", "-c", "sleep 600 & sleep 600", host_pids=host_pids)
        cgroup = open_cgroup(f"{bench.cgroup_parent}/{handle.container_id}")
        cgroup.freeze()
        [shim] = await bench.named_shims(1)
        os.kill(shim, signal.SIGKILL)
        assert (await handle.exited).exit_code == 137
        assert cgroup.processes() == []
        await handle.release()

    play(story)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_shim_that_is_killed_while_no_engine_runs(play: Play, frozen: bool) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sleep", "600")
        if frozen:
            open_cgroup(f"{bench.cgroup_parent}/{handle.container_id}").freeze()
        [shim] = await bench.named_shims(1)
        await bench.abandon()
        os.kill(shim, signal.SIGKILL)
        await wait_until(lambda: not is_alive(shim))
        record = await bench.shims.adopt(handle.container_id, 1)
        assert isinstance(record, ExitRecord)
        assert record.exit_code == 137
        assert record.error
        assert not is_alive(handle.pid)
        await bench.shims.forget(handle.container_id, 1)

    play(story)


def test_a_killed_spawner_is_replaced(play: Play) -> None:
    async def story(bench: Bench) -> None:
        before = await bench.launch("sh", "-c", "read x", stdin="open")
        spawner = bench.shims.spawner_pid
        os.kill(spawner, signal.SIGKILL)
        results = await asyncio.gather(*(bench.run("sh", "-c", "exit 2") for _ in range(4)))
        assert [code for code, _ in results] == [2] * 4
        assert bench.shims.spawner_pid not in (0, spawner)
        assert await end(before) == 137

    play(story)


def test_spawner_and_engine_and_a_shim_at_once(play: Play) -> None:
    async def story(bench: Bench) -> None:
        lives = await bench.launch("sh", "-c", "read x; exit 3", stdin="open")
        dies = await bench.launch("sleep", "600")
        shims = set(await bench.named_shims(2))
        os.kill(bench.shims.spawner_pid, signal.SIGKILL)
        [victim] = [pid for pid in shims if str(dies.pid) in children_of(pid)]
        os.kill(victim, signal.SIGKILL)
        await bench.abandon()
        assert isinstance(await bench.shims.adopt(dies.container_id, 1), ExitRecord)
        await bench.shims.forget(dies.container_id, 1)
        handle = await adopt(bench, lives.container_id)
        client, attachment = connect(stdin=True)
        await handle.attach(attachment)
        await client.write(b"\n")
        assert (await handle.exited).exit_code == 3
        await handle.release()
        client.close()

    play(story)


def children_of(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return file.read().split()


def test_the_spawner_ends_with_the_engine(play: Play) -> None:
    async def story(bench: Bench) -> None:
        spawner = bench.shims.spawner_pid
        await bench.shims.close()
        assert not is_alive(spawner)

    play(story)


def test_a_start_that_another_engine_has_given_up_does_not_happen(play: Play) -> None:
    async def story(bench: Bench) -> None:
        folder = bench.run_dir / "containers" / ("a" * 64) / "1"
        folder.mkdir(parents=True)
        assert await bench.shims.adopt("a" * 64, 1) is None
        assert not folder.exists()

    play(story)


def test_starts_of_one_container_have_folders_of_their_own(play: Play) -> None:
    async def story(bench: Bench) -> None:
        container_id = "b" * 64
        for generation in (1, 2):
            handle = await bench.launch("true", container_id=container_id, generation=generation)
            folders = list(bench.run_dir.joinpath("containers", container_id).iterdir())
            assert [folder.name for folder in folders] == [str(generation)]
            await handle.exited
            await handle.release()

    play(story)


@pytest.mark.parametrize("delay_s", [0, 0.001, 0.002, 0.004, 0.006, 0.009, 0.013, 0.02])
def test_an_engine_that_dies_during_a_start_leaves_nothing_that_nobody_finds(
    play: Play, delay_s: float
) -> None:
    async def story(bench: Bench) -> None:
        container_id = "d" * 64
        starting = asyncio.create_task(bench.launch("sleep", "600", container_id=container_id))
        await asyncio.sleep(delay_s)
        for task in asyncio.all_tasks():
            if "_launch" in str(task.get_coro()):
                task.cancel()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await bench.abandon()
        found = await bench.shims.adopt(container_id, 1)
        if isinstance(found, ShimHandle):
            assert await end(found) == 137
        await bench.shims.forget(container_id, 1)
        await wait_until(lambda: not bench.shim_pids() and not bench.cgroups())

    play(story)


def test_an_upgrade_under_running_shims(
    tmp_path: Path, busybox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shim imports nothing after its fork: the files may be gone, or be another version's."""
    copy = tmp_path / "installed"
    shutil.copytree(Path(wherry.__file__).parent, copy / "wherry")
    monkeypatch.setattr(
        "wherry.engine.spawner.SPAWNER_PROGRAM", str(copy / "wherry/shim/__main__.py")
    )

    async def story() -> None:
        bench = Bench(tmp_path, busybox)
        await bench.shims.start()
        shutil.rmtree(copy)
        client, attachment = connect(stdin=True)
        handle = await bench.launch(
            "sh", "-c", "seq 1 9999; cat", stdin="once", attachments=[attachment],
            max_size=10_000, max_file=9, compress=True,
        )  # fmt: skip
        await client.read_until(b"9999\n")
        assert await bench.exec(handle, "sh", "-c", "tty", terminal=True) == (0, b"/dev/pts/0\r\n")
        for args in (["nope"], []):
            with pytest.raises(ShimLaunchError):
                await bench.exec(handle, *args)
            with pytest.raises(ShimLaunchError):
                await bench.launch(*args)
        client.end_input()
        assert (await handle.exited).exit_code == 0
        await handle.release()
        client.close()
        await bench.shims.close()
        bench.clean()

    asyncio.run(story())


def test_garbage_on_the_shims_socket_is_refused_and_forgotten(play: Play) -> None:
    async def story(bench: Bench) -> None:
        old = await bench.launch("sleep", "600")
        await bench.abandon()
        folder = bench.run_dir / "containers" / old.container_id / "1"
        folder_fd = os.open(folder, os.O_RDONLY)
        for garbage in (b"?", b'J{"version":7,"op":"hello"}', b"J" + b"x" * 100_000):
            stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stranger.connect(f"/proc/self/fd/{folder_fd}/shim.sock")
            stranger.send(garbage)
            stranger.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(stranger, 100) == b""
            stranger.close()
        os.close(folder_fd)
        assert await end(await adopt(bench, old.container_id)) == 137

    play(story)
