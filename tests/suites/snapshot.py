"""What every layer driver must do: the same tree of the same layers, and snapshots that behave.

A driver's test is a subclass that sets `driver`; see tests/image/test_snapshot.py.
"""

from __future__ import annotations

import asyncio
import os
import stat
import tarfile
from pathlib import Path

import pytest

from tests.image.support import TIME, Tar, make_image, mounted, open_images, read_tree
from wherry.image.layer.store import TooManyLayers
from wherry.kernel.mountinfo import read_mountinfo
from wherry.model.container import ContainerConfig
from wherry.model.image import Image


class SnapshotSuite:
    """Subclass it with the driver's name."""

    driver: str

    @pytest.fixture(autouse=True)
    def _service(self, tmp_path: Path):
        self.folder = tmp_path
        with open_images(tmp_path, self.driver) as images:
            self.images = images
            yield
            asyncio.run(self._clean())
        assert not [m for m in read_mountinfo() if m.mount_point.startswith(str(tmp_path))]

    async def _clean(self) -> None:
        for key in self.images.snapshots.keys():  # noqa: SIM118 - a method of ours
            await self.images.remove_snapshot(key)
        await self.images.close()

    def make(self, *layers: Tar | bytes) -> Image:
        return asyncio.run(make_image(self.images, *layers))

    def tree_of(self, image: Image) -> dict[str, tuple[object, ...]]:
        mount = asyncio.run(self.images.image_mount(image))
        with mounted(mount, self.folder / "mounted") as root:
            return read_tree(root)

    def names_of(self, image: Image) -> set[str]:
        return set(self.tree_of(image))

    # ---- one layer

    def test_the_driver_is_the_one_asked_for(self) -> None:
        assert self.images.driver == self.driver

    def test_every_kind_of_file(self) -> None:
        image = self.make(
            Tar()
            .folder("d", 0o1777, uid=5, gid=6)
            .add("d/file", b"x" * 70_000, mode=0o4755, uid=70_000, gid=70_001)
            .add("d/empty")
            .symlink("d/link", "../somewhere")
            .symlink("d/long", "y" * 4000)
            .hard_link("d/other", "d/file")
            .add("d/fifo", kind=tarfile.FIFOTYPE)
            .add("d/null", kind=tarfile.CHRTYPE, device=(1, 3), mode=0o666)
            .add("d/disk", kind=tarfile.BLKTYPE, device=(259, 1030), mode=0o660)
        )
        tree = self.tree_of(image)
        assert tree["d"][:3] == (oct(stat.S_IFDIR | 0o1777), 5, 6)
        assert tree["d/file"][:4] == (oct(stat.S_IFREG | 0o4755), 70_000, 70_001, 70_000)
        assert tree["d/file"][-1] == ("d/file", "d/other")
        assert tree["d/link"][5] == "../somewhere"
        assert tree["d/long"][5] == "y" * 4000
        assert tree["d/null"][5] == os.makedev(1, 3)
        assert tree["d/disk"][5] == os.makedev(259, 1030)
        assert tree["d/empty"][3] == 0
        assert {entry[4] for entry in tree.values()} == {TIME * 1_000_000_000}
        assert image.size_bytes == 70_000 + len("../somewhere") + 4000  # as Docker counts

    def test_times_with_nanoseconds_and_before_1970(self) -> None:
        image = self.make(Tar().add("new", mtime=TIME + 0.5).add("old", mtime=-1000.0))
        tree = self.tree_of(image)
        assert tree["new"][4] == TIME * 1_000_000_000 + 500_000_000
        assert tree["old"][4] == -1_000_000_000_000

    def test_extended_attributes_and_capabilities(self) -> None:
        capability = (
            b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        )
        image = self.make(
            Tar().add(
                "ping",
                b"!",
                xattrs={
                    "security.capability": capability.decode("latin-1"),
                    "user.note": "hello",
                    "trusted.overlay.opaque": "y",
                    "user.overlay.whiteout": "y",
                },
            )
        )
        assert self.tree_of(image)["ping"][6] == (
            ("security.capability", capability),
            ("user.note", b"hello"),
        )

    def test_long_and_odd_names(self) -> None:
        names = [
            "a" * 255,
            "/".join(["d" * 100] * 5) + "/f",
            "ünï/cödé",
            "new\nline",
            "back\\slash",
        ]
        for format_ in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            tar = Tar(format_)
            for name in names:
                tar.add(name)
            assert set(names) <= self.names_of(self.make(tar))

    def test_a_directory_of_many_names(self) -> None:
        tar = Tar()
        for number in range(3000):
            tar.add(f"many/file-{number:05}", str(number).encode())
        tree = self.tree_of(self.make(tar))
        assert len(tree) == 3001

    def test_later_entries_win(self) -> None:
        image = self.make(
            Tar()
            .add("x", b"first")
            .folder("y")
            .add("y/z")
            .add("x", b"second!")
            .add("y", b"a file now")
            .add("f", b"a file")
            .add("f/g", b"in a directory now")
        )
        tree = self.tree_of(image)
        assert tree["x"][3] == 7
        assert "y/z" not in tree
        assert tree["f/g"][3] == 18

    def test_paths_through_symlinks_of_the_same_layer_stay_inside(self) -> None:
        image = self.make(
            Tar()
            .folder("real")
            .symlink("to", "/real")
            .symlink("up", "../../../real")
            .add("to/a")
            .add("up/b")
        )
        assert {"real/a", "real/b"} <= self.names_of(image)

    def test_a_sparse_file(self) -> None:
        path = self.folder / "sparse"
        with path.open("wb") as file:
            file.seek(1 << 20)
            file.write(b"data")
            file.truncate(3 << 20)
        for option in ("--format=gnu", "--format=pax"):
            tar = self.folder / "sparse.tar"
            assert os.system(f"tar {option} -S -C {self.folder} -cf {tar} sparse") == 0
            assert tar.stat().st_size < 1 << 20
            image = self.make(tar.read_bytes())
            mount = asyncio.run(self.images.image_mount(image))
            with mounted(mount, self.folder / "mounted") as root:
                assert (root / "sparse").read_bytes() == path.read_bytes()

    # ---- several layers

    def test_whiteouts_hide_and_later_layers_bring_back(self) -> None:
        base = Tar().folder("d").add("d/a").add("d/b").folder("e").add("e/x").add("top")
        image = self.make(
            base,
            Tar().add("d/.wh.a").add(".wh.e").add(".wh.top"),
            Tar().folder("e").add("e/y"),
        )
        assert self.names_of(image) == {"d", "d/b", "e", "e/y"}

    def test_opaque_directories_hide_what_is_below(self) -> None:
        image = self.make(
            Tar().folder("d").add("d/a").folder("d/s").add("d/s/t"),
            Tar().folder("d").add("d/new").add("d/.wh..wh..opq"),
        )
        assert self.names_of(image) == {"d", "d/new"}

    def test_a_whiteout_beside_its_own_name_in_one_layer(self) -> None:
        for order in (0, 1):
            top = Tar()
            if order:
                top.add(".wh.d").add(".wh.f")
            top.folder("d").add("d/new").add("f", b"new")
            if not order:
                top.add(".wh.d").add(".wh.f")
            image = self.make(Tar().folder("d").add("d/old").add("f", b"older"), top)
            tree = self.tree_of(image)
            assert set(tree) == {"d", "d/new", "f"}
            assert tree["f"][3] == 3

    def test_a_whiteout_in_a_directory_of_one_layer_is_not_listed(self) -> None:
        image = self.make(Tar().add("other"), Tar().folder("d").add("d/.wh.nothing").add("d/x"))
        assert self.names_of(image) == {"other", "d", "d/x"}

    def test_an_opaque_root_hides_all_layers_below(self) -> None:
        image = self.make(
            Tar().add("old").folder("d").add("d/x"), Tar().add("new").add(".wh..wh..opq")
        )
        assert self.names_of(image) == {"new"}

    def test_directories_without_an_entry_keep_the_attributes_below(self) -> None:
        image = self.make(
            Tar().folder("d", 0o750, uid=7, gid=8).folder("d/e", 0o700, uid=9), Tar().add("d/e/f")
        )
        tree = self.tree_of(image)
        assert tree["d"][:3] == (oct(stat.S_IFDIR | 0o750), 7, 8)
        assert tree["d/e"][:2] == (oct(stat.S_IFDIR | 0o700), 9)

    def test_directories_without_an_entry_keep_a_time_of_zero(self) -> None:
        """Reproducible images date everything 1970."""
        lower = Tar().folder("d", mtime=0).folder("d/e", 0o700, mtime=0)
        tree = self.tree_of(self.make(lower, Tar().add("d/e/new", mtime=0)))
        assert tree["d"][4] == 0
        assert tree["d/e"][4] == 0

    def test_more_layers_than_docker_allows(self) -> None:
        layer = Tar().add("x").bytes()
        image = self.make(layer)
        with pytest.raises(TooManyLayers, match="max depth exceeded"):
            asyncio.run(self.images.register(self._deep(image), manifest=None, blobs=()))

    def _deep(self, image: Image):
        from wherry.image.config import ImageConfig, build_config
        from wherry.image.digest import digest_of

        data = build_config(ImageConfig(diff_ids=image.diff_ids * 126))
        self.images.content.put(digest_of(data), data)
        return digest_of(data)

    # ---- snapshots

    def test_the_roots_attributes_are_the_images(self) -> None:
        image = self.make(Tar().folder("./", 0o711, uid=3, gid=4).add("x"))
        mount = asyncio.run(self.images.create_snapshot(image, "c1"))
        with mounted(mount, self.folder / "mounted") as root:
            status = root.stat()
            assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o711, 3, 4)

    def test_mount_points_are_there_and_no_difference(self) -> None:
        image = self.make(
            Tar().folder("etc", 0o700).symlink("etc/hosts", "/outside").add("etc/passwd")
        )
        mount = asyncio.run(self.images.create_snapshot(image, "c1"))
        with mounted(mount, self.folder / "mounted") as root:
            assert stat.S_ISREG((root / "etc/hosts").lstat().st_mode)
            assert (root / ".dockerenv").is_file()
            assert os.readlink(root / "etc/mtab") == "/proc/mounts"
            assert stat.S_IMODE((root / "etc").stat().st_mode) == 0o700
            assert all((root / name).is_dir() for name in ("proc", "sys", "dev/pts", "dev/shm"))
        assert asyncio.run(self.images.changes("c1")) == []
        assert asyncio.run(self.images.snapshot_usage("c1")) == 0

    def test_changes_are_dockers(self) -> None:
        image = self.make(
            Tar()
            .folder("d")
            .add("d/a", b"1")
            .add("d/b")
            .folder("gone")
            .add("gone/x")
            .folder("new")
            .add("new/old")
            .folder("mode")
            .folder("same")
        )
        mount = asyncio.run(self.images.create_snapshot(image, "c1"))
        with mounted(mount, self.folder / "mounted") as root:
            (root / "d/a").write_bytes(b"22")
            (root / "d/b").unlink()
            (root / "gone/x").unlink()
            (root / "gone").rmdir()
            (root / "new/old").unlink()
            (root / "new").rmdir()
            (root / "new").mkdir()
            (root / "new/fresh").touch()
            (root / "mode").chmod(0o700)
            os.utime(root / "same")
            (root / "added").mkdir()
            (root / "added/f").touch()
        changes = asyncio.run(self.images.changes("c1"))
        assert [(change.kind, change.path) for change in changes] == [
            ("A", "/added"),
            ("A", "/added/f"),
            ("C", "/d"),
            ("C", "/d/a"),
            ("D", "/d/b"),
            ("D", "/gone"),
            ("C", "/mode"),
            ("C", "/new"),
            ("A", "/new/fresh"),
            ("D", "/new/old"),
        ]

    def test_a_commit_gives_the_tree_that_was_seen(self) -> None:
        image = self.make(
            Tar()
            .folder("d")
            .add("d/a", b"1")
            .add("d/b")
            .folder("e")
            .add("e/x")
            .add("f", xattrs={"user.k": "v"})
        )
        mount = asyncio.run(self.images.create_snapshot(image, "c1"))
        with mounted(mount, self.folder / "mounted") as root:
            (root / "d/a").unlink()
            (root / "e/x").unlink()
            (root / "e").rmdir()
            (root / "e").mkdir()
            (root / "e/y").write_bytes(b"new")
            os.link(root / "e/y", root / "e/z")
            os.setxattr(root / "f", "user.more", b"2")
            os.mkfifo(root / "fifo")
            os.mknod(root / "dev/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
            for path in (
                root / "e/y",
                root / "e",
                root / "d",
                root / "fifo",
                root / "f",
                root / "dev/zero",
            ):
                os.utime(path, ns=(TIME * 10**9, TIME * 10**9))
            os.utime(root / "dev", ns=(TIME * 10**9, TIME * 10**9))
            seen = read_tree(root)
        committed = asyncio.run(self.images.commit("c1", config=ContainerConfig(cmd=("x",))))
        tree = self.tree_of(committed)
        stubs = {".dockerenv", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"}
        stubs |= {"proc", "sys", "dev/pts", "dev/shm", "dev/console"}
        assert tree == {path: entry for path, entry in seen.items() if path not in stubs}

    def test_two_snapshots_do_not_see_each_other(self) -> None:
        image = self.make(Tar().add("x", b"1"))
        one = asyncio.run(self.images.create_snapshot(image, "c1"))
        two = asyncio.run(self.images.create_snapshot(image, "c2"))
        with mounted(one, self.folder / "m1") as first, mounted(two, self.folder / "m2") as second:
            (first / "x").write_bytes(b"changed")
            assert (second / "x").read_bytes() == b"1"

    def test_volatile_only_when_asked_for(self) -> None:
        image = self.make(Tar().add("x"))
        assert not asyncio.run(self.images.create_snapshot(image, "c1")).volatile
        assert asyncio.run(self.images.create_snapshot(image, "c2", volatile=True)).volatile
        with open_images(self.folder, self.driver) as again:
            assert (again.root_mount("c1").volatile, again.root_mount("c2").volatile) == (
                False,
                True,
            )

    def test_a_snapshot_over_nothing(self) -> None:
        mount = asyncio.run(self.images.create_snapshot(None, "c1"))
        with mounted(mount, self.folder / "mounted") as root:
            assert (root / "etc/hostname").is_file()
            (root / "x").write_bytes(b"1")
        image = asyncio.run(self.images.commit("c1", config=ContainerConfig(cmd=("x",))))
        assert self.names_of(image) == {"x"}

    def test_an_unchanged_snapshot_commits_no_layer(self) -> None:
        image = self.make(Tar().add("x"))
        asyncio.run(self.images.create_snapshot(image, "c1"))
        made = asyncio.run(self.images.commit("c1", config=ContainerConfig(cmd=("x",))))
        assert made.diff_ids == image.diff_ids
        assert made.history[-1].empty_layer

    def test_a_snapshot_outlives_the_engine_and_the_machine(self) -> None:
        image = self.make(Tar().add("x", b"1"))
        mount = asyncio.run(self.images.create_snapshot(image, "c1"))
        with open_images(self.folder, self.driver) as again:
            assert again.root_mount("c1") == mount  # another engine, same boot
        self.images.layers.close_unused(())  # what a reboot does to RUN
        with open_images(self.folder, self.driver) as again:
            with mounted(again.root_mount("c1"), self.folder / "mounted") as root:
                assert (root / "x").read_bytes() == b"1"
            again.layers.close_unused(())

    def test_a_layer_goes_with_its_last_user(self) -> None:
        image = self.make(Tar().add("x", b"1"))
        asyncio.run(self.images.create_snapshot(image, "c1"))

        async def remove() -> None:
            await self.images.remove(image.id)
            assert self.images.has_layer(image.diff_ids[0])  # the snapshot has it
            await self.images.remove_snapshot("c1")
            assert not self.images.has_layer(image.diff_ids[0])
            await self.images.collector.close()

        asyncio.run(remove())
        assert list(self.images.content.digests()) == []
        assert list((self.folder / "root/layers").iterdir()) == []
