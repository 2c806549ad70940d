"""ROOT's disk is full: what fails says why and leaves nothing half made, and everything goes on when there is space."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.engine import Engine
from tests.images.make import default_folder, make_image

SIZE = "64m"


@pytest.fixture
def small() -> Iterator[Engine]:
    """An engine whose ROOT is a small file system of its own."""
    engine = Engine(options=["--bip=10.95.7.1/24"])
    engine.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "small", engine.root], check=True)
    try:
        engine.start()
        engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        yield engine
    finally:
        engine.destroy()


def fill(engine: Engine) -> Path:
    path = engine.root / "filler"
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(os.urandom(size))
    return path


def test_builds_on_a_full_disk(small: Engine, tmp_path: Path) -> None:
    engine = small
    path = tmp_path / "Dockerfile"
    random = "head -c {} /dev/urandom > /big"
    out = f"-otype=oci,dest={tmp_path}/out.tar,compression=gzip"
    cache = f"--cache-to=type=local,dest={tmp_path}/cache"
    for size, options, sentence in (
        (99_000_000, (), "returned a non-zero code: 1"),
        (35_000_000, (), "no space left on device"),
        (22_000_000, (out,), "no space left on device"),
        (22_000_000, (cache,), "no space left on device"),
    ):
        path.write_text(f"FROM busybox\nRUN echo first\nRUN {random.format(size)}\n")
        done = engine.run("wherry", "build", *options, str(tmp_path), check=False)
        assert done.returncode == 1
        assert sentence in done.stderr, done
        engine.docker(
            "builder", "prune", "-f", "--filter", f"description=RUN {random.format(size)}"
        )
        path.write_text(f"FROM busybox\nRUN echo first\nRUN {random.format(10)}\n")
        text = engine.run("wherry", "build", *options, str(tmp_path))
        assert "CACHED" in text.stdout + text.stderr
        engine.docker("image", "prune", "-f")
    assert "no problem found" in engine.wherry("system", "check")
    assert not [*engine.root.glob("tmp/build-output-*"), *engine.root.glob("build/*")]
    assert "Traceback" not in engine.log.read_text()


def test_a_full_disk(small: Engine, tmp_path: Path) -> None:
    engine = small
    hold = "head -c 2000000 /dev/zero > /held; sleep 1000"
    engine.docker("run", "-d", "--name", "c1", "busybox:latest", "sh", "-c", hold)
    talk = "i=0; while :; do echo line $i; i=$((i+1)); usleep 1000; done"
    engine.docker("run", "-d", "--name", "talker", "busybox:latest", "sh", "-c", talk)
    before = len(engine.log.read_text())
    filler = fill(engine)
    (tmp_path / "Dockerfile").write_text("FROM busybox:latest\nCOPY big /big\n")
    (tmp_path / "big").write_bytes(os.urandom(300_000))
    archive = tmp_path / "new.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path, "big"], check=True)
    for words in (
        ("build", "-q", str(tmp_path)),
        ("import", str(archive), "new:1"),
        ("cp", str(tmp_path / "big"), "c1:/big"),
        ("run", "--rm", "-v", "/anonymous", "busybox:latest", "dd", "if=/dev/zero", "of=/x"),
    ):
        fill(engine)
        done = engine.run("docker", *words, check=False, deadline_s=30)
        assert done.returncode, done
        assert "no space left" in done.stderr.lower() or "disk is full" in done.stderr, done
    assert engine.docker("exec", "c1", "echo", "goes on") == "goes on"
    engine.docker("ps")
    engine.kill()
    fill(engine)
    engine.start()
    running = engine.docker("ps", "--format", "{{.Names}}").split()
    assert set(running) >= {"c1", "talker"}
    engine.docker("rm", "-f", "c1")
    filler.unlink()
    assert engine.docker("run", "--rm", "busybox:latest", "echo", "fine") == "fine"
    engine.docker("build", "-q", "-t", "new:2", str(tmp_path))
    engine.docker("import", str(archive), "new:1")
    assert engine.docker("logs", "--tail", "1", "talker").startswith("line ")
    engine.docker("rm", "-f", "talker")
    assert "no problem found" in engine.wherry("system", "check")
    assert not engine.settle()
    assert "Traceback" not in engine.log.read_text()[before:]
