"""Requests as SDKs send them, with the answers that dockerd 28.5 gives: what the docker client never asks."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.harness.engine import Engine

Document = dict[str, object]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


class Api:
    """Asks one engine; remembers the containers and networks that it made."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.networks: list[str] = []

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Document]:
        """Status and document ({} for none)."""
        connection = _Connection(str(self._engine.socket))
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, cast(Document, json.loads(text) if text else {})

    def refuse(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Status and sentence of an error."""
        status, document = self.ask(method, path, body)
        return status, str(document.get("message"))

    def create(self, version: str = "", **fields: object) -> str:
        """A container's id."""
        body = {"Image": "busybox", "Cmd": ["sleep", "60"], **fields}
        status, document = self.ask("POST", f"{version}/containers/create", body)
        assert status == 201, document
        return str(document["Id"])

    def inspect(self, container: str) -> Document:
        status, document = self.ask("GET", f"/containers/{container}/json")
        assert status == 200, document
        return document

    def network(self, name: str) -> str:
        status, document = self.ask("POST", "/networks/create", {"Name": name})
        assert status == 201, document
        self.networks.append(name)
        return str(document["Id"])


@pytest.fixture
def api(engine: Engine, busybox: str) -> Iterator[Api]:
    del busybox
    asking = Api(engine)
    yield asking
    left = engine.docker("ps", "-aq")
    if left:
        engine.docker("rm", "-f", "-v", *left.split())
    for name in asking.networks:
        engine.docker("network", "rm", name)


def part(document: object, *keys: str) -> Document:
    for key in keys:
        document = cast(Document, document)[key]
    return cast(Document, document)


def test_errors_name_the_container_as_the_client_did(api: Api) -> None:
    identity = api.create()
    one = f"/containers/{identity}"
    api.ask("POST", f"{one}/start")
    for path, answer in (
        ("kill?signal=FOO", (400, f"cannot kill container: {identity}: invalid signal: FOO")),
        (
            "kill?signal=-1",
            (
                400,
                f"cannot kill container: {identity}: the linux daemon does not support signal -1",
            ),
        ),
        ("stop?signal=FOO", (500, f"cannot stop container: {identity}: invalid signal: FOO")),
        ("restart?signal=FOO", (500, f"Cannot restart container {identity}: invalid signal: FOO")),
        ("resize?h=-1&w=9", (400, 'invalid resize height "-1": value out of range')),
    ):
        assert api.refuse("POST", f"{one}/{path}") == answer
    assert api.refuse("DELETE", one) == (
        409,
        (
            f'cannot remove container "{identity}": container is running: '
            "stop the container before removing or force remove"
        ),
    )
    assert api.refuse("GET", f"{one}/archive?path=/nope") == (
        404,
        f"Could not find the file /nope in container {identity}",
    )
    assert api.refuse("GET", f"{one}/archive?path=/etc/passwd/.") == (
        500,
        "lstat /etc/passwd/.: not a directory",
    )
    assert api.refuse("GET", f"{one}/top?ps_args=xyz") == (
        500,
        "ps: error: unsupported option (BSD syntax)",
    )
    api.ask("POST", f"{one}/pause")
    assert api.refuse("POST", f"{one}/exec", {"Cmd": ["true"]}) == (
        409,
        f"Container {identity} is paused, unpause the container before exec",
    )


def test_execs_are_forgotten_with_the_run(api: Api) -> None:
    identity = api.create()
    api.ask("POST", f"/containers/{identity}/start")
    made = api.ask("POST", f"/containers/{identity}/exec", {"Cmd": ["true"]})[1]
    assert api.inspect(identity)["ExecIDs"] == [made["Id"]]
    api.ask("POST", f"/containers/{identity}/restart?t=0")
    assert api.inspect(identity)["ExecIDs"] is None
    missing = (404, f"No such exec instance: {made['Id']}")
    assert api.refuse("POST", f"/exec/{made['Id']}/start", {"Detach": True}) == missing
    made = api.ask("POST", f"/containers/{identity}/exec", {"Cmd": ["true"]})[1]
    assert api.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True})[0] == 200
    assert api.ask("GET", f"/exec/{made['Id']}/json")[0] == 200
    api.ask("DELETE", f"/containers/{identity}?force=1")
    assert api.ask("GET", f"/exec/{made['Id']}/json")[0] == 404


def test_networks_that_are_named_replace_the_one_of_the_mode(api: Api) -> None:
    first, _ = api.network("first"), api.network("second")

    def networks(mode: str, *names: str) -> list[str]:
        identity = api.create(
            HostConfig={"NetworkMode": mode},
            NetworkingConfig={"EndpointsConfig": {name: {} for name in names}},
        )
        api.ask("POST", f"/containers/{identity}/start")
        found = sorted(part(api.inspect(identity), "NetworkSettings", "Networks"))
        api.ask("DELETE", f"/containers/{identity}?force=1")
        return found

    assert networks("", "first") == ["first"]
    assert networks("bridge", "first", "second") == ["first", "second"]
    assert networks("first", "second") == ["second"]
    assert networks("first", first) == ["first"]
    assert networks(first, "first") == ["first"]
    assert networks(first) == ["first"]
    identity = api.create(NetworkingConfig={"EndpointsConfig": {"bridge": {}, "host": {}}})
    assert api.refuse("POST", f"/containers/{identity}/start") == (
        400,
        (
            "failed to set up container networking: cannot connect container to host network"
            " - container must be created in host network mode"
        ),
    )
    disabled = api.inspect(api.create(NetworkDisabled=True))
    assert part(disabled, "NetworkSettings", "Networks") == {}


def test_mac_addresses_of_containers_and_endpoints(api: Api) -> None:
    mac, other = "02:42:ac:11:00:77", "02:42:ac:11:00:78"
    body = {"Image": "busybox", "MacAddress": mac}
    _, made = api.ask("POST", "/containers/create", body)
    assert made["Warnings"] == [
        (
            "The container-wide MacAddress field is now deprecated. "
            "It should be specified in EndpointsConfig instead."
        )
    ]
    container = api.inspect(str(made["Id"]))
    assert part(container, "Config")["MacAddress"] == mac
    assert part(container, "NetworkSettings", "Networks", "bridge")["MacAddress"] == mac
    endpoints = {"EndpointsConfig": {"bridge": {"MacAddress": other}}}
    clash = {**body, "NetworkingConfig": endpoints}
    assert api.refuse("POST", "/containers/create", clash) == (
        400,
        (
            "the container-wide MAC address must match the endpoint-specific MAC address "
            "for the main network, or be left empty"
        ),
    )
    # Before 1.44 the container's own counts, and an endpoint has none.
    _, made = api.ask("POST", "/v1.43/containers/create", clash)
    container = api.inspect(str(made["Id"]))
    assert part(container, "NetworkSettings", "Networks", "bridge")["MacAddress"] == mac
    old = api.inspect(api.create("/v1.43", NetworkingConfig=endpoints))
    assert part(old, "NetworkSettings", "Networks", "bridge")["MacAddress"] == ""
    assert api.refuse(
        "POST", "/v1.43/containers/create", {**body, "HostConfig": {"NetworkMode": "host"}}
    ) == (400, "conflicting options: mac-address and the network mode")


def test_one_network_before_1_44(api: Api) -> None:
    body = {
        "Image": "busybox",
        "NetworkingConfig": {"EndpointsConfig": {"one": {}, "two": {}}},
    }
    assert api.refuse("POST", "/v1.43/containers/create", body) == (
        400,
        "Container cannot be created with multiple network endpoints: one, two",
    )


def test_lists_that_were_not_sent_are_null(api: Api) -> None:
    names = ("Dns", "DnsOptions", "DnsSearch", "Devices", "Ulimits", "BlkioDeviceReadIOps")
    host = part(api.inspect(api.create()), "HostConfig")
    assert all(host[name] is None for name in (*names, "PortBindings"))
    host = part(api.inspect(api.create(HostConfig={name: [] for name in names})), "HostConfig")
    assert all(host[name] == [] for name in names)


def test_security_as_it_was_asked_for(api: Api) -> None:
    asked = {"CapAdd": ["net_admin"], "CapDrop": ["CHOWN"], "SecurityOpt": ["apparmor=unconfined"]}
    container = api.inspect(api.create(HostConfig=asked))
    host = part(container, "HostConfig")
    assert (host["CapAdd"], host["CapDrop"]) == (["net_admin"], ["CHOWN"])
    assert container["AppArmorProfile"] == "unconfined"
    for reach in ({"Privileged": True}, {"IpcMode": "host"}, {"PidMode": "host"}):
        host = part(api.inspect(api.create(HostConfig=reach)), "HostConfig")
        assert host["SecurityOpt"] == ["label=disable"]


@pytest.mark.parametrize(
    ("host", "status", "sentence"),
    [
        ({"CpuShares": -1}, 400, "invalid CPU shares (-1): value must be a positive integer"),
        (
            {"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}},
            400,
            'invalid port specification: "99999"',
        ),
        ({"PortBindings": {"80-85/tcp": [{}]}}, 400, 'invalid port specification: "80-85"'),
        ({"PortBindings": {"abc/tcp": [{}]}}, 400, 'invalid port specification: "abc"'),
        ({"ExtraHosts": ["a:[::1]"]}, 400, 'invalid IP address in add-host: "[::1]"'),
        ({"Links": ["a:b:c"]}, 500, "bad format for links: a:b:c"),
        ({"Links": [""]}, 500, "empty string specified for links"),
        ({"StorageOpt": {"foo": "1"}}, 500, "Unknown option foo"),
        (
            {"LogConfig": {"Type": "json-file", "Config": {"mode": "foo"}}},
            400,
            "logger: logging mode not supported: foo",
        ),
        (
            {"Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Options": [["x"]]}}]},
            400,
            'invalid mount config for type "tmpfs": invalid option: x',
        ),
    ],
)
def test_refused_creations(api: Api, host: Document, status: int, sentence: str) -> None:
    body = {"Image": "busybox", "HostConfig": host}
    assert api.refuse("POST", "/containers/create", body) == (status, sentence)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        (
            {
                "Mounts": [
                    {
                        "Type": "bind",
                        "Source": "/tmp",
                        "Target": "/x",
                        "BindOptions": {"ReadOnlyForceRecursive": True},
                    }
                ]
            },
            "mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive",
        ),
        (
            {"LogConfig": {"Type": "json-file", "Config": {"compress": "true"}}},
            (
                "failed to create task for container: failed to initialize logging driver: "
                "compress cannot be true when max-file is less than 2 or max-size is not set"
            ),
        ),
        (
            {"Devices": [{"PathOnHost": "/etc", "PathInContainer": "/dev/x"}]},
            (
                'error gathering device information while adding custom device "/etc": '
                "not a device node"
            ),
        ),
        (
            {"BlkioDeviceReadBps": [{"Path": "/dev/nope", "Rate": 1}]},
            "stat /dev/nope: no such file or directory",
        ),
    ],
)
def test_refused_starts(api: Api, host: Document, sentence: str) -> None:
    identity = api.create(HostConfig=host)
    assert api.refuse("POST", f"/containers/{identity}/start") == (500, sentence)


def test_labels_and_variables_in_the_log_by_pattern(api: Api, engine: Engine) -> None:
    options = {"labels-regex": "^team", "env-regex": "_ID$", "labels": "x"}
    identity = api.create(
        Cmd=["echo", "said"],
        Labels={"team.name": "t", "other": "o", "x": "y"},
        Env=["RUN_ID=7", "NONE=1"],
        HostConfig={"LogConfig": {"Type": "json-file", "Config": options}},
    )
    engine.docker("start", "-a", identity)
    assert engine.docker("logs", "--details", identity) == "RUN_ID=7,team.name=t,x=y said"


def test_lists_by_port_and_ancestor(engine: Engine, busybox: str, tmp_path: Path) -> None:
    def found(filter_: str) -> list[str]:
        return engine.docker("ps", "-a", "-f", filter_, "--format", "{{.Names}}").split()

    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nLABEL a=b\n")
    engine.docker("build", "-q", "-t", "child", str(tmp_path))
    engine.docker("run", "-d", "--name", "c1", "-p", "127.0.0.1::90", "child", "sleep", "300")
    engine.docker("run", "-d", "--name", "c2", "--expose", "8080", busybox, "sleep", "300")
    engine.docker("create", "--name", "c3", "-p", "1093:90", "--expose", "8080", busybox)
    port = engine.docker("port", "c1", "90").strip().rpartition(":")[2]
    assert found(f"publish={port}") == ["c1"]
    assert found(f"publish={int(port) - 1}-{int(port) + 1}/tcp") == ["c1"]
    assert found(f"publish={port}/udp") == found("publish=90") == found("publish=1093") == []
    assert found("expose=90") == ["c1"]
    assert found("expose=8080") == ["c2"]
    assert found("ancestor=child") == ["c1"]
    assert found(f"ancestor={busybox}") == ["c3", "c2", "c1"]
    assert found("since=c1") == ["c3", "c2"]
    assert engine.docker("ps", "-f", "since=c1", "--format", "{{.Names}}") == "c2"
    assert engine.docker("ps", "-f", "before=c3", "--format", "{{.Names}}") == "c2\nc1"
    engine.docker("rm", "-f", "c1", "c2", "c3")
    engine.docker("rmi", "child")


def test_statistics_once(api: Api) -> None:
    identity = api.create()
    api.ask("POST", f"/containers/{identity}/start")
    path = f"/containers/{identity}/stats?stream=0&one-shot=1"
    once = api.ask("GET", path)[1]
    assert "name" not in once
    assert part(once, "precpu_stats", "cpu_usage")["total_usage"] == 0
    before = api.ask("GET", f"/v1.40{path}")[1]  # which did not know one-shot
    assert before["id"] == identity
    assert part(before, "precpu_stats")["system_cpu_usage"]


def test_information_for_older_clients(api: Api) -> None:
    oldest, middle, newest = (api.ask("GET", f"/v{v}/info")[1] for v in ("1.24", "1.46", "1.51"))
    assert "seccomp" in cast(list[str], oldest["SecurityOptions"])
    assert oldest["BridgeNfIptables"] is False
    assert "BridgeNfIptables" not in newest
    assert oldest.get("KernelMemory") == oldest.get("KernelMemoryTCP")
    assert "KernelMemory" not in middle
    key = "AllowNondistributableArtifactsCIDRs"
    assert part(middle, "RegistryConfig")[key] is None
    assert key not in part(newest, "RegistryConfig")
    assert {"runc", "io.containerd.runc.v2"} < set(part(newest, "Runtimes"))


def test_limits_of_windows_are_kept(api: Api) -> None:
    given = {"CpuCount": 2, "CpuPercent": 3, "IOMaximumIOps": 4, "IOMaximumBandwidth": 5}
    host = part(api.inspect(api.create(HostConfig=given)), "HostConfig")
    assert {name: host[name] for name in given} == given


def test_remote_contexts_that_cannot_be_fetched(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
    status, sentence = api.refuse("POST", f"/build?remote={url}")
    assert status == 500
    assert sentence.startswith(f"error downloading remote context {url}: ")


@pytest.mark.parametrize(
    ("pool", "sentence"),
    [
        ({"Gateway": "10.99.5.1"}, "invalid subnet : invalid CIDR block notation"),
        ({"Subnet": "10.99.5.3/24"}, "invalid subnet 10.99.5.3/24: it should be 10.99.5.0/24"),
        ({"Subnet": "10.99.5.0/24", "Gateway": "foo"}, "invalid gateway foo: invalid address"),
        (
            {"Subnet": "10.99.5.0/24", "IPRange": "foo"},
            "invalid ip-range foo: invalid CIDR block notation",
        ),
        (
            {"Subnet": "10.99.5.0/24", "IPRange": "10.98.5.0/25"},
            "invalid ip-range 10.98.5.0/25: parent subnet 10.99.5.0/24 doesn't contain ip-range",
        ),
        (
            {"Subnet": "10.99.5.0/24", "AuxiliaryAddresses": {"a": "10.98.5.1"}},
            (
                "invalid auxiliary address a: "
                "parent subnet 10.99.5.0/24 doesn't contain this address"
            ),
        ),
    ],
)
def test_pools_that_cannot_be(api: Api, pool: Document, sentence: str) -> None:
    body = {"Name": "impossible", "IPAM": {"Config": [pool]}}
    answer = api.refuse("POST", "/networks/create", body)
    assert answer == (400, f"invalid network config:\n{sentence}")


def test_interfaces_of_the_machine_are_nobodys_bridge(api: Api, engine: Engine) -> None:
    option = "com.docker.network.bridge.name"
    body: Document = {"Name": "taken", "Options": {option: "lo"}}
    assert api.refuse("POST", "/networks/create", body) == (
        500,
        "existing interface lo is not a bridge",
    )
    name = f"{engine.tag}x"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        assert api.ask("POST", "/networks/create", {**body, "Options": {option: name}})[0] == 201
        engine.docker("network", "rm", "taken")
        subprocess.run(["ip", "link", "show", name], check=True, capture_output=True)
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


def test_networks_that_cannot_be(api: Api) -> None:
    for body, answer in (
        ({"EnableIPv4": False}, (400, "IPv4 or IPv6 must be enabled")),
        ({"IPAM": {"Driver": "nope"}}, (404, 'plugin "nope" not found')),
        (
            {"Options": {"com.docker.network.driver.mtu": "x"}},
            (
                400,
                (
                    "failed to parse com.docker.network.driver.mtu value: x "
                    '(strconv.Atoi: parsing "x": invalid syntax)'
                ),
            ),
        ),
    ):
        assert api.refuse("POST", "/networks/create", {"Name": "n", **body}) == answer
    assert api.refuse("POST", "/volumes/create", {"Name": "x"}) == (
        400,
        (
            "create x: volume name is too short, "
            "names should be at least two alphanumeric characters"
        ),
    )


def test_updates_that_change_nothing_say_so(api: Api) -> None:
    identity = api.create()
    api.ask("POST", f"/containers/{identity}/update", {"PidsLimit": -1, "OomKillDisable": True})
    host = part(api.inspect(identity), "HostConfig")
    assert (host["PidsLimit"], host["OomKillDisable"]) == (0, False)


def test_execs_as_they_are_told(api: Api) -> None:
    identity = api.create()
    api.ask("POST", f"/containers/{identity}/start")
    made = api.ask(
        "POST", f"/containers/{identity}/exec", {"Cmd": ["nope"], "DetachKeys": "ctrl-a,a"}
    )[1]
    exec_path = f"/exec/{made['Id']}"
    assert api.ask("GET", f"{exec_path}/json")[1]["DetachKeys"] == "AWE="
    api.ask("POST", f"{exec_path}/start", {"Detach": True})
    assert api.refuse("POST", f"{exec_path}/resize?h=1&w=1") == (400, "exec process is not started")


def test_volumes_are_gone_with_the_container_and_prunes_are_told(api: Api, engine: Engine) -> None:
    del api
    since = time.time()
    engine.docker("run", "--rm", "-v", "/anonymous", "--name", "short", "busybox", "true")
    assert engine.docker("volume", "ls", "-q") == ""
    for kind in ("container", "volume", "network", "image"):
        engine.docker(kind, "prune", "-f", "--filter", "label=nobody-has-this")
    events = engine.docker(
        "events", "--since", str(since), "--until", str(time.time()), "--format", "{{json .}}"
    )
    seen = [json.loads(line) for line in events.splitlines()]
    volume = [
        (event["Action"], sorted(event["Actor"]["Attributes"]))
        for event in seen
        if event["Type"] == "volume"
    ]
    assert volume == [
        ("create", ["driver"]),
        ("mount", ["container", "destination", "driver", "propagation", "read/write"]),
        ("unmount", ["container", "driver"]),
        ("destroy", ["driver"]),
        ("prune", ["reclaimed"]),
    ]
    order = [event["Action"] for event in seen if event["Actor"]["ID"]]
    assert order.index("mount") < order.index("start") < order.index("unmount")
    pruned = [event["Type"] for event in seen if event["Action"] == "prune"]
    assert pruned == ["container", "volume", "network", "image"]


def test_volumes_that_are_mounts(api: Api, engine: Engine, tmp_path: Path) -> None:
    def create(name: str, **options: str) -> tuple[int, str]:
        return api.refuse("POST", "/volumes/create", {"Name": name, "DriverOpts": options})

    for options, sentence in (
        ({"foo": "bar"}, 'create bad: invalid option: "foo"'),
        ({"size": "1m"}, "create bad: quota size requested but no quota support"),
        ({"type": "tmpfs"}, 'create bad: missing required option: "device"'),
        ({"device": "/x", "o": "bind"}, 'create bad: missing required option: "type"'),
    ):
        assert create("bad", **options) == (400, sentence)
    (tmp_path / "kept").write_text("by the machine")
    create("memory", type="tmpfs", device="tmpfs", o="size=1m,uid=1000,noexec")
    create("folder", type="none", device=str(tmp_path), o="bind,ro")
    create("missing", type="none", device=str(tmp_path / "nope"), o="bind")
    volumes = ("-v", "memory:/m", "-v", "folder:/f")
    try:
        script = (
            "touch /m/x; stat -c %u /m; grep ' /m ' /proc/mounts | grep -o 'noexec.*size=1024k'; "
            "cat /f/kept; touch /f/no"
        )
        result = engine.run(
            "docker", "run", "--rm", *volumes, "busybox", "sh", "-c", script, check=False
        )
        assert result.stdout.splitlines() == [
            "1000",
            "noexec,relatime,size=1024k",
            "by the machine",
        ]
        assert "Read-only file system" in result.stderr
        engine.docker("run", "-d", "--name", "one", *volumes, "busybox", "sleep", "60")
        engine.docker("run", "--rm", *volumes, "busybox", "touch", "/m/seen")
        engine.restart()
        assert engine.docker("exec", "one", "ls", "/m") == "seen"
        assert engine.docker("run", "--rm", *volumes, "busybox", "ls", "/m") == "seen"
        engine.docker("rm", "-f", "one")
        assert engine.docker("run", "--rm", *volumes, "busybox", "ls", "/m") == ""
        failed = engine.run("docker", "run", "--rm", "-v", "missing:/m", "busybox", check=False)
        place = engine.root / "volumes" / "missing" / "_data"
        assert (
            f"error while mounting volume '{place}': failed to mount local volume: mount "
            f"{tmp_path / 'nope'}:{place}, flags: 0x1000: no such file or directory"
        ) in failed.stderr
    finally:
        engine.docker("volume", "rm", "memory", "folder", "missing")
    assert not any("/volumes/" in mount for mount in engine.mounts())
    assert (tmp_path / "kept").exists()


def test_donors_of_namespaces_are_known_by_id(api: Api, engine: Engine) -> None:
    donor = api.create(HostConfig={"IpcMode": "shareable"})
    engine.docker("rename", donor, "giver")
    engine.docker("start", "giver")
    modes = ("NetworkMode", "PidMode", "IpcMode")
    takers = {mode: api.create(HostConfig={mode: "container:giver"}) for mode in modes}
    engine.docker("rename", "giver", "other")
    for mode, taker in takers.items():
        assert part(api.inspect(taker), "HostConfig")[mode] == f"container:{donor}"
        assert api.ask("POST", f"/containers/{taker}/start")[0] == 204
        engine.docker("kill", taker)
    engine.docker("kill", "other")
    for mode, answer in (
        (
            "NetworkMode",
            (
                409,
                (
                    "cannot join network namespace of a non running container: "
                    "container other is exited"
                ),
            ),
        ),
        ("PidMode", (500, f"failed to join PID namespace: container {donor} is not running")),
        ("IpcMode", (409, f"failed to join IPC namespace: container {donor} is not running")),
    ):
        assert api.refuse("POST", f"/containers/{takers[mode]}/start") == answer


def test_an_attach_to_no_stream_ends(api: Api, engine: Engine) -> None:
    identity = api.create()
    engine.docker("start", identity)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(engine.socket))
        client.sendall(
            f"POST /containers/{identity}/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\n\r\n".encode()
        )
        answer = b""
        while piece := client.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


def test_the_condition_of_wait_came_with_1_30(api: Api) -> None:
    identity = api.create()
    path = f"containers/{identity}/wait?condition=next-exit"
    assert api.ask("POST", f"/v1.29/{path}") == (200, {"StatusCode": 0})


def test_donors_that_cannot_be_joined(api: Api) -> None:
    donor = api.create()
    api.ask("POST", f"/containers/{donor}/start")
    takers = {
        mode: api.create(HostConfig={mode: f"container:{donor}"}) for mode in ("IpcMode", "PidMode")
    }
    assert api.refuse("POST", f"/containers/{takers['IpcMode']}/start") == (
        400,
        (
            f"failed to join IPC namespace: container {donor}: "
            "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        ),
    )
    api.ask("DELETE", f"/containers/{donor}?force=1")
    for mode, status, kind in (("IpcMode", 400, "IPC"), ("PidMode", 500, "PID")):
        assert api.refuse("POST", f"/containers/{takers[mode]}/start") == (
            status,
            f"failed to join {kind} namespace: No such container: {donor}",
        )
    api.ask(
        "POST",
        "/containers/create?name=own",
        {"Image": "busybox", "HostConfig": {"NetworkMode": "container:own"}},
    )
    assert api.refuse("POST", "/containers/own/start") == (
        500,
        "cannot join own network namespace",
    )


def test_requests_that_name_nothing(api: Api) -> None:
    assert api.refuse("GET", "/containers/nobody/attach/ws") == (404, "No such container: nobody")
    for action in ("connect", "disconnect"):
        assert api.refuse("POST", f"/networks/nothing/{action}", {}) == (
            400,
            'invalid name or ID supplied: ""',
        )


def test_a_load_asks_for_its_body_before_it_answers(engine: Engine, busybox: str) -> None:
    archive = engine.docker_bytes("save", busybox)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(engine.socket))
        client.sendall(
            b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(archive)
        )
        with client.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert answer.readline() == b"\r\n"
            client.sendall(archive)
            assert answer.readline() == b"HTTP/1.1 200 OK\r\n"


def test_an_exec_is_not_resized_after_its_container(api: Api) -> None:
    identity = api.create()
    api.ask("POST", f"/containers/{identity}/start")
    made = api.ask("POST", f"/containers/{identity}/exec", {"Cmd": ["sleep", "60"], "Tty": True})[1]
    api.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True, "Tty": True})
    assert api.ask("POST", f"/exec/{made['Id']}/resize?h=4&w=4")[0] == 200
    api.ask("POST", f"/containers/{identity}/kill")
    api.ask("POST", f"/containers/{identity}/wait")
    assert api.refuse("POST", f"/exec/{made['Id']}/resize?h=4&w=4") == (
        409,
        f"container {identity} is not running",
    )


@pytest.mark.parametrize(("version", "below"), [("/v1.43", "rw"), ("/v1.44", "ro")])
def test_mounts_below_a_read_only_bind(api: Api, engine: Engine, version: str, below: str) -> None:
    binds = ["/dev:/a:ro"]
    mounts = [{"Type": "bind", "Source": "/dev", "Target": "/b", "ReadOnly": True}]
    identity = api.create(
        version,
        Cmd=["sed", "-n", "s, - .*,,; / .[ab].shm /p", "/proc/self/mountinfo"],
        HostConfig={"Binds": binds, "Mounts": mounts},
    )
    lines = engine.docker("start", "-a", identity).splitlines()
    assert {line.split()[4] for line in lines} == {"/a/shm", "/b/shm"}
    assert {line.split()[5].split(",")[0] for line in lines} == {below}


def test_updates_of_older_clients_leave_the_number_of_processes(api: Api) -> None:
    identity = api.create(HostConfig={"PidsLimit": 32})
    for version, limit in (("/v1.39", 32), ("/v1.40", 16)):
        api.ask("POST", f"{version}/containers/{identity}/update", {"PidsLimit": 16})
        assert part(api.inspect(identity), "HostConfig")["PidsLimit"] == limit


def test_the_root_of_the_engine_as_a_bind(api: Api, engine: Engine) -> None:
    folder = str(engine.root / "containers")
    identity = api.create(
        Cmd=["ls", "/x"], HostConfig={"Binds": [f"{engine.root}:/r"], "Mounts": []}
    )
    mounts = cast(list[Document], api.inspect(identity)["Mounts"])
    assert [mount["Propagation"] for mount in mounts] == ["rslave"]
    # Also where what ROOT lies on is neither shared nor a slave of something shared.
    assert identity in engine.docker("run", "--rm", "-v", f"{folder}:/x", "busybox", "ls", "/x")
    status, sentence = api.refuse(
        "POST",
        "/containers/create",
        {"Image": "busybox", "HostConfig": {"Binds": [f"{folder}:/x:private"]}},
    )
    assert status == 400
    assert "must use either propagation mode" in sentence


def test_a_folder_of_a_volume_takes_what_the_image_has(engine: Engine, busybox: str) -> None:
    volume = ("-v", "parts:/v")
    engine.docker("run", "--rm", *volume, busybox, "sh", "-c", "mkdir /v/empty /v/full; >/v/full/x")
    engine.docker("run", "--rm", *volume, busybox, "ln", "-s", "/", "/v/out")
    found = []
    for subpath in ("empty", "full"):
        mount = f"type=volume,src=parts,dst=/etc,volume-subpath={subpath}"
        listed = engine.docker("run", "--rm", "--mount", mount, busybox, "ls", "/etc")
        found.append("passwd" in listed)
    assert found == [True, False]
    for subpath in ("nope", "out/etc"):
        mount = f"type=volume,src=parts,dst=/etc,volume-subpath={subpath}"
        identity = engine.docker("create", "--mount", mount, busybox, "true")
        assert engine.run("docker", "start", identity, check=False).returncode == 1
        engine.docker("rm", identity)
    assert engine.docker("run", "--rm", *volume, busybox, "ls", "/v/empty") != ""
    engine.docker("volume", "rm", "parts")


def test_an_image_that_is_mounted_is_in_use(engine: Engine, busybox: str) -> None:
    engine.docker("build", "-q", "-t", "data", "-", input_="FROM busybox\nRUN >/data\n")
    identity = engine.docker(
        "create", "--mount", "type=image,src=data,dst=/i", busybox, "ls", "/i/data"
    )
    image = engine.docker("image", "inspect", "-f", "{{.Id}}", "data").removeprefix("sha256:")
    refused = engine.run("docker", "rmi", "data", check=False)
    assert refused.returncode == 1
    assert f"container {identity[:12]} is using its referenced image {image[:12]}" in refused.stderr
    assert engine.docker("start", "-a", identity) == "/i/data"
    engine.docker("rm", identity)
    engine.docker("rmi", "data")


@pytest.mark.parametrize(
    ("platform", "sentence"),
    [
        ("/", '"" is an invalid OS component of "/": OSAndVersion specifier component must match'),
        ("macos/arm64", "operating system is not supported"),
        ("linux/", '"" is an invalid component of "linux/": platform specifier component'),
    ],
)
def test_imports_for_no_platform(api: Api, platform: str, sentence: str) -> None:
    status, said = api.refuse("POST", f"/images/create?fromSrc=-&platform={platform}")
    assert (status, said[: len(sentence)]) == (400, sentence)


def test_archives_are_of_one_platform(api: Api) -> None:
    platform = "%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22amd64%22%7D"
    for method, path in (("GET", "/images/get?names=busybox"), ("POST", "/images/load?quiet=1")):
        assert api.refuse(method, f"{path}&platform={platform}&platform={platform}") == (
            400,
            "multiple platform parameters not supported",
        )
