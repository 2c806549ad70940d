"""Random trees: what GNU tar packs and unpacks, both drivers show alike, and a commit repeats.

The generator makes names, types, owners, modes, times, links, holes and attributes at random from a seed
that the failure prints; GNU tar packs them in each of its formats.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.image.support import make_image, mounted, open_images, read_tree
from wherry.model.container import ContainerConfig

pytestmark = pytest.mark.needs("mount", "overlay", "program:tar")

_FORMATS = {
    "gnu": ["--format=gnu"],
    "posix": ["--format=posix", "--xattrs", "--xattrs-include=*"],
    "ustar": ["--format=ustar"],
    "sparse": ["--format=posix", "-S", "--xattrs", "--xattrs-include=*"],
    "v7": ["--format=v7"],
}


def make_random_tree(
    root: Path, chance: random.Random, *, simple: bool, special: bool = True
) -> None:
    """Fills a directory; `simple` keeps to what old formats can hold."""
    folders, files = [root], []
    for number in range(chance.randint(20, 120)):
        folder = chance.choice(folders)
        limit = 40 if simple else 230
        name = f"{number}" + chance.choice("abcé ü'") * chance.randint(0, limit // 4)
        if simple:
            name = f"n{number}"
        path = folder / name
        kind = chance.randint(0, 9)
        if kind <= 2 and len(os.fsencode(path)) < (60 + len(str(root)) if simple else 3000):
            path.mkdir()
            folders.append(path)
        elif kind == 3:
            path.symlink_to("t" * chance.randint(1, 60 if simple else 2000))
        elif kind == 4 and files:
            os.link(chance.choice(files), path)
            continue
        elif kind == 5 and not simple:
            os.mknod(
                path,
                stat.S_IFCHR | 0o600,
                os.makedev(chance.randint(1, 200), chance.randint(0, 255)),
            )
        elif kind == 6 and special:
            os.mkfifo(path)
        else:
            size = chance.choice((0, 1, 511, 512, 513, chance.randint(0, 70_000)))
            path.write_bytes(chance.randbytes(size))
            if chance.random() < 0.2:
                os.truncate(path, size + chance.randint(1, 1 << 20))
            files.append(path)
            if not simple and chance.random() < 0.3:
                os.setxattr(path, "user.test", chance.randbytes(chance.randint(0, 100)))
        big = 2_000_000 if not simple else 60_000
        os.chown(path, chance.randint(0, big), chance.randint(0, big), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(chance.choice((0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o600, 0o000)))
        seconds = chance.choice((1_500_000_000, chance.randint(0, 2_000_000_000)))
        nanoseconds = 0 if simple else chance.choice((0, chance.randint(0, 999_999_999)))
        os.utime(path, ns=(0, seconds * 10**9 + nanoseconds), follow_symlinks=False)
    for folder in reversed(folders):
        os.utime(folder, ns=(0, 1_400_000_000 * 10**9))


@pytest.mark.parametrize("format_", sorted(_FORMATS))
@pytest.mark.parametrize("seed", range(4))
def test_both_drivers_show_what_gnu_tar_unpacks(tmp_path: Path, format_: str, seed: int) -> None:
    chance = random.Random(f"{format_} {seed}")
    source, unpacked = tmp_path / "source", tmp_path / "unpacked"
    source.mkdir()
    unpacked.mkdir()
    make_random_tree(source, chance, simple=format_ in {"ustar", "v7"}, special=format_ != "v7")
    tar = tmp_path / "layer.tar"
    subprocess.run(
        ["tar", *_FORMATS[format_], "--numeric-owner", "-C", source, "-cf", tar, "."], check=True
    )
    subprocess.run(
        ["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", tar, "-C", unpacked],
        check=True,
    )
    expected = read_tree(unpacked)
    for driver in ("erofs", "overlay2"):
        assert show_layer(tmp_path / driver, driver, tar.read_bytes()) == expected, f"seed {seed}"
    shutil.rmtree(source)


def show_layer(folder: Path, driver: str, data: bytes) -> dict[str, tuple[object, ...]]:
    folder.mkdir()
    with open_images(folder, driver) as images:
        image = asyncio.run(make_image(images, data))
        mount = asyncio.run(images.image_mount(image))
        with mounted(mount, folder / "mounted") as root:
            tree = read_tree(root)
        asyncio.run(images.close())
    return tree


@pytest.mark.parametrize("seed", range(3))
def test_a_commit_of_random_changes_shows_what_was_seen(tmp_path: Path, seed: int) -> None:
    chance = random.Random(f"commit {seed}")
    source = tmp_path / "source"
    source.mkdir()
    make_random_tree(source, chance, simple=False)
    tar = subprocess.run(
        ["tar", "--format=posix", "--xattrs", "--xattrs-include=*", "-C", source, "-cf", "-", "."],
        check=True,
        capture_output=True,
    ).stdout
    for driver in ("erofs", "overlay2"):
        (tmp_path / driver).mkdir()
        with open_images(tmp_path / driver, driver) as images:
            image = asyncio.run(make_image(images, tar))
            mount = asyncio.run(images.create_snapshot(image, "c"))
            with mounted(mount, tmp_path / driver / "mounted") as root:
                change_at_random(root, random.Random(f"change {seed}"))
                seen = read_tree(root, times=False)
            committed = asyncio.run(images.commit("c", config=ContainerConfig(cmd=("x",))))
            assert images.get(committed.id).diff_ids[:-1] == image.diff_ids
            with mounted(
                asyncio.run(images.image_mount(committed)), tmp_path / driver / "mounted"
            ) as root:
                shown = read_tree(root, times=False)
            asyncio.run(images.remove_snapshot("c"))
            asyncio.run(images.close())
        stubs = (".dockerenv", "etc", "proc", "sys", "dev")
        assert shown == {
            path: entry for path, entry in seen.items() if path.split("/")[0] not in stubs
        }, f"seed {seed}"


def change_at_random(root: Path, chance: random.Random) -> None:
    """Deletes, replaces, renames and adds."""
    stubs = {".dockerenv", "etc", "proc", "sys", "dev"}
    # Not rglob, which follows links in Python 3.11.2 and fails at one with a name that is too long.
    found = [
        Path(folder, name)
        for folder, folders, files in os.walk(root)
        for name in (*folders, *files)
    ]
    paths = [path for path in sorted(found) if path.relative_to(root).parts[0] not in stubs]
    for path in chance.sample(paths, len(paths) // 3):
        if not os.path.lexists(path):
            continue
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
        action = chance.randint(0, 3)
        if action in {0, 1}:
            shutil.rmtree(path) if is_folder else path.unlink()
            if action and is_folder:
                path.mkdir()
                (path / "again").write_bytes(b"x")
            elif action:
                path.mkdir()
        elif action == 2 and stat.S_ISREG(path.lstat().st_mode):
            path.write_bytes(chance.randbytes(100))
        elif not is_folder and path.parent.is_dir():
            path.rename(path.parent / f"renamed-{chance.randint(0, 10**9)}")
