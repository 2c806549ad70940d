"""Routes of containers over a fake service: answers byte by byte, and what the service is asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.api.dialogue import build_application, connect, run
from wherry.api.routes.containers import ContainerRoutes
from wherry.api.server import Application
from wherry.engine.containers.requests import AttachOptions, LogOptions, LogStream
from wherry.model.container import (
    Container,
    ContainerConfig,
    ContainerId,
    ContainerState,
    Endpoint,
    EndpointConfig,
    Exec,
    ExecConfig,
    ExecId,
    HostConfig,
    Mount,
    MountPoint,
    PortBinding,
    Status,
    TmpfsOptions,
)
from wherry.model.errors import NoSuchContainer, NotModified, StartFailed
from wherry.model.views import (
    ContainerDetails,
    ContainerSummary,
    PathStat,
    ProcessTable,
    PruneReport,
    WaitResult,
)

GOLDEN = Path(__file__).parent / "golden"
ID = ContainerId("0c47fecce20b076ed37720f8d9e17093f793ae9450ac0ff5cba112c22faba7bb")
NETWORK = "344a48bf7bced4d8fa81feca10f2bbb889046451009c2829e29db09fd1f6f58c"

RUNNING = Container(
    id=ID,
    name="web",
    created="2026-11-24T04:19:06.493142919Z",
    image_id="sha256:d12ce20e6f0792c24cc8acc514fda0908f511fbf6206e4de56b5ff754e2adb26",
    image_ref="busybox",
    path="sleep",
    args=("1000", "a b"),
    config=ContainerConfig(
        hostname="0c47fecce20b",
        exposed_ports=("80/tcp", "99/tcp"),
        env=("PATH=/bin",),
        cmd=("sleep", "1000"),
        image="busybox",
        labels={"a": "b"},
    ),
    host_config=HostConfig(
        binds=("vol:/data",),
        network_mode="bridge",
        port_bindings={"80/tcp": (PortBinding(host_port="8080"),)},
        mounts=(Mount(type="tmpfs", target="/t", tmpfs_options=TmpfsOptions(size_bytes=1 << 20)),),
        cgroupns_mode="host",
        ipc_mode="private",
        shm_size=64 << 20,
        runtime="wherry",
        oom_kill_disable=False,
        masked_paths=("/proc/acpi",),
        readonly_paths=("/proc/sys",),
    ),
    networks={"bridge": EndpointConfig()},
    endpoints={
        "bridge": Endpoint(
            network_id=NETWORK,
            endpoint_id="5dfcf580fab4790af063aba8e07e573f034970b69cbaf0807e5dee3dfa77697e",
            gateway="172.17.0.1",
            ip_address="172.17.0.2",
            ip_prefix_len=16,
            mac_address="86:35:2c:b8:1b:fb",
        )
    },
    ports={"80/tcp": (PortBinding(host_ip="0.0.0.0", host_port="8080"),)},
    mount_points=(
        MountPoint(
            type="volume",
            name="vol",
            source="/v/vol/_data",
            destination="/data",
            driver="local",
            mode="z",
        ),
    ),
    state=ContainerState(
        status=Status.RUNNING,
        pid=15288,
        started_at="2026-11-24T04:19:06.506759568Z",
        has_been_started=True,
    ),
)


class FakeWaiter:
    """A wait that is answered when the test says so."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        self.closed = False

    async def result(self) -> WaitResult:
        return await self.answer

    def close(self) -> None:
        self.closed = True


class FakeContainers:
    """Knows the container `web`, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.waiter: FakeWaiter | None = None
        self.spare: int | None = None
        self.error: Exception | None = None

    def _note(self, *words: object) -> None:
        self.asked.append(words)
        if self.error is not None:
            raise self.error

    def get(self, ref: str) -> Container:
        if ref != "web":
            raise NoSuchContainer(ref)
        return RUNNING

    async def create(self, *words: object) -> tuple[ContainerId, tuple[str, ...]]:
        self._note("create", *words)
        return ID, ("a warning",)

    async def list_all(self, **words: object) -> list[ContainerSummary]:
        self._note("list", words)
        return [
            ContainerSummary(
                container=RUNNING, status="Up 2 minutes", image="busybox", size_rw=5, size_root_fs=7
            )
        ]

    async def inspect(self, ref: str, *, size: bool) -> ContainerDetails:
        self.get(ref)
        folder = f"/root/containers/{ID}"
        return ContainerDetails(
            container=RUNNING,
            log_path=f"{folder}/{ID}-json.log",
            hostname_path=f"{folder}/hostname",
            hosts_path=f"{folder}/hosts",
            resolv_conf_path=f"{folder}/resolv.conf",
            graph_data={"UpperDir": "/up"},
            size_rw=5 if size else None,
        )

    async def start(self, ref: str) -> None:
        self._note("start", ref)

    async def stop(self, *words: object) -> None:
        self._note("stop", *words)

    async def kill(self, *words: object) -> None:
        self._note("kill", *words)

    async def remove(self, ref: str, **words: object) -> None:
        self._note("remove", ref, words)

    async def prune(self, filters: Mapping[str, object]) -> PruneReport:
        self._note("prune", filters)
        return PruneReport(reclaimed_bytes=3)

    async def begin_wait(self, ref: str, condition: str, spare: int | None) -> FakeWaiter:
        self._note("wait", ref, condition)
        self.spare = spare
        self.waiter = FakeWaiter()
        return self.waiter

    async def attach(self, ref: str, options: AttachOptions, hijack: object) -> None:
        self._note("attach", ref, options)

    async def logs(self, ref: str, options: LogOptions) -> LogStream:
        self._note("logs", ref, options)

        async def frames():
            yield b"\x01\0\0\0\0\0\0\x02hi"

        return LogStream(multiplexed=True, frames=frames())

    async def top(self, ref: str, ps_args: str) -> ProcessTable:
        self._note("top", ref, ps_args)
        return ProcessTable(titles=("PID", "CMD"), processes=(("1", "sleep"),))

    async def archive_stat(self, ref: str, path: str) -> PathStat:
        return PathStat(name="passwd", size=116, mode=420, mtime="1970-01-01T00:00:00Z")


class FakeExecs:
    """One exec."""

    async def create(self, ref: str, config: ExecConfig) -> ExecId:
        return ExecId("e" * 64)

    def get(self, exec_id: str) -> Exec:
        return Exec(
            id=ExecId("e" * 64),
            container_id=ID,
            config=ExecConfig(cmd=("echo", "hi"), attach_stdout=True),
        )


def build(fake: FakeContainers) -> Application:
    routes = ContainerRoutes(fake, FakeExecs(), b"").routes()  # type: ignore[arg-type]  # fakes
    return build_application(routes)


def check_golden(name: str, body: bytes, *, update: bool) -> None:
    path = GOLDEN / f"{name}.json"
    text = json.dumps(json.loads(body), indent=1) + "\n"
    if update:
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("container-inspect", "/v1.51/containers/web/json?size=1"),
        ("container-list", "/v1.51/containers/json"),
        ("exec-inspect", "/exec/x/json"),
        ("container-top", "/containers/web/top"),
    ],
)
def test_golden(name: str, target: str, update_golden: bool) -> None:
    async def talk() -> None:
        async with connect(build(FakeContainers())) as client:
            status, headers, body = await client.request("GET", target)
            assert (status, headers["content-type"]) == (200, "application/json")
            assert body.endswith(b"\n")
            check_golden(name, body, update=update_golden)

    run(talk)


def test_list_passes_its_parameters_on() -> None:
    async def talk() -> None:
        fake = FakeContainers()
        async with connect(build(fake)) as client:
            await client.request(
                "GET",
                "/containers/json?all=1&limit=3&size=true&filters=%7B%22name%22:%7B%22a%22:true%7D%7D",
            )
            assert fake.asked == [
                ("list", {"all_": True, "limit": 3, "size": True, "filters": {"name": ["a"]}})
            ]
            status, _, body = await client.request("GET", "/containers/json?limit=abc")
            assert status == 500
            assert body == b'{"message":"strconv.Atoi: parsing \\"abc\\": invalid syntax"}\n'

    run(talk)


@pytest.mark.parametrize(
    ("content_type", "body", "sentence"),
    [
        ("", b"{}", "malformed Content-Type header (): mime: no media type"),
        (
            "text/plain",
            b"{}",
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        ("application/json", b"{}", "config cannot be empty in order to create a container"),
        ("application/json; charset=utf-8", b'{"Image":"x"} y', "unexpected content after JSON"),
        ("application/json", b'{"Image":', "invalid JSON: unexpected EOF"),
    ],
)
def test_create_refuses(content_type: str, body: bytes, sentence: str) -> None:
    async def talk() -> None:
        fake = FakeContainers()
        async with connect(build(fake)) as client:
            status, _, answer = await client.request(
                "POST", "/containers/create", body, content_type
            )
            assert (status, json.loads(answer)) == (400, {"message": sentence})
            assert not fake.asked

    run(talk)


def test_create_answers_id_and_warnings() -> None:
    async def talk() -> None:
        fake = FakeContainers()
        async with connect(build(fake)) as client:
            status, _, body = await client.request(
                "POST",
                "/v1.40/containers/create?name=/x&platform=linux/arm64",
                b'{"Image":"busybox","Env":null,"HostConfig":{"Memory":5}}',
                "application/json",
            )
            assert status == 201
            assert json.loads(body) == {"Id": ID, "Warnings": ["a warning"]}
            _, name, config, host, networks, platform = fake.asked[0]
            assert (name, networks) == ("x", {})
            assert isinstance(config, ContainerConfig)
            assert config.image == "busybox"
            assert isinstance(host, HostConfig)
            assert (host.memory, host.cgroupns_mode) == (5, "host")  # the default before API 1.41
            assert getattr(platform, "architecture", "") == "arm64"

    run(talk)


def test_start_with_a_body_is_refused_and_what_is_so_already_is_304() -> None:
    async def talk() -> None:
        fake = FakeContainers()
        async with connect(build(fake)) as client:
            status, _, _ = await client.request("POST", "/containers/web/start", b'{"a":1}')
            assert status == 400
        async with connect(build(fake)) as client:
            assert (await client.request("POST", "/containers/web/start"))[0] == 204
            fake.error = NotModified("container is already started")
            status, headers, body = await client.request("POST", "/containers/web/start")
            assert (status, body) == (304, b"")
            assert "content-length" not in headers
            fake.error = StartFailed('exec: "x": executable file not found in $PATH: unknown', 127)
            assert (await client.request("POST", "/containers/web/start"))[0] == 400

    run(talk)


def test_stop_knows_signal_since_1_42() -> None:
    async def talk() -> None:
        fake = FakeContainers()
        async with connect(build(fake)) as client:
            await client.request("POST", "/v1.42/containers/web/stop?t=5&signal=INT")
            await client.request("POST", "/v1.41/containers/web/stop?signal=INT")
            assert fake.asked == [("stop", "web", "INT", 5), ("stop", "web", None, None)]

    run(talk)


def test_wait_sends_its_head_before_the_end_and_leaves_a_spare() -> None:
    async def talk() -> None:
        fake = FakeContainers()
        async with connect(build(fake)) as client:
            await client.send(b"POST /containers/web/wait?condition=next-exit HTTP/1.1\r\n\r\n")
            assert b"chunked" in await client.read_until(b"\r\n\r\n")
            assert fake.asked == [("wait", "web", "next-exit")]
            assert fake.waiter is not None
            fake.waiter.answer.set_result(WaitResult(exit_code=3))
            assert await client.read_until(b"0\r\n\r\n") == b'11\r\n{"StatusCode":3}\n\r\n0\r\n\r\n'
            assert fake.spare is not None
            import os

            os.close(fake.spare)
            assert (await client.request("POST", "/containers/web/wait?condition=x"))[2] == (
                b'{"message":"invalid condition: \\"x\\""}\n'
            )
            assert (await client.request("POST", "/containers/nope/wait"))[0] == 404

    run(talk)


def test_a_wait_is_given_up_with_its_client() -> None:
    async def talk() -> None:
        fake = FakeContainers()
        async with connect(build(fake)) as client:
            await client.send(b"POST /containers/web/wait HTTP/1.1\r\n\r\n")
            await client.read_until(b"\r\n\r\n")
            client.close()
        assert fake.waiter is not None
        assert fake.spare is not None
        import os

        os.close(fake.spare)
        async with asyncio.timeout(60):
            while not fake.waiter.closed:  # noqa: ASYNC110 - the fake has no event for it
                await asyncio.sleep(0)

    run(talk)


def test_logs_are_labelled_by_version() -> None:
    async def talk() -> None:
        fake = FakeContainers()
        async with connect(build(fake)) as client:
            target = "containers/web/logs?stdout=1&tail=all&since=1.5&follow=1"
            _, headers, body = await client.request("GET", f"/v1.51/{target}")
            assert headers["content-type"] == "application/vnd.docker.multiplexed-stream"
            assert body == b"\x01\0\0\0\0\0\0\x02hi"
            _, headers, _ = await client.request("GET", f"/v1.41/{target}")
            assert headers["content-type"] == "application/vnd.docker.raw-stream"
            options = fake.asked[0][2]
            assert options == LogOptions(
                stdout=True, stderr=False, since_ns=1_500_000_000, follow=True
            )

    run(talk)


def test_path_stat_is_in_a_header() -> None:
    async def talk() -> None:
        async with connect(build(FakeContainers())) as client:
            _, headers, _ = await client.request("HEAD", "/containers/web/archive?path=/etc/passwd")
            assert headers["x-docker-container-path-stat"] == (
                "eyJuYW1lIjoicGFzc3dkIiwic2l6ZSI6MTE2LCJtb2RlIjo0MjAsIm10aW1lIjoiMTk3MC0wMS0wMVQwMDowMDow"
                "MFoiLCJsaW5rVGFyZ2V0IjoiIn0="
            )

    run(talk)


def test_prune_of_nothing_is_null() -> None:
    async def talk() -> None:
        async with connect(build(FakeContainers())) as client:
            _, _, body = await client.request("POST", "/containers/prune")
            assert body == b'{"ContainersDeleted":null,"SpaceReclaimed":3}\n'

    run(talk)
