"""An engine whose ROOT, or whose `/`, is an overlay already, as inside a container: everything still works."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image.support import Tar, make_image, mounted, open_images
from wherry.image.layer.mount import unmount
from wherry.kernel import syscalls
from wherry.kernel.mountinfo import read_mountinfo
from wherry.model.container import ContainerConfig

pytestmark = pytest.mark.needs("mount", "overlay")


@pytest.fixture
def stacked(tmp_path: Path):
    """A folder on an overlay."""
    for name in ("lower", "space", "stacked"):
        (tmp_path / name).mkdir()
    syscalls.mount(b"t", os.fsencode(tmp_path / "space"), b"tmpfs", 0, b"size=64m")
    for name in ("upper", "work"):
        (tmp_path / "space" / name).mkdir()
    options = (
        f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/space/upper,workdir={tmp_path}/space/work"
    )
    syscalls.mount(b"o", os.fsencode(tmp_path / "stacked"), b"overlay", 0, options.encode())
    try:
        yield tmp_path / "stacked"
    finally:
        unmount(tmp_path / "stacked")
        unmount(tmp_path / "space")


def test_what_containers_write_is_kept_in_memory(stacked: Path) -> None:
    with open_images(stacked) as images:
        image = asyncio.run(make_image(images, Tar().add("x", b"1").folder("./", 0o711)))
        mount = asyncio.run(images.create_snapshot(image, "c"))
        assert mount.upper.startswith(str(stacked / "run"))
        assert (stacked / "root/containers/c").is_dir()
        with mounted(mount, stacked / "mounted") as root:
            (root / "new").write_bytes(b"2")
            (root / "x").unlink()
        assert [(c.kind, c.path) for c in asyncio.run(images.changes("c"))] == [
            ("A", "/new"),
            ("D", "/x"),
        ]
        made = asyncio.run(
            images.commit("c", config=ContainerConfig(cmd=("x",)), repository="made")
        )
        with open_images(stacked) as again:
            assert again.root_mount("c") == mount
        mount = asyncio.run(images.create_snapshot(made, "d"))
        with mounted(mount, stacked / "mounted") as root:
            assert (root / "new").read_bytes() == b"2"
            assert not (root / "x").exists()

        async def clean() -> None:
            await images.remove_snapshot("c")
            await images.remove_snapshot("d")
            await images.collector.close()
            await images.close()

        asyncio.run(clean())
    assert not [m for m in read_mountinfo() if m.mount_point.startswith(str(stacked / "run"))]
    assert list((stacked / "root/containers").iterdir()) == []


_INSIDE = """
import asyncio, os, sys
from pathlib import Path
from tests.image.support import mounted, open_images
from wherry.model.container import ContainerConfig
folder = Path("/var/lib/wherry-test")
folder.mkdir()
with open_images(folder) as images:
    mount = asyncio.run(images.create_snapshot(images.get("host"), "h"))
    with mounted(mount, folder / "mounted") as root:
        assert os.listdir(root / "home") == []
        assert set(os.listdir(root / "var/lib")) <= {"apt", "dpkg", "pam", "ucf"}
        assert (root / "usr/bin/env").exists()
        (root / "root/new").write_text("x")
    made = asyncio.run(images.commit("h", config=ContainerConfig(cmd=("x",)), repository="made"))
    mount = asyncio.run(images.create_snapshot(made, "m"))
    with mounted(mount, folder / "mounted") as root:
        assert (root / "root/new").read_text() == "x"
    asyncio.run(images.close())
print("fine")
"""


def test_the_host_image_where_the_root_is_an_overlay(tmp_path: Path) -> None:
    script = f"""
        mount -t tmpfs t {tmp_path} && mkdir {tmp_path}/u {tmp_path}/w {tmp_path}/m
        mount -t overlay o -o lowerdir=/,upperdir={tmp_path}/u,workdir={tmp_path}/w {tmp_path}/m && cd {tmp_path}/m
        mount -t proc p proc && mount --rbind /dev dev && mkdir .old && pivot_root . .old && umount -l /.old
        exec "$@"
    """
    here = Path(__file__).parents[2]
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-ec",
            script,
            "sh",
            sys.executable,
            "-c",
            _INSIDE,
        ],
        env={**os.environ, "PYTHONPATH": f"{here / 'src'}:{here}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "fine\n", done.stderr
