"""Nothing is left after many runs: mounts, cgroups, namespaces, veths, processes, descriptors."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.start import Connection
from tests.harness.engine import Engine, running_engine
from tests.images.make import default_folder, make_image

IN_A_ROW = 500
AT_ONCE = 200
WIDTH = 8


@pytest.fixture(params=["slots", "cold"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine with and without slots."""
    slots = 4 if request.param == "slots" else 0
    with running_engine(options=[f"--slots={slots}"]) as engine:
        engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        yield engine


def run_once(engine: Engine) -> None:
    """`run --rm`, as a client does it, on one connection."""
    import json

    connection = Connection(str(engine.socket))
    body = {"Image": "busybox:latest", "Cmd": ["true"], "HostConfig": {"AutoRemove": True}}
    identity = json.loads(connection.call("POST", "/v1.51/containers/create", body))["Id"]
    waiting = Connection(str(engine.socket))
    waiting.request("POST", f"/v1.51/containers/{identity}/wait?condition=removed")
    answer = waiting.getresponse()
    connection.call("POST", f"/v1.51/containers/{identity}/start")
    assert json.loads(answer.read())["StatusCode"] == 0
    waiting.close()
    connection.close()


def count_descriptors(engine: Engine) -> dict[str, int]:
    """Open descriptors of the engine and of the spawner."""
    counts = {}
    for pid, command in engine.processes():
        if "wherry.daemon" in command or "spawner" in command:
            kind = "engine" if "wherry.daemon" in command else "spawner"
            counts[kind] = len(os.listdir(f"/proc/{pid}/fd"))
    return counts


def count_namespaces() -> int:
    """Network namespaces that a process of this machine is in."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(os.readlink(entry))
        except OSError:
            continue
    return len(found)


def test_nothing_is_left(engine: Engine) -> None:
    for _ in range(10):
        run_once(engine)
    before = (
        count_descriptors(engine),
        engine.mounts(),
        set(engine.cgroups()) and len(engine.cgroups()),
    )
    for _ in range(IN_A_ROW):
        run_once(engine)
    with concurrent.futures.ThreadPoolExecutor(WIDTH) as pool:
        list(pool.map(lambda _: run_once(engine), range(AT_ONCE)))
    after = (
        count_descriptors(engine),
        engine.mounts(),
        set(engine.cgroups()) and len(engine.cgroups()),
    )
    assert not engine.docker("ps", "-aq")
    assert not list((engine.root / "containers").glob("*"))
    assert after == before
