"""Nothing is left after many runs: mounts, cgroups, namespaces, veths, processes, descriptors."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.start import Connection
from tests.harness.engine import SETTLE_S, Engine, running_engine
from tests.images.make import default_folder, make_image

IN_A_ROW = 500
AT_ONCE = 200
WIDTH = 8


@pytest.fixture(params=[4, 0], ids=["slots", "cold"])
def slots(request: pytest.FixtureRequest) -> int:
    """How many the engine keeps."""
    return int(request.param)


@pytest.fixture
def engine(slots: int) -> Iterator[Engine]:
    """An engine with and without slots."""
    with running_engine(options=[f"--slots={slots}"]) as engine:
        engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        yield engine


def run_once(engine: Engine) -> None:
    """`run --rm`, as a client does it, on one connection."""
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


def list_descriptors(engine: Engine) -> dict[str, list[str]]:
    """What the engine's and the spawner's descriptors lead to, numbers of sockets and pipes left out."""
    assert engine.process is not None
    found = {}
    for kind, pid in (("engine", engine.process.pid), ("spawner", engine.spawner_pid())):
        targets = []
        with contextlib.suppress(FileNotFoundError):  # one that is closed meanwhile
            targets += [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        found[kind] = sorted(target.partition(":[")[0] for target in targets)
    return found


def count_namespaces(engine: Engine) -> int:
    """Network namespaces that this engine's processes are in."""
    found = set()
    for pid, _ in engine.processes():
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
    return len(found)


def take_stock(engine: Engine) -> dict[str, object]:
    """What a leak would change, once the slots are full again."""
    return {
        "descriptors": list_descriptors(engine),
        "mounts": engine.mounts(),
        "cgroups": len(engine.cgroups()),
        "veths": len(engine.veths()),
        "processes": len(engine.processes()),
        "namespaces": count_namespaces(engine),
        "containers": sorted(path.name for path in (engine.root / "containers").glob("*")),
    }


def test_nothing_is_left(engine: Engine, slots: int) -> None:
    for _ in range(20):
        run_once(engine)
    before = settle_stock(
        engine, lambda _, unchanged_s: unchanged_s > 1 and len(engine.slots()) == slots
    )
    for _ in range(IN_A_ROW):
        run_once(engine)
    with concurrent.futures.ThreadPoolExecutor(WIDTH) as pool:
        list(pool.map(lambda _: run_once(engine), range(AT_ONCE)))
    after = settle_stock(engine, lambda stock, _: stock == before)
    assert {key: (before[key], after[key]) for key in before if before[key] != after[key]} == {}
    assert not engine.docker("ps", "-aq")


def settle_stock(
    engine: Engine, settled: Callable[[dict[str, object], float], bool]
) -> dict[str, object]:
    """The stock when it is `settled`, which is told also for how long it has not changed; or the last."""
    deadline = time.monotonic() + SETTLE_S
    stock, since = take_stock(engine), time.monotonic()
    while time.monotonic() < deadline and not settled(stock, time.monotonic() - since):
        time.sleep(0.1)  # slots refill and namespaces end in their own time
        latest = take_stock(engine)
        if latest != stock:
            stock, since = latest, time.monotonic()
    return stock
