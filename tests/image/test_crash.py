"""The engine killed at random instants of load, commit and removal: the store verifies, nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.image.support import Tar, open_images
from wherry.image.digest import digest_of

pytestmark = pytest.mark.needs("mount", "overlay")

_KILLS = int(os.environ.get("WHERRY_KILLS", "6"))


def write_archive(path: Path) -> None:
    layers = [Tar().add(f"file-{number}", os.urandom(2_000_000)).bytes() for number in range(3)]
    config = json.dumps(
        {"config": {"Cmd": ["x"]}, "rootfs": {"diff_ids": [digest_of(layer) for layer in layers]}}
    ).encode()
    tar = Tar().add("c", config)
    for number, layer in enumerate(layers):
        tar.add(str(number), layer)
    manifest = [{"Config": "c", "RepoTags": ["crash:1"], "Layers": ["0", "1", "2"]}]
    path.write_bytes(tar.add("manifest.json", json.dumps(manifest).encode()).bytes())


@pytest.mark.parametrize("driver", ["erofs", "overlay2"])
def test_killed_at_random_instants(tmp_path: Path, driver: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "run").mkdir()
    write_archive(tmp_path / "archive")
    chance = random.Random(driver)
    here = Path(__file__).parents[2]
    for _ in range(_KILLS):
        victim = subprocess.Popen(
            [
                sys.executable,
                Path(__file__).parent / "crash_victim.py",
                tmp_path,
                tmp_path / "archive",
                driver,
            ],
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": f"{here / 'src'}:{here}"},
        )
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 1.2))
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        victim.stdout.close()
        with open_images(tmp_path, driver) as images:
            assert asyncio.run(_restart(images)) == []
    with open_images(tmp_path, driver) as images:
        asyncio.run(_remove_all(images))
        assert list(images.content.digests()) == []
        assert images.layers.all() == ()
    assert list((tmp_path / "root/tmp").iterdir()) == []
    assert list((tmp_path / "root/layers").iterdir()) == []
    assert list((tmp_path / "root/containers").iterdir()) == []


async def _restart(images) -> list[str]:
    await images.start()
    problems = await images.check()
    await images.close()
    return problems


async def _remove_all(images) -> None:
    await images.start()
    for key in images.snapshots.keys():  # noqa: SIM118 - a method of ours
        await images.remove_snapshot(key)
    await images.prune({"dangling": ["false"]})
    images.collect()
    await images.close()
