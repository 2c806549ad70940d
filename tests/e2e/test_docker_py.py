"""docker-py against the engine: what its own integration tests ask for, and once failed here."""

from __future__ import annotations

import gc
import io
import tarfile
from collections.abc import Iterator

import docker
import pytest
from docker.errors import APIError, BuildError, NotFound
from tests.harness.engine import Engine

# docker-py leaves the connections of streams to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def sdk(engine: Engine, busybox: str) -> Iterator[docker.DockerClient]:
    """A client whose containers, networks and volumes are gone at the end."""
    del busybox
    client = docker.DockerClient(base_url=f"unix://{engine.socket}", timeout=30)
    yield client
    for container in client.containers.list(all=True):
        container.remove(force=True, v=True)
    client.networks.prune()
    client.volumes.prune({"all": "true"})
    client.close()
    gc.collect()  # the SDK leaves sockets of execs to the collector: here, where that is let pass


def pack(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def test_files_go_into_a_volume_before_the_first_start(sdk: docker.DockerClient) -> None:
    made = sdk.api.create_container("busybox", "cat /some/where/file", volumes=["/some/where"])
    container = sdk.containers.get(made["Id"])
    assert container.put_archive("/some/where", pack("file", b"in the volume"))
    container.start()
    container.wait()
    assert container.logs() == b"in the volume"


def test_logs_right_after_the_start(sdk: docker.DockerClient) -> None:
    container = sdk.containers.create("busybox", ["sh", "-c", "echo one; echo two"])
    container.start()
    assert container.logs() == b"one\ntwo\n"


def test_links_on_the_default_bridge(sdk: docker.DockerClient) -> None:
    server = sdk.containers.run(
        "busybox", "sleep 60", detach=True, name="server", ports={"80/tcp": None}
    )
    address = sdk.containers.get(server.id).attrs["NetworkSettings"]["IPAddress"]
    container = sdk.containers.create("busybox", "env", name="asker", links={"server": "db-one"})
    container.start()
    container.wait()
    variables = container.logs().decode().splitlines()
    assert "DB_ONE_NAME=/asker/db-one" in variables
    assert f"DB_ONE_PORT_80_TCP=tcp://{address}:80" in variables
    assert f"DB_ONE_PORT_80_TCP_ADDR={address}" in variables
    sdk.api.remove_container("asker/db-one", link=True)
    with pytest.raises(NotFound):
        sdk.api.remove_container("asker/db-one", link=True)
    container.start()
    container.wait()
    assert container.logs().decode().count("DB_ONE_NAME") == 1


def test_log_options_without_a_driver_and_runc_by_name(sdk: docker.DockerClient) -> None:
    made = sdk.api.create_container(
        "busybox",
        "true",
        runtime="runc",
        host_config=sdk.api.create_host_config(
            log_config=docker.types.LogConfig(type="", config={"max-file": "100"})
        ),
    )
    host_config = sdk.api.inspect_container(made["Id"])["HostConfig"]
    assert host_config["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "100"}}
    assert host_config["Runtime"] == "runc"
    with pytest.raises(APIError, match="unknown or invalid runtime name"):
        sdk.containers.create("busybox", "true", runtime="nope")


def test_a_network_may_have_a_space_in_its_name(sdk: docker.DockerClient) -> None:
    network = sdk.networks.create("test 01")
    assert [found.id for found in sdk.networks.list(names=["test 01"])] == [network.id]
    network.remove()
    with pytest.raises(APIError, match="name is empty"):
        sdk.networks.create(" ")


def test_builds(sdk: docker.DockerClient) -> None:
    with io.BytesIO(b"FROM busybox\nRUN echo oops >&2") as source:
        lines = list(sdk.api.build(fileobj=source, decode=True, rm=True))
    assert {"stream": "\x1b[91moops\n\x1b[0m"} in lines
    assert [lines[0], lines[1]] == [{"stream": "Step 1/2 : FROM busybox"}, {"stream": "\n"}]
    with io.BytesIO(b"FROM scratch\nLABEL a=b") as source:
        lines = list(sdk.api.build(fileobj=source, decode=True, rm=True))
    assert lines[2] == {"stream": " ---> \n"}
    with pytest.raises(BuildError, match="returned a non-zero code: 3") as caught:
        sdk.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 3"))
    assert any("Step 2/2" in line.get("stream", "") for line in caught.value.build_log)

    def build(cache_from: list[str] | None = None) -> int:
        source = io.BytesIO(b"FROM busybox\nENV FOO=bar\nRUN touch baz")
        stream = sdk.api.build(fileobj=source, tag="cached", cache_from=cache_from, decode=True)
        return sum("Using cache" in line.get("stream", "") for line in stream)

    build()
    assert build() == 2
    assert build(["cached"]) == 2
    assert build(["nosuchtag"]) == 0
    sdk.images.remove("cached")


def test_compose_1_finds_the_volumes_of_what_was_built(
    engine: Engine, sdk: docker.DockerClient
) -> None:
    with io.BytesIO(b"FROM busybox\nVOLUME /data") as source:
        sdk.images.build(fileobj=source, tag="voluminous")
    older = docker.APIClient(base_url=f"unix://{engine.socket}", version="1.38")
    found = older.inspect_image("voluminous")
    older.close()
    assert found["ContainerConfig"]["Volumes"] == found["Config"]["Volumes"] == {"/data": {}}
    sdk.images.remove("voluminous")


def test_a_build_step_knows_the_names_of_its_network(sdk: docker.DockerClient) -> None:
    network = sdk.networks.create("building")
    target = sdk.containers.run("busybox", "sleep 60", detach=True)
    network.connect(target, aliases=["target.docker"])
    image, _ = sdk.images.build(
        fileobj=io.BytesIO(b"FROM busybox\nRUN ping -c1 target.docker"), network_mode=network.id
    )
    sdk.images.remove(image.id)


def test_a_commit_of_a_program_that_ends(sdk: docker.DockerClient) -> None:
    for _ in range(3):
        container = sdk.containers.run("busybox", "touch /here", detach=True)
        image = container.commit()
        sdk.images.remove(image.id)


def test_addresses_that_a_network_cannot_give(sdk: docker.DockerClient) -> None:
    ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.221.9.0/24")])
    own = sdk.networks.create("own", ipam=ipam)
    auto = sdk.networks.create("auto")
    container = sdk.containers.run("busybox", "sleep 60", detach=True)
    with pytest.raises(APIError, match="networks with user configured subnets"):
        auto.connect(container, ipv4_address="172.30.0.9")
    with pytest.raises(APIError, match=r"ip-range contain the IP address 10\.221\.10\.9"):
        own.connect(container, ipv4_address="10.221.10.9")
    with pytest.raises(APIError, match="Address already in use"):
        own.connect(container, ipv4_address="10.221.9.1")
    with pytest.raises(APIError, match="invalid config for network bridge"):
        sdk.api.create_container(
            "busybox",
            "true",
            networking_config={
                "EndpointsConfig": {"bridge": {"IPAMConfig": {"IPv4Address": "172.17.0.9"}}}
            },
        )
    own.connect(container, ipv4_address="10.221.9.77")
    container.remove(force=True)


def test_a_reaper_finds_by_label_what_it_removes(sdk: docker.DockerClient) -> None:
    """What Testcontainers' Ryuk does when a session has ended."""
    labels = {"org.testcontainers": "true", "session": "s1"}
    for value in ("s1", "s2"):
        own = {**labels, "session": value}
        sdk.containers.run("busybox", "sleep 60", detach=True, labels=own)
        sdk.networks.create(f"net-{value}", labels=own)
        sdk.volumes.create(f"vol-{value}", labels=own)
    wanted = {"label": ["org.testcontainers=true", "session=s1"]}
    (container,) = sdk.containers.list(all=True, filters=wanted)
    container.remove(force=True, v=True)
    assert sdk.networks.prune(wanted) == {"NetworksDeleted": ["net-s1"]}
    assert sdk.volumes.prune({**wanted, "all": "true"})["VolumesDeleted"] == ["vol-s1"]
    assert sdk.containers.prune(wanted)["ContainersDeleted"] is None
    assert not sdk.images.list(filters=wanted)
    left = sdk.containers.list(filters={"label": "org.testcontainers"})
    assert [found.labels["session"] for found in left] == ["s2"]


def test_a_terminal_is_resized_while_its_exec_starts(sdk: docker.DockerClient) -> None:
    container = sdk.containers.run("busybox", "sleep 60", detach=True)
    command = ["sh", "-c", "until stty size 2>&1 | grep '11 22'; do :; done"]
    made = sdk.api.exec_create(container.id, command, tty=True)
    stream = sdk.api.exec_start(made["Id"], tty=True, stream=True)
    sdk.api.exec_resize(made["Id"], height=11, width=22)
    assert b"".join(stream) == b"11 22\r\n"


def test_the_keys_of_an_exec_as_the_sdk_spells_them(sdk: docker.DockerClient) -> None:
    container = sdk.containers.run("busybox", "sleep 60", detach=True)
    made = sdk.api.exec_create(
        container.id, "cat", stdin=True, stdout=True, tty=True, detach_keys="ctrl-p"
    )
    stream = sdk.api.exec_start(made["Id"], tty=True, socket=True)._sock
    stream.settimeout(30)
    stream.sendall(b"\x10")
    assert not stream.recv(4096), "not detached"
    stream.close()
    assert sdk.api.exec_inspect(made["Id"])["Running"]


def test_what_is_limited_as_the_sdk_spells_it(sdk: docker.DockerClient) -> None:
    container = sdk.containers.create("busybox", "true", cpu_rt_period=1000, cpu_rt_runtime=500)
    host = sdk.api.inspect_container(container.id)["HostConfig"]
    assert (host["CpuRealtimePeriod"], host["CpuRealtimeRuntime"]) == (1000, 500)


def test_a_pool_of_ipv6_where_it_is_off_is_kept_and_not_used(sdk: docker.DockerClient) -> None:
    pool = docker.types.IPAMPool(subnet="2001:389::1/64")
    for name in ("six", "seven"):
        sdk.networks.create(name, ipam=docker.types.IPAMConfig(pool_configs=[pool]))
    found = sdk.networks.get("six").attrs["IPAM"]["Config"]
    assert found[0] == {"Subnet": "2001:389::1/64"}
    container = sdk.containers.create(
        "busybox",
        "ip -6 route",
        network="six",
        networking_config={"six": sdk.api.create_endpoint_config(ipv6_address="2001:389::f00d")},
    )
    container.start()
    container.wait()
    assert b"2001:389" not in container.logs()
    endpoint = sdk.api.inspect_container(container.id)["NetworkSettings"]["Networks"]["six"]
    assert endpoint["IPAMConfig"] == {"IPv6Address": "2001:389::f00d"}


@pytest.mark.parametrize("quiet", [True, False])
def test_a_load_whose_answer_nobody_reads(sdk: docker.DockerClient, *, quiet: bool) -> None:
    with io.BytesIO(b"FROM busybox\nRUN dd if=/dev/urandom of=/noise bs=1M count=20") as source:
        sdk.images.build(fileobj=source, tag="loaded")
    archive = b"".join(sdk.images.get("loaded").save(named=True))
    sdk.images.remove("loaded")
    sdk.api.prune_builds()
    events = sdk.events(decode=True, filters={"type": "image", "event": "load"})
    try:
        sdk.api.load_image(archive, quiet=quiet).close()  # as docker-squash does
        assert next(events)["Action"] == "load"
    finally:
        events.close()
    assert sdk.images.get("loaded").tags == ["loaded:latest"]
    sdk.images.remove("loaded")
