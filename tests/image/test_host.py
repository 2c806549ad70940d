"""The built-in `host` image: what is seen of this machine, as root inside, and what never is."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.support import mounted, open_images, stream
from wherry.engine.images import Images
from wherry.image.host import HostTree
from wherry.kernel.mountinfo import read_mountinfo
from wherry.model.container import ContainerConfig
from wherry.model.errors import NotSupported

pytestmark = pytest.mark.needs("mount", "overlay")


@pytest.fixture
def images(tmp_path: Path):
    with open_images(tmp_path) as service:
        yield service

        async def clean() -> None:
            for key in service.snapshots.keys():  # noqa: SIM118 - a method of ours
                await service.remove_snapshot(key)
            await service.close()

        asyncio.run(clean())
    assert not [m for m in read_mountinfo() if m.mount_point.startswith(str(tmp_path))]


@pytest.fixture
def root(images: Images, tmp_path: Path):
    mount = asyncio.run(images.create_snapshot(images.get("host"), "h"))
    with mounted(mount, tmp_path / "mounted") as path:
        yield path


def run_inside(root: Path, *argv: str) -> str:
    """A command in a chroot with a mount namespace of its own and /dev/null."""
    script = f'mount -t proc proc {root}/proc && mount -t devtmpfs dev {root}/dev && exec chroot {root} "$@"'
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *argv],
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND": "noninteractive",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_only_the_allow_list_is_at_the_top(root: Path) -> None:
    allowed = {"bin", "boot", "dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run"}
    allowed |= {"sbin", "srv", "sys", "tmp", "usr", "var", ".dockerenv"}
    assert {name for name in os.listdir(root) if not name.startswith("lib")} <= allowed


def test_homes_state_and_other_data_are_absent_even_for_root(root: Path) -> None:
    for folder in (
        "root",
        "home",
        "tmp",
        "mnt",
        "media",
        "opt",
        "srv",
        "boot",
        "run",
        "var/tmp",
        "var/spool",
    ):
        assert os.listdir(root / folder) == [], folder
    assert set(os.listdir(root / "var/lib")) <= {"apt", "dpkg", "pam", "ucf"}
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777


def test_keys_and_password_hashes_are_absent(root: Path) -> None:
    for line in (root / "etc/shadow").read_text().splitlines():
        assert line.split(":")[1] == "*"
    for secret in ("machine-id", "ssl/private", "docker", "wherry", "apt/auth.conf", "sudoers"):
        host = Path("/etc") / secret
        if host.exists() and (secret != "sudoers" or not host.stat().st_mode & 4):
            assert not (root / "etc" / secret).exists(), secret
    for folder, folders, files in os.walk(root / "etc"):
        for name in files:
            path = Path(folder) / name
            if path.is_symlink() or path.relative_to(root).parts[:2] in {
                ("etc", "shadow"),
                ("etc", "gshadow"),
            }:
                continue
            assert path.stat().st_mode & 0o004, f"{path} is not world-readable on the host"
            assert not name.startswith("ssh_host_")
        assert all((Path(folder) / name).lstat().st_mode & 0o005 for name in folders)


def test_a_secret_that_appears_later_is_hidden_from_the_next_container(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    for folder in ("etc/ssl", "usr/bin", "var/lib/dpkg", "var/lib/postgresql", "home/me"):
        (machine / folder).mkdir(parents=True)
    (machine / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nme:x:1000:1000::/:/bin/sh\n")
    (machine / "etc/ssl/key").write_text("secret")
    (machine / "etc/ssl/key").chmod(0o600)
    mounts = tmp_path / "layers"
    mounts.mkdir()
    tree = HostTree(mounts, machine)
    try:
        (first,) = tree.current()
        assert tree.current() == (first,)
        assert sorted(os.listdir(first / "etc")) == ["passwd", "shadow", "ssl"]
        assert (first / "etc/shadow").read_text().startswith("root:*:")
        assert os.listdir(first / "etc/ssl") == []
        assert os.listdir(first / "var/lib") == ["dpkg"]
        (machine / "etc/ssl/another").write_text("secret")
        (machine / "etc/ssl/another").chmod(0o640)
        (machine / "data").mkdir()
        (second,) = tree.current()
        assert second != first
        assert os.listdir(second / "etc/ssl") == []
        assert "data" not in os.listdir(second)
    finally:
        tree.close()
    assert os.listdir(mounts) == []


def test_programs_run(root: Path) -> None:
    assert run_inside(root, "bash", "-c", "echo $((6*7))") == "42\n"
    assert run_inside(root, "python3", "-I", "-c", "import json; print(json.dumps([1]))") == "[1]\n"
    assert "root" in run_inside(root, "ls", "-l", "/")


def test_packages_can_be_installed(root: Path, tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: wherry-test\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    (package / "usr/share/wherry-test").mkdir(parents=True)
    (package / "usr/share/wherry-test/file").write_text("x")
    subprocess.run(["dpkg-deb", "-b", package, root / "tmp/x.deb"], check=True, capture_output=True)
    run_inside(root, "dpkg", "-i", "/tmp/x.deb")
    assert "wherry-test" in run_inside(root, "dpkg-query", "-W", "wherry-test")
    assert "install ok" in run_inside(root, "dpkg", "-s", "wherry-test")
    run_inside(root, "apt-get", "check")
    run_inside(root, "apt-get", "remove", "-y", "wherry-test")
    assert not Path("/usr/share/wherry-test").exists()


def test_a_commit_stands_on_the_host_and_export_shows_no_more(
    images: Images, tmp_path: Path
) -> None:
    host = images.get("host")
    mount = asyncio.run(images.create_snapshot(host, "h"))
    with mounted(mount, tmp_path / "mounted") as root:
        (root / "root/new").write_text("x")
        (root / "etc/issue").unlink(missing_ok=True)
    assert {change.path for change in asyncio.run(images.changes("h"))} >= {"/root", "/root/new"}
    child = asyncio.run(
        images.commit("h", config=ContainerConfig(cmd=("bash",)), repository="child")
    )
    assert child.is_host
    assert child.parent == host.id
    assert len(child.diff_ids) == 1
    mount = asyncio.run(images.create_snapshot(child, "c"))
    with mounted(mount, tmp_path / "mounted") as root:
        assert (root / "root/new").read_text() == "x"
        assert (root / "usr/bin/env").exists()
        assert os.listdir(root / "home") == []
    asyncio.run(images.remove_snapshot("h"))
    asyncio.run(images.remove_snapshot("c"))

    async def leave_and_come_back() -> None:
        saved = b"".join([piece async for piece in images.save(["child"])])
        assert len(saved) < 100_000, "more than the difference was saved"
        await images.remove("child")
        async for _ in images.load(stream(saved)):
            pass
        again = images.get("child")
        assert again.is_host
        assert again.id == child.id
        assert (await images.push_target("child")).size
        await images.remove("child")

    asyncio.run(leave_and_come_back())


def test_the_id_names_this_boot_and_its_packages(images: Images) -> None:
    image = images.get("host:latest")
    assert image.id == images.get(image.id).id == images.get(image.id[7:25]).id
    assert image.repo_tags == ("host:latest",)
    assert images.list_all() == ()


def test_closing_waits_for_the_thread_that_makes_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that ends as soon as it has started: its preparation goes on in a thread."""
    mounts = tmp_path / "mounts"
    mounts.mkdir()
    tree = HostTree(mounts)
    building = threading.Event()
    build = tree._build

    def say_and_build(staging: Path) -> Iterator[Path]:
        building.set()
        yield from build(staging)

    monkeypatch.setattr(tree, "_build", say_and_build)
    maker = threading.Thread(target=tree.current)
    maker.start()
    assert building.wait(20)
    tree.close()
    maker.join()
    assert os.listdir(mounts) == []
    with pytest.raises(NotSupported):
        tree.current()
    assert os.listdir(mounts) == []
