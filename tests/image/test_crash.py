"""The engine killed at random instants of load, commit and removal: the store verifies, nothing stays behind."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.image.support import Tar, make_image, open_images
from wherry.image.digest import digest_of
from wherry.image.layer.confine import wait_for_orphans
from wherry.lib import worker

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


def test_a_worker_that_is_publishing_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine is dead, its worker still in the rename: nothing is taken from under it."""
    caplog.set_level(logging.INFO)
    with open_images(tmp_path) as images:
        image = asyncio.run(make_image(images, Tar().add("x", b"1")))
        asyncio.run(images.close())
    folder = tmp_path / "root/layers" / image.diff_ids[0][7:]
    pending = folder.with_name(".new-pending")
    folder.rename(pending)
    held = os.open(folder.parent, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    waiting = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: waiting.set()  # type: ignore[method-assign]
    logger = logging.getLogger(wait_for_orphans.__module__)
    logger.addHandler(handler)
    problems: list[str] = []

    def restart() -> None:
        with open_images(tmp_path) as again:
            problems.extend(asyncio.run(_restart(again)))
            assert again.layers.has(image.diff_ids[0])

    engine = threading.Thread(target=restart)
    engine.start()
    try:
        assert waiting.wait(20)
        pending.rename(folder)
    finally:
        os.close(held)
        engine.join()
        logger.removeHandler(handler)
    assert problems == []
    assert os.listdir(folder.parent) == [folder.name]


def test_a_worker_whose_engine_has_ended_writes_nothing(tmp_path: Path) -> None:
    request = {
        "target": "wherry.image.layer.build:build",
        "arguments": {"layers": str(tmp_path), "driver": "erofs", "input": 0},
    }
    done = subprocess.run(
        [sys.executable, "-c", "from wherry.lib.worker import main; main()"],
        input=json.dumps(request).encode() + b"\n",
        env={**os.environ, worker.PARENT: "1"},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["error"]["message"] == "the engine has ended"
    assert os.listdir(tmp_path) == []
