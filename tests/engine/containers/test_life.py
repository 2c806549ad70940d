"""A container's life with real shims: what the records, the events and the kernel say at each step."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.engine.containers.conftest import Place
from tests.engine.containers.rig import Client, Rig, names, running_rig
from tests.engine.shims.conftest import build_process

from wherry.engine.containers import stop
from wherry.engine.containers.requests import AttachOptions, LogOptions
from wherry.engine.shims import Attachment, ExecRequest
from wherry.model.container import (
    ContainerConfig,
    ExecConfig,
    Healthcheck,
    HealthStatus,
    HostConfig,
    Resources,
    RestartPolicy,
    Status,
)
from wherry.model.errors import (
    Conflict,
    ContainerNotRunning,
    NoSuchContainer,
    NotModified,
    StartFailed,
)


def tell(place: Place, story: Callable[[Rig], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running_rig(place.folder, place.tag) as rig:
            await story(rig)

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().split()[3])


def actions(events: list[tuple[str, str]], kind: str = "container") -> list[str]:
    return [action for found, action in events if found == kind]


async def record_events(rig: Rig, story: Awaitable[None]) -> list[tuple[str, str]]:
    subscription = rig.events.subscribe({})
    await story
    subscription.finish()
    return [(event.type, event.action) async for event in subscription]


def test_run_to_the_end(place: Place) -> None:
    async def story(rig: Rig) -> None:
        async def life() -> None:
            assert await rig.run("sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\nerr\n")

        events = await record_events(rig, life())
        assert actions(events) == ["create", "attach", "start", "die", "destroy"]
        assert actions(events, "network") == ["connect", "disconnect"]

    tell(place, story)


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        ("nope", 127, 'exec: "nope": executable file not found in $PATH'),
        ("/nope", 127, 'exec: "/nope": stat /nope: no such file or directory'),
        ("/etc", 126, 'exec: "/etc": is a directory: permission denied'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_what_cannot_be_started(place: Place, command: str, code: int, sentence: str) -> None:
    async def story(rig: Rig) -> None:
        identity = await rig.create(command)
        with pytest.raises(StartFailed) as caught:
            await rig.services.containers.start(identity)
        assert str(caught.value).endswith(f"error during container init: {sentence}")
        present = rig.services.containers.get(identity).state
        assert (present.status, present.exit_code) == (Status.CREATED, code)
        assert present.error == str(caught.value)
        await rig.services.containers.remove(identity)

    tell(place, story)


def test_stop_asks_then_kills_even_when_the_caller_goes(place: Place) -> None:
    async def story(rig: Rig) -> None:
        containers = rig.services.containers
        await rig.start("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done", name="deaf")
        began = time.monotonic()
        asked = asyncio.ensure_future(containers.stop("deaf", timeout_s=1))
        await asyncio.sleep(0.1)
        asked.cancel()
        assert await rig.wait("deaf") == 137
        assert time.monotonic() - began > 0.9
        with pytest.raises(NotModified):
            await containers.stop("deaf")
        await containers.start("deaf")
        with pytest.raises(NotModified):
            await containers.start("deaf")
        with pytest.raises(Conflict, match="stop the container before removing or force remove"):
            await containers.remove("deaf")
        await containers.remove("deaf", force=True)
        with pytest.raises(NoSuchContainer):
            containers.get("deaf")

    tell(place, story)


def test_a_program_that_has_just_begun_sees_its_signal(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "_YOUTH_NS", 60_000_000_000)  # however slow the machine
    script = "usleep 50000; trap 'exit 7' TERM; while :; do usleep 5000; done"

    async def story(rig: Rig) -> None:
        containers = rig.services.containers
        for end in ("kill", "stop"):
            identity = await rig.start("sh", "-c", script)
            if end == "kill":
                await containers.kill(identity, "TERM")
            else:
                await containers.stop(identity, timeout_s=60)
            assert await rig.wait(identity) == 7
            await containers.remove(identity)

    tell(place, story)


def test_pause_and_kill(place: Place) -> None:
    async def story(rig: Rig) -> None:
        containers = rig.services.containers
        await rig.start("sleep", "100", name="frozen")
        await containers.pause("frozen")
        assert containers.get("frozen").state.status is Status.PAUSED
        with pytest.raises(Conflict, match="is paused, unpause the container before exec"):
            await rig.services.execs.create("frozen", ExecConfig(cmd=("true",)))
        await containers.kill("frozen")
        assert containers.get("frozen").state.exit_code == 137
        with pytest.raises(Conflict, match="cannot kill container: frozen: container"):
            await containers.kill("frozen")
        await containers.remove("frozen")

    tell(place, story)


def test_restart_keeps_an_auto_removed_container(place: Place) -> None:
    async def story(rig: Rig) -> None:
        containers = rig.services.containers
        identity = await rig.start("sleep", "100", host=HostConfig(auto_remove=True))
        before = containers.get(identity).state.pid
        await containers.restart(identity, timeout_s=0)
        assert containers.get(identity).state.pid not in {0, before}
        waiter = await containers.begin_wait(identity, "removed")
        await containers.kill(identity)
        assert (await waiter.result()).exit_code == 137

    tell(place, story)


def test_restart_policy_counts(place: Place) -> None:
    async def story(rig: Rig) -> None:
        policy = RestartPolicy(name="on-failure", maximum_retry_count=2)
        host = HostConfig(restart_policy=policy)
        identity = await rig.start("false", host=host)
        record = rig.services.containers.get
        await until(lambda: record(identity).state.status is Status.EXITED)
        assert record(identity).state.restart_count == 2
        await rig.services.containers.remove(identity)

    tell(place, story)


def test_a_container_between_two_runs_can_be_stopped(place: Place) -> None:
    async def story(rig: Rig) -> None:
        containers = rig.services.containers
        host = HostConfig(restart_policy=RestartPolicy(name="always"))
        await rig.start("false", name="again", host=host)
        await until(lambda: containers.get("again").state.status is Status.RESTARTING)
        await containers.stop("again")
        assert containers.get("again").state.status is Status.EXITED
        await containers.remove("again")

    tell(place, story)


def test_execs(place: Place) -> None:
    async def story(rig: Rig) -> None:
        await rig.start("sleep", "100", name="host")
        assert await rig.exec("host", "sh", "-c", "echo $((40+2)); exit 5") == (5, "42\n")
        code, output = await rig.exec("host", "nope")
        assert code == 127
        assert output == (
            "OCI runtime exec failed: exec failed: unable to start container process: "
            'exec: "nope": executable file not found in $PATH\r\n'
        )
        assert await rig.exec("host", "pwd", working_dir="/tmp") == (0, "/tmp\n")
        execs = rig.services.execs
        done = await execs.create("host", ExecConfig(cmd=("true",)))
        await execs.start(done, detach=True)
        await until(lambda: execs.get(done).exit_code == 0)
        with pytest.raises(Conflict, match=f"exec command {done} has already run"):
            await execs.start(done, detach=True)
        await rig.services.containers.kill("host")
        with pytest.raises(ContainerNotRunning):
            await execs.create("host", ExecConfig(cmd=("true",)))
        await rig.services.containers.remove("host")

    tell(place, story)


def test_an_exec_that_its_engine_could_not_store_ends_for_its_client(place: Place) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        with ours:
            async with running_rig(place.folder, place.tag) as rig:
                identity = await rig.start("sleep", "100")
                shim = rig.services.roster.get(identity).shim
                assert shim is not None
                request = ExecRequest(
                    exec_id="e" * 64,
                    process=build_process(["cat"]),
                    stdin=True,
                    attachments=[Attachment(fd=theirs.detach(), stdin=True)],
                )
                await shim.exec(request)
                shim._peer.close()  # as the kernel does when the engine is killed
                os.close(shim.pidfd)
            async with running_rig(place.folder, place.tag) as rig:
                ours.setblocking(False)
                ours.shutdown(socket.SHUT_WR)
                async with asyncio.timeout(60):
                    assert await asyncio.get_running_loop().sock_recv(ours, 100) == b""
                await rig.services.containers.remove(identity, force=True)

    asyncio.run(run())


def test_a_client_that_attaches_and_goes_before_the_start(place: Place) -> None:
    async def story(rig: Rig) -> None:
        identity = await rig.create("echo", "hello")
        handle = rig.services.roster.get(identity)
        gone, stays = Client(), Client()
        options = AttachOptions(stream=True, stdout=True)
        for client in (gone, stays):
            await rig.services.containers.attach(identity, options, client.hijack)
        assert len(handle.clients) == 2
        gone.close()
        await until(lambda: len(handle.clients) == 1)
        await rig.services.containers.start(identity)
        assert await stays.read() == "hello\n"
        await rig.wait(identity)
        await rig.services.containers.remove(identity)

    tell(place, story)


def test_clients_of_a_start_that_fails_see_the_end(place: Place) -> None:
    async def story(rig: Rig) -> None:
        identity = await rig.create("nope")
        client = Client()
        options = AttachOptions(stream=True, stdout=True)
        await rig.services.containers.attach(identity, options, client.hijack)
        with pytest.raises(StartFailed):
            await rig.services.containers.start(identity)
        assert await client.read() == ""
        await rig.services.containers.remove(identity)

    tell(place, story)


def test_logs(place: Place) -> None:
    async def story(rig: Rig) -> None:
        containers = rig.services.containers
        program = "echo one; echo two >&2; sleep 0.2; echo three"
        identity = await rig.start("sh", "-c", program)
        followed = await containers.logs(identity, LogOptions(follow=True, stderr=False))
        assert [frame[8:] async for frame in followed.frames][-1].endswith(b"three\n")
        tail = await containers.logs(identity, LogOptions(tail=1))
        assert [frame[8:] async for frame in tail.frames] == [b"three\n"]
        await containers.remove(identity)

    tell(place, story)


def test_limits_can_be_changed(place: Place) -> None:
    async def story(rig: Rig) -> None:
        containers = rig.services.containers
        await rig.start("sleep", "100", name="grown")
        limits = Resources(memory=100 << 20, memory_swap=100 << 20)
        await containers.update("grown", limits, None)
        samples = containers.stats("grown", stream=False, one_shot=True)
        async for sample in samples:
            assert sample.memory.limit == 100 << 20
            assert sample.networks is not None
            assert "eth0" in sample.networks
        with pytest.raises(Conflict, match="update the memoryswap at the same time"):
            await containers.update("grown", Resources(memory=200 << 20), None)
        await containers.rename("grown", "renamed")
        assert (await containers.top("renamed", "-o pid,comm")).titles == ("PID", "COMMAND")
        await containers.remove("renamed", force=True)

    tell(place, story)


def test_health_checks_tell_the_state(place: Place) -> None:
    async def story(rig: Rig) -> None:
        check = Healthcheck(test=("CMD-SHELL", "test -e /ok"), interval=50_000_000, retries=2)
        config = ContainerConfig(image="busybox", cmd=("sleep", "100"), healthcheck=check)
        identity = await rig.create(config=config)
        await rig.services.containers.start(identity)

        def status() -> HealthStatus | None:
            health = rig.services.containers.get(identity).state.health
            return health.status if health is not None else None

        assert status() is HealthStatus.STARTING
        await until(lambda: status() is HealthStatus.UNHEALTHY)
        await rig.exec(identity, "touch", "/ok")
        await until(lambda: status() is HealthStatus.HEALTHY)
        await rig.services.containers.remove(identity, force=True)

    tell(place, story)


def test_a_health_check_that_takes_too_long_is_ended(place: Place) -> None:
    async def story(rig: Rig) -> None:
        check = Healthcheck(
            test=("CMD-SHELL", "echo asked; sleep 300"),
            interval=50_000_000,
            timeout=200_000_000,
            retries=1,
        )
        config = ContainerConfig(image="busybox", cmd=("sleep", "100"), healthcheck=check)
        identity = await rig.create(config=config)
        await rig.services.containers.start(identity)

        async def events() -> None:
            subscription = rig.events.subscribe({})
            async for event in subscription:
                if event.action == "exec_die":
                    assert event.attributes["exitCode"] == "137"
                    return

        await events()
        health = rig.services.containers.get(identity).state.health
        assert health is not None
        assert health.status is HealthStatus.UNHEALTHY
        assert health.log[0].output == "Health check exceeded timeout (200ms): asked\n"
        await rig.services.containers.remove(identity, force=True)

    tell(place, story)


def test_a_volume_of_the_image_takes_the_images_files_and_goes_with_rm(place: Place) -> None:
    async def story(rig: Rig) -> None:
        config = ContainerConfig(image="busybox", cmd=("cat", "/etc/group"), volumes=("/etc",))
        identity = await rig.create(config=config)
        volume = rig.services.containers.get(identity).mount_points[0]
        assert volume.type == "volume"
        assert "passwd" in names(Path(volume.source))
        await rig.services.containers.start(identity)
        await rig.wait(identity)
        await rig.services.containers.remove(identity, volumes=True)
        assert rig.volumes.list_all() == []

    tell(place, story)


def test_a_container_whose_shim_was_killed_ends_as_137_and_is_freed(place: Place) -> None:
    async def story(rig: Rig) -> None:
        containers = rig.services.containers
        for name in ("runs", "paused"):
            await rig.start("sleep", "100", name=name)
        await containers.pause("paused")
        for name in ("runs", "paused"):
            pid = containers.get(name).state.pid
            os.kill(parent_of(pid), signal.SIGKILL)
            assert await rig.wait(name) == 137
            assert "shim ended unexpectedly" in containers.get(name).state.error
            await containers.start(name)
            await containers.remove(name, force=True)

    tell(place, story)


def test_namespaces_of_other_containers(place: Place) -> None:
    async def story(rig: Rig) -> None:
        await rig.start("sleep", "100", name="donor", host=HostConfig(ipc_mode="shareable"))
        address = (await rig.exec("donor", "hostname", "-i"))[1]
        modes = HostConfig(
            network_mode="container:donor", pid_mode="container:donor", ipc_mode="container:donor"
        )
        assert (await rig.run("hostname", "-i", host=modes)) == (0, address)
        assert "sleep 100" in (await rig.run("ps", host=modes))[1]
        await rig.exec("donor", "touch", "/dev/shm/shared")
        assert (await rig.run("ls", "/dev/shm", host=modes)) == (0, "shared\n")
        await rig.services.containers.stop("donor", timeout_s=0)
        identity = await rig.create("true", host=modes)
        with pytest.raises(
            Conflict, match="cannot join network namespace of a non running container: container"
        ):
            await rig.services.containers.start(identity)
        for ref in (identity, "donor"):
            await rig.services.containers.remove(ref)

    tell(place, story)
