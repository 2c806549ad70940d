"""Start, output, exit codes, failures: the straight way."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import os
import secrets
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine.shims.conftest import Bench, Story, connect, wait_until

from wherry.engine.shims import ShimLaunchError
from wherry.kernel import syscalls
from wherry.kernel.consts import MNT
from wherry.logs.reader import LogReader
from wherry.shim.streams import DRAIN_S

Play = Callable[[Story], None]


def test_output_and_exit_code(play: Play) -> None:
    async def story(bench: Bench) -> None:
        assert await bench.run("echo", "hi") == (0, "hi\n")
        assert await bench.run("sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\nerr\n")

    play(story)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 1", 1), ("exit 255", 255), ("true; exit 126", 126)]
)
def test_exit_codes(play: Play, script: str, code: int) -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.run("sh", "-c", script))[0] == code

    play(story)


def test_signals_end_as_128_and_more(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sleep", "600")
        handle.send_signal(signal.SIGKILL)
        assert (await handle.exited).exit_code == 128 + signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            handle.send_signal(signal.SIGTERM)
        await handle.release()

    play(story)


@pytest.mark.parametrize(
    ("args", "number"),
    [(["nope"], errno.ENOENT), (["/etc"], errno.EISDIR), (["/etc/passwd"], errno.EACCES)],
)
def test_program_that_cannot_be_executed(play: Play, args: list[str], number: int) -> None:
    async def story(bench: Bench) -> None:
        client, attachment = connect()
        with pytest.raises(ShimLaunchError) as caught:
            await bench.launch(*args, attachments=[attachment])
        assert caught.value.step == "exec"
        assert caught.value.errno == number
        assert await client.read_to_end() == b""

    play(story)


def test_spec_that_cannot_work(play: Play) -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(ShimLaunchError):
            await bench.launch()

    play(story)


def test_output_is_complete_at_the_exit(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sh", "-c", "seq 1 200000; seq 1 100 >&2; printf end")
        await handle.exited
        lines = bench.read_log(handle.container_id).split("\n")
        await handle.release()
        assert len(lines) == 200101
        assert "end" in lines

    play(story)


def test_output_without_newline_in_bounded_memory(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sh", "-c", "head -c 67108864 /dev/zero | tr '\\0' x")
        [shim] = await bench.named_shims(1)
        await handle.exited
        assert read_kib(f"/proc/{shim}/status", "VmHWM") < 40_000
        await handle.release()
        path = bench.log_path(handle.container_id)
        with path.open("rb") as log:
            sizes = [len(json.loads(line)["log"]) for line in log]
        assert sizes == [16384] * 4096

    play(story)


def test_out_of_memory(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch(
            "sh", "-c", "exec tail /dev/zero", resources={"memory": {"limit": 16 << 20}}
        )
        record = await handle.exited
        await handle.release()
        assert (record.exit_code, record.oom_killed) == (137, True)

    play(story)


def test_a_full_disk_costs_log_lines_and_nothing_else(play: Play) -> None:
    async def story(bench: Bench) -> None:
        disk = bench.folder / "disk"
        disk.mkdir()
        syscalls.mount(b"tmpfs", bytes(disk), b"tmpfs", 0, b"size=64k")
        try:
            client, attachment = connect()
            handle = await bench.launch(
                "seq", "1", "20000", attachments=[attachment], log_folder=disk
            )
            reading = asyncio.create_task(client.read_to_end())
            assert (await handle.exited).exit_code == 0
            await handle.release()
            assert (await reading).count(b"\n") == 20000
            with LogReader(str(disk / f"{handle.container_id}-json.log")) as reader:
                lines = [int(entry.line) for entry in reader.read()]
            assert lines == list(range(1, len(lines) + 1))
            assert lines
            # A shim that has been released holds nothing of the log's disk.
            syscalls.umount2(bytes(disk), 0)
        except BaseException:
            syscalls.umount2(bytes(disk), MNT.DETACH)
            raise

    play(story)


def test_rotation_and_compression(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch(
            "seq", "1", "20000", max_size=100_000, max_file=40, compress=True
        )
        await handle.exited
        await handle.release()
        await wait_until(lambda: not list(bench.folder.glob("*.tmp")))
        lines = bench.read_log(handle.container_id).split()
        assert lines == [str(number) for number in range(1, 20001)]

    play(story)


def test_children_of_init_in_the_hosts_pid_namespace_end_with_it(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sh", "-c", "sleep 600 & echo started", host_pids=True)
        began = time.monotonic()
        await handle.exited
        assert time.monotonic() - began < DRAIN_S  # what held the output has been ended at once
        await handle.release()
        assert bench.read_log(handle.container_id) == "started\n"

    play(story)


def test_orphans_are_reaped(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch(
            "sh", "-c", "for i in 1 2 3; do (sleep 0 &) & done; exec sleep 600", host_pids=True
        )
        [shim] = await bench.named_shims(1)
        children = Path(f"/proc/{shim}/task/{shim}/children")
        await wait_until(lambda: children.read_text().split() == [str(handle.pid)])
        handle.send_signal(signal.SIGKILL)
        await handle.exited
        await handle.release()

    play(story)


def test_spec_of_more_than_a_datagram(play: Play) -> None:
    async def story(bench: Bench) -> None:
        code, log = await bench.run("sh", "-c", "echo $# $0", "x" * 100_000, *["y"] * 5000)
        assert code == 0
        assert log.startswith("5000 xxx")

    play(story)


def test_many_at_once_leave_nothing(play: Play) -> None:
    async def story(bench: Bench) -> None:
        results = await asyncio.gather(
            *(bench.run("sh", "-c", f"echo {number}; exit {number}") for number in range(24))
        )
        assert results == [(number, f"{number}\n") for number in range(24)]

    play(story)


def test_a_cancelled_launch_is_undone(play: Play) -> None:
    async def story(bench: Bench) -> None:
        task = asyncio.create_task(bench.launch("sleep", "600"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # At once, not some time later: the caller frees the container's address and files now.
        assert not bench.cgroups()
        assert not list(bench.run_dir.joinpath("containers").iterdir())
        await wait_until(lambda: not bench.shim_pids())

    play(story)


def test_an_idle_shim_is_small(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handles = [await bench.launch("sleep", "600") for _ in range(12)]
        sizes = [
            read_kib(f"/proc/{pid}/smaps_rollup", "Pss")
            for pid in await bench.named_shims(len(handles))
        ]
        assert sum(sizes) / len(sizes) < (4000 if bench.is_brief else 2000), sizes
        for handle in handles:
            handle.send_signal(signal.SIGKILL)
        for handle in handles:
            await handle.exited
            await handle.release()

    play(story)


def read_kib(path: str, name: str) -> int:
    with open(path, encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))


def read_oom_score(pid: int) -> int:
    with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def test_a_slot_is_used_and_replaced(play: Play) -> None:
    async def story(bench: Bench) -> None:
        slots = bench.slot_ids()
        assert len(slots) == bench.slots
        handle = await bench.launch("sleep", "600")
        assert (handle.container_id in slots) == bool(bench.slots)
        assert len(bench.slot_ids() & slots) == max(0, bench.slots - 1)
        await bench.fill_slots()
        handle.send_signal(signal.SIGKILL)
        await handle.exited
        await handle.release()

    play(story)


def kill_now(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os.close(pidfd)


def test_a_start_that_follows_another_has_a_slot(play: Play) -> None:
    async def story(bench: Bench) -> None:
        for number in range(6):
            container_id = bench.shims.reserve_id(bench.cgroup_parent, "")
            # From the third on it is one that is being filled.
            assert (container_id is not None) == bool(bench.slots)
            assert await bench.run(
                "echo", str(number), container_id=container_id or "", is_followed=True
            ) == (0, f"{number}\n")
        await bench.fill_slots()

    play(story)


def test_a_slot_that_ends_before_its_start(play: Play) -> None:
    async def story(bench: Bench) -> None:
        for _ in range(bench.slots):
            assert await bench.run("true", is_followed=True) == (0, "")
        container_id = bench.shims.reserve_id(bench.cgroup_parent, "")
        if bench.slots:
            await wait_until(lambda: bool(bench.forked_pids()))
        # In the making or ready, and before the engine's loop has heard of it.
        for pid in bench.forked_pids():
            kill_now(pid)
        assert await bench.run("echo", "hi", container_id=container_id or "") == (0, "hi\n")
        await bench.fill_slots()

    play(story)


def test_a_slot_that_ends_as_it_is_dropped(play: Play) -> None:
    async def story(bench: Bench) -> None:
        failures: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: failures.append(what))
        for pid in bench.forked_pids():
            kill_now(pid)
        # The loop hears of both in one turn.
        await asyncio.create_task(bench.shims.close())
        await wait_until(lambda: not bench.slot_ids())
        gc.collect()
        assert failures == []

    play(story)


def test_a_slot_that_was_killed_is_replaced(play: Play) -> None:
    async def story(bench: Bench) -> None:
        for cgroup in bench.cgroups(slots=True):
            # The shim removes the groups of a helper that has died while we look: ESRCH, ENOENT or ENODEV.
            with contextlib.suppress(OSError):
                for pid in (cgroup / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
        assert await bench.run("echo", "hi") == (0, "hi\n")
        await bench.fill_slots()

    play(story)


def test_slots_cannot_be_told_apart(tmp_path: Path, busybox: Path) -> None:
    """What a container sees of itself is the same, whether it was prepared ahead or not."""
    script = (
        "cat /proc/self/cgroup; sed 's/^[0-9]* [0-9]* [0-9]*:[0-9]* //' /proc/self/mountinfo; "
        "grep -v -E '^(Pid|NSpid|NStgid|NSpgid|NSsid|Tgid|Ngid|Vm|Rss|.*ctxt|Hugetlb|nonvol|voluntary|SigQ)' "
        "/proc/self/status; ls /proc/self/fd | wc -l; cat /proc/self/limits /proc/self/oom_score_adj; "
        "cut -d' ' -f 4-8,18-20,40-41 /proc/self/stat; ls /proc/self/ns; umask; env; "
        "cat /proc/self/sessionid /proc/self/loginuid 2>/dev/null; ls -A /dev /"
    )

    cgroup_parent = f"/wherry-{secrets.token_hex(4)}"

    async def see(slots: int) -> list[str]:
        bench = Bench(tmp_path / str(slots), busybox, slots=slots)
        bench.folder.mkdir()
        bench.cgroup_parent = cgroup_parent
        await bench.shims.start()
        await bench.fill_slots()
        waiting = bench.slot_ids()
        handle = await bench.launch("sh", "-c", script)
        assert (handle.container_id in waiting) == bool(slots)
        assert (await handle.exited).exit_code == 0
        await handle.release()
        await bench.shims.close()
        bench.clean()
        seen = bench.read_log(handle.container_id).replace(handle.container_id, "c" * 64)
        # The kernel lists mounts in the order in which they were made, which is not of one kind.
        return sorted(seen.splitlines())

    seen = [asyncio.run(see(slots)) for slots in (0, 1)]
    assert seen[0] == seen[1]


def test_nothing_of_the_engines_own_scheduling_is_inherited(tmp_path: Path, busybox: Path) -> None:
    """Nice, policy, affinity, umask and signals, of a container's program and of an exec."""
    # Without SIGQUIT, which busybox's shell ignores by itself.
    look = (
        "umask; cut -d' ' -f 19,41 /proc/self/stat; "
        "grep -E '^(Cpus_allowed_list|SigBlk|SigIgn)' /proc/self/status | sed 's/0004$/0000/'"
    )

    async def look_from_inside(slots: int) -> list[str]:
        bench = Bench(tmp_path / str(slots), busybox, slots=slots)
        bench.folder.mkdir()
        await bench.shims.start()
        await bench.fill_slots()
        _, of_init = await bench.run("sh", "-c", look)
        handle = await bench.launch("sleep", "600")
        _, of_exec = await bench.exec(handle, "sh", "-c", look)
        handle.send_signal(signal.SIGKILL)
        await handle.exited
        await handle.release()
        await bench.shims.close()
        bench.clean()
        return [of_init, of_exec.decode()]

    cpus = os.sched_getaffinity(0)
    old_mask = os.umask(0o077)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 7)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.sched_setaffinity(0, range(1024))
        every = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cpus)})
        seen = [text for slots in (0, 1) for text in asyncio.run(look_from_inside(slots))]
    finally:
        os.umask(old_mask)
        os.sched_setaffinity(0, cpus)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    listed = f"{min(every)}-{max(every)}" if len(every) > 1 else f"{min(every)}"
    none = "0" * 16
    wanted = f"0022\n0 0\nSigBlk:\t{none}\nSigIgn:\t{none}\nCpus_allowed_list:\t{listed}\n"
    assert seen == [wanted] * 4


def test_shims_are_apart_from_engine_and_terminal(play: Play) -> None:
    async def story(bench: Bench) -> None:
        handle = await bench.launch("sleep", "600")
        [shim] = await bench.named_shims(1)
        assert os.getsid(shim) == shim
        assert os.readlink(f"/proc/{shim}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
        assert read_oom_score(shim) == read_oom_score(os.getpid()) + 1
        handle.send_signal(signal.SIGKILL)
        await handle.exited
        await handle.release()

    play(story)


def test_interpreter_of_a_shim_cannot_be_written(play: Play) -> None:
    async def story(bench: Bench) -> None:
        fd = os.open(f"/proc/{bench.shims.spawner_pid}/exe", os.O_PATH)
        try:
            assert os.fstatvfs(fd).f_flag & os.ST_RDONLY
        finally:
            os.close(fd)

    play(story)
