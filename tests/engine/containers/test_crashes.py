"""An engine killed in the middle of each step of create, start and end leaves nothing half made behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine.containers.conftest import Place
from tests.engine.containers.crash import CRASHED, STEPS
from tests.engine.containers.rig import Rig, running_rig

from wherry.model.container import Status

REPOSITORY = Path(__file__).parents[3]
CREATES = list(STEPS)[:7]


def crash(place: Place, step: str) -> None:
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
        capture_output=True,
        check=False,
    )
    assert done.returncode == CRASHED, done.stderr.decode()


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
