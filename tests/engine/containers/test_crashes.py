"""An engine killed in the middle of each step of create, start and end leaves nothing half made behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.engine.containers.conftest import Place
from tests.engine.containers.crash import CRASHED, OTHERS, STEPS, create_network
from tests.engine.containers.rig import Rig, names, running_rig

from wherry.model.container import EndpointConfig, Status

REPOSITORY = Path(__file__).parents[3]
CREATES = list(STEPS)[:7]


def crash(place: Place, step: str) -> None:
    # Not a pipe: what goes on without the engine would hold it open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.engine.containers.crash",
                str(place.folder),
                place.tag,
                step,
            ],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"},
            stdout=output,
            stderr=output,
            check=False,
        )
        output.seek(0)
        assert done.returncode == CRASHED, output.read().decode()


@pytest.mark.parametrize("step", STEPS)
def test_after_a_crash(place: Place, step: str) -> None:
    crash(place, step)

    async def story() -> None:
        async with running_rig(place.folder, place.tag) as rig:
            found = [handle.record for handle in rig.services.roster]
            if step in CREATES:
                assert found == []
                assert rig.volumes.list_all() == []
                await rig.create("true", name="crashed")
            else:
                assert [record.name for record in found] == ["crashed"]
                await settle(rig, step)
                await rig.services.containers.start("crashed")
                assert await rig.wait("crashed") == 0
            await rig.services.containers.remove("crashed", volumes=True)

    asyncio.run(story())


@pytest.mark.parametrize("step", OTHERS)
def test_after_another_crash(place: Place, step: str) -> None:
    """All is as it was or as it was to be, and can be used and removed."""
    crash(place, step)

    async def story() -> None:
        async with running_rig(place.folder, place.tag) as rig:
            if all(network.name != "net" for network in rig.networks.list_all()):
                await create_network(rig)
            await use_container(rig)
            await rig.networks.remove("net")
            await rig.volumes.ensure("vol")
            await rig.volumes.remove("vol")
            assert rig.volumes.list_all() == []
            assert await rig.run("echo", "hi") == (0, "hi\n")
            await rig.images.remove("busybox")
            await rig.images.close()
            assert list(rig.images.layers.all()) == []
            assert names(place.folder / "root" / "tmp") == []

    asyncio.run(story())


async def use_container(rig: Rig) -> None:
    """If it is there, it runs or can be started, and goes with all it has."""
    containers = rig.services.containers
    for handle in rig.services.roster:
        record = handle.record
        assert record.name in {"crashed", "renamed"}
        if record.state.status is not Status.RUNNING:
            await containers.start(record.name)
        assert await rig.exec(record.name, "echo", "hi") == (0, "hi\n")
        if "net" in containers.get(record.name).networks:
            await rig.connections.disconnect("net", record.name)
        await rig.connections.connect("net", record.name, EndpointConfig())
        await containers.remove(record.name, force=True, volumes=True)


async def settle(rig: Rig, step: str) -> None:
    containers = rig.services.containers
    assert not containers.get("crashed").state.starting
    code = await rig.wait("crashed")
    present = containers.get("crashed").state
    if step in {"after the launch", "after the running row", "at the end"}:
        assert (present.status, code) == (Status.EXITED, 0)
    else:
        assert (present.status, code) == (Status.CREATED, 128)
        assert present.error == "the engine ended during the start"
