"""Archives made to escape, to exhaust or to crash: harmless or refused, by both drivers, with nothing left.

Each test is named after its attack. "Outside" is a folder beside ROOT that the archives aim at.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import resource
import stat
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.image.support import Tar, make_image, mounted, open_images, read_tree, stream
from wherry.engine.images import Images
from wherry.image.content import BadContent
from wherry.image.digest import digest_of
from wherry.lib.tar.reader import BLOCK

pytestmark = pytest.mark.needs("mount", "overlay")


class Attack:
    """A service of one driver and the folder that nothing may touch."""

    def __init__(self, images: Images, folder: Path) -> None:
        self.images = images
        self.folder = folder
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "victim").write_bytes(b"untouched")
        self._before = self._state()

    def _state(self) -> object:
        return (
            read_tree(self.outside),
            sorted(os.listdir(self.folder)),
            os.stat("/etc/passwd").st_mtime_ns,
        )

    def apply(self, *layers: Tar | bytes) -> dict[str, tuple[object, ...]]:
        """The tree that results; the attack must have stayed inside."""
        image = asyncio.run(make_image(self.images, *layers))
        self.check()
        mount = asyncio.run(self.images.image_mount(image))
        with mounted(mount, self.folder / "mounted") as root:
            tree = read_tree(root)
        (self.folder / "mounted").rmdir()
        self.check()
        return tree

    def refuse(self, layer: Tar | bytes, sentence: str) -> None:
        """The archive is refused and leaves nothing."""
        with pytest.raises(BadContent, match=sentence):
            asyncio.run(make_image(self.images, layer))
        self.check()
        assert [p.name for p in (self.folder / "root/layers").iterdir()] == []
        assert list((self.folder / "root/tmp").iterdir()) == []
        assert list(self.images.content.digests()) == []

    def check(self) -> None:
        assert self._state() == self._before, "SOMETHING OUTSIDE WAS CHANGED: THIS IS AN ESCAPE"


@pytest.fixture(params=["erofs", "overlay2"])
def attack(request: pytest.FixtureRequest, tmp_path: Path):
    (tmp_path / "root").mkdir()
    (tmp_path / "run").mkdir()
    with open_images(tmp_path, request.param) as images:
        yield Attack(images, tmp_path)
        asyncio.run(_clean(images))


def test_dot_dot_paths(attack: Attack) -> None:
    up = "../" * 20
    tree = attack.apply(
        Tar()
        .add(f"{up}{attack.outside}/victim", b"x")
        .add("a/../../../b", b"x")
        .add("..", kind=tarfile.DIRTYPE)
    )
    assert "b" in tree
    assert str(attack.outside / "victim")[1:] in tree


def test_absolute_paths(attack: Attack) -> None:
    assert "etc/passwd" in attack.apply(Tar().add("/etc/passwd", b"x").add("//etc//shadow", b"x"))


def test_symlink_then_write_through_it(attack: Attack) -> None:
    tree = attack.apply(
        Tar().symlink("out", str(attack.outside)).add("out/victim", b"x").add("out/new", b"x")
    )
    assert tree[str(attack.outside / "victim")[1:]][3] == 1


def test_symlink_chains_and_dot_dot_behind_symlinks(attack: Attack) -> None:
    attack.apply(
        Tar()
        .symlink("a", "../../../../../../../")
        .symlink("b", "a/..")
        .symlink("c", f"b/../../..{attack.outside}")
        .add("c/victim", b"x")
    )


def test_symlink_loops(attack: Attack) -> None:
    attack.refuse(Tar().symlink("a", "b").symlink("b", "a").add("a/x"), "too many symlinks")


def test_symlink_replaced_by_directory_and_back(attack: Attack) -> None:
    attack.apply(
        Tar()
        .folder("d")
        .add("d/x")
        .symlink("d", str(attack.outside))
        .add("d/victim", b"x")
        .folder("d")
        .add("d/victim", b"y")
    )


def test_symlink_of_a_lower_layer(attack: Attack) -> None:
    tree = attack.apply(
        Tar().symlink("out", str(attack.outside)),
        Tar().add("out/victim", b"x").add("out/.wh.victim2"),
    )
    assert stat.S_ISDIR(int(str(tree["out"][0]), 8))


def test_hard_link_to_outside(attack: Attack) -> None:
    for target in ("/etc/passwd", "../../../../etc/passwd", str(attack.outside / "victim")):
        attack.refuse(Tar().hard_link("x", target), "is not a file of this layer")


def test_hard_link_through_a_symlink(attack: Attack) -> None:
    attack.refuse(
        Tar().symlink("out", str(attack.outside)).hard_link("x", "out/victim"),
        "is not a file of this layer",
    )


def test_hard_link_to_a_directory_and_to_itself(attack: Attack) -> None:
    attack.refuse(Tar().folder("d").hard_link("x", "d"), "is not a file of this layer")
    attack.refuse(Tar().hard_link("x", "x"), "is not a file of this layer")


def test_hard_link_to_a_symlink_is_the_symlink(attack: Attack) -> None:
    tree = attack.apply(Tar().symlink("s", str(attack.outside / "victim")).hard_link("x", "s"))
    assert tree["x"][5] == str(attack.outside / "victim")


def test_whiteouts_of_outside(attack: Attack) -> None:
    attack.apply(
        Tar()
        .symlink("out", str(attack.outside))
        .add("out/.wh.victim")
        .add("../../.wh.etc")
        .add(f"{attack.outside}/.wh.victim")
        .add("../.wh..wh..opq")
    )


def test_whiteouts_of_dot_and_dot_dot(attack: Attack) -> None:
    attack.refuse(Tar().add("d/.wh.."), "bad whiteout")
    attack.refuse(Tar().add("d/.wh..."), "bad whiteout")


def test_whiteout_and_directory_that_is_replaced(attack: Attack) -> None:
    tree = attack.apply(
        Tar().folder("d").add("d/.wh.x").add("d", b"file").add(".wh.").add(".wh..wh.plnk")
    )
    assert set(tree) == {"d"}


def test_devices_and_setuid_are_data_only(attack: Attack) -> None:
    tree = attack.apply(
        Tar().add("disk", kind=tarfile.BLKTYPE, device=(8, 0)).add("su", b"x", mode=0o6755, uid=0)
    )
    assert tree["su"][0] == oct(stat.S_IFREG | 0o6755)
    attack_mounts = Path("/proc/self/mountinfo").read_text()
    assert all(
        "nodev" in line
        for line in attack_mounts.splitlines()
        if f"{attack.folder}/run/layers" in line
    )


def test_a_device_made_to_look_like_a_whiteout(attack: Attack) -> None:
    tree = attack.apply(
        Tar().add("x"),
        Tar().folder("y").add("x", kind=tarfile.CHRTYPE).add("y/z", kind=tarfile.CHRTYPE),
    )
    assert set(tree) == {"y"}


def test_names_with_controls_case_and_unicode_tricks(attack: Attack) -> None:
    names = ["A", "a", "e\u0301", "\u00e9", "\u202egpj", "a\u2044b", "\x1b[2J", "-rf", "CON", " "]
    tar = Tar()
    for name in names:
        tar.add(name, name.encode())
    assert set(names) <= set(attack.apply(tar))


def test_names_with_nul_bytes(attack: Attack) -> None:
    attack.refuse(Tar().add("x", xattrs={}).bytes()[:0] + _pax_member(b"path", b"a\0b"), "bad name")
    attack.refuse(_pax_member(b"linkpath", b"a\0b", kind=tarfile.SYMTYPE), "bad symlink")


def test_overlay_attributes_from_an_archive(attack: Attack) -> None:
    tree = attack.apply(
        Tar().folder("d").add("d/below"),
        Tar().folder(
            "d",
            xattrs={
                "trusted.overlay.opaque": "y",
                "trusted.overlay.redirect": "/",
                "trusted.overlay.metacopy": "y",
            },
        ),
    )
    assert "d/below" in tree


@pytest.mark.parametrize(
    "damage", ["checksum", "negative", "truncated", "garbage", "pax", "number"]
)
def test_damaged_headers(attack: Attack, damage: str) -> None:
    data = bytearray(Tar().add("x", b"y" * 2000).bytes())
    if damage == "checksum":
        data[0] ^= 1
    elif damage == "negative":
        data = _reheader(data, 124, b"\xff" * 12)
    elif damage == "truncated":
        data = data[:1500]
    elif damage == "garbage":
        data = bytearray(os.urandom(4096))
        data[:4] = b"\0\1\2\3"
    elif damage == "number":
        data = _reheader(data, 124, b"99999999999\0")
    else:
        data = bytearray(_pax_member(b"size", b"-5"))
    attack.refuse(bytes(data), ".")


def test_a_size_beyond_the_archive(attack: Attack) -> None:
    data = _reheader(bytearray(Tar().add("x", b"y").bytes()), 124, b"77777777777\0")
    attack.refuse(bytes(data), "ends inside")


def test_an_endless_pax_header(attack: Attack) -> None:
    data = bytearray(_pax_member(b"path", b"x"))
    attack.refuse(bytes(_reheader(data, 124, b"37777777777\0")), "too large")


def test_sparse_maps_that_lie(attack: Attack) -> None:
    for records in (
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"},
        {"GNU.sparse.map": "5,5,0,5", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0,99999999999", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "1", "GNU.sparse.size": "10"},
    ):
        attack.refuse(_member_with(records, b"0123456789"), "sparse")


def test_truncated_compressed_layer(attack: Attack) -> None:
    packed = gzip.compress(Tar().add("x", os.urandom(100_000)).bytes())
    attack.refuse(packed[: len(packed) // 2], "unexpected EOF")
    attack.refuse(packed[:20] + b"\xff" * 40 + packed[60:], ".")


def test_a_bomb_of_zeros(attack: Attack) -> None:
    """Ten gigabytes of zeros in ten megabytes, as one file: refused while it is read."""
    if os.statvfs(attack.folder).f_bavail * 4096 < 12 << 30:
        pytest.skip("needs 12 GB of space")
    head = bytearray(Tar().add("zeros").bytes()[:BLOCK])
    member = _reheader(head, 124, b"%011o\0" % (10 << 30))
    piece = gzip.compress(bytes(1 << 26), 9)

    async def packed() -> AsyncIterator[bytes]:
        yield gzip.compress(bytes(member))
        for _ in range(160):
            yield piece

    with pytest.raises(BadContent, match="decompresses to more than 100 times its size"):
        asyncio.run(attack.images.import_(packed()))
    attack.check()
    assert list((attack.folder / "root/layers").iterdir()) == []


def test_a_million_entries_take_bounded_memory(attack: Attack) -> None:
    """Entries cost the sender half a kilobyte each, packed a few bytes; the worker has a limit of its own."""
    block = Tar().add("x" * 90).bytes()[:BLOCK]

    async def entries() -> AsyncIterator[bytes]:
        batch = []
        for number in range(2_100_000):
            name = b"%08d" % number
            header = bytearray(block)
            header[:8] = name
            header[148:156] = b"        "
            header[148:156] = b"%06o\0 " % sum(header)
            batch.append(bytes(header))
            if len(batch) == 2000:
                yield b"".join(batch)
                batch.clear()

    if os.environ.get("WHERRY_SLOW_TESTS") != "1":
        pytest.skip("slow: WHERRY_SLOW_TESTS=1 runs it")
    with pytest.raises(BadContent, match=r"entries|complex"):
        asyncio.run(attack.images.import_(entries()))
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_800_000


def test_directories_a_thousand_levels_deep(attack: Attack) -> None:
    path = "/".join(["d"] * 1000)
    tar = Tar().add(path + "/x", b"1").bytes()
    image = asyncio.run(make_image(attack.images, tar))
    asyncio.run(attack.images.create_snapshot(image, "deep"))
    assert asyncio.run(attack.images.changes("deep")) == []
    exported = asyncio.run(_drain(attack.images.export("deep")))
    assert path + "/x" in tarfile.open(fileobj=io.BytesIO(exported)).getnames()
    asyncio.run(attack.images.remove_snapshot("deep"))


# ---- archives of images


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({}, "neither manifest.json nor index.json"),
        ({"manifest.json": b"{"}, "not JSON"),
        ({"manifest.json": b"{}"}, "not a list"),
        ({"manifest.json": b"[1]"}, "expected objects"),
        ({"manifest.json": b'[{"Config":"../../../../etc/passwd","Layers":[]}]'}, "has no"),
        ({"manifest.json": b'[{"Config":7,"Layers":[]}]'}, "expected a string"),
        ({"manifest.json": b"[" * 100_000}, "not JSON"),
        ({"index.json": b'{"schemaVersion":2,"manifests":[]}'}, "holds no images"),
        (
            {
                "index.json": b'{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}'
            },
            "invalid digest",
        ),
    ],
)
def test_image_archives_that_lie(attack: Attack, members: dict[str, bytes], sentence: str) -> None:
    tar = Tar()
    for name, data in members.items():
        tar.add(name, data)
    with pytest.raises(BadContent, match=sentence):
        asyncio.run(_load(attack.images, tar.bytes()))
    attack.check()
    assert list((attack.folder / "root/tmp").iterdir()) == []


def test_an_index_that_names_itself(attack: Attack) -> None:
    inner = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    "mediaType": "application/vnd.oci.image.index.v1+json",
                    "digest": "sha256:" + "0" * 64,
                    "size": 1,
                }
            ],
        }
    ).encode()
    tar = Tar().add("index.json", inner).add(f"blobs/sha256/{'0' * 64}", inner)
    with pytest.raises(BadContent, match="digest"):
        asyncio.run(_load(attack.images, tar.bytes()))


def test_links_between_members_cannot_leave_the_archive(attack: Attack) -> None:
    config = json.dumps({"rootfs": {"diff_ids": ["sha256:" + "0" * 64]}}).encode()
    tar = (
        Tar()
        .add("c.json", config)
        .symlink("layer.tar", str(attack.outside / "victim"))
        .symlink("loop", "loop")
        .add("manifest.json", b'[{"Config":"c.json","Layers":["layer.tar"]}]')
    )
    with pytest.raises(BadContent, match="has no layer"):
        asyncio.run(_load(attack.images, tar.bytes()))
    attack.check()


def test_a_layer_that_is_not_what_the_config_says(attack: Attack) -> None:
    layer = Tar().add("x").bytes()
    config = json.dumps({"rootfs": {"diff_ids": ["sha256:" + "1" * 64]}}).encode()
    tar = Tar().add("c.json", config).add("l.tar", layer)
    tar.add("manifest.json", b'[{"Config":"c.json","Layers":["l.tar"]}]')
    with pytest.raises(BadContent, match="invalid diffID"):
        asyncio.run(_load(attack.images, tar.bytes()))
    assert list((attack.folder / "root/layers").iterdir()) == []
    assert not attack.images.has_blob(digest_of(config))


async def _clean(images: Images) -> None:
    while images.all():
        for image in images.all():
            if not images.catalog.children(image.id):
                await images.remove(image.id, force=True)
                break
    await images.close()


async def _load(images: Images, data: bytes) -> None:
    async for _ in images.load(stream(data)):
        pass


async def _drain(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


def _reheader(data: bytearray, at: int, field: bytes) -> bytearray:
    """Puts a field into the first header and corrects its checksum."""
    data[at : at + len(field)] = field
    data[148:156] = b"        "
    data[148:156] = b"%06o\0 " % sum(data[:BLOCK])
    return data


def _member_with(records: dict[str, str], content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("x")
        member.size = len(content)
        member.pax_headers = records
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _pax_member(key: bytes, value: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    body = key + b"=" + value + b"\n"
    length = len(body) + 3
    if len(str(length)) != 2:
        raise ValueError("two digits are enough here")
    record = b"%d %s" % (length, body)
    head = bytearray(Tar().add("pax", record).bytes()[:BLOCK])
    head[156:157] = b"x"
    head = _reheader(head, 148, b"        ")
    member = Tar().add("x", kind=kind, link="y" if kind == tarfile.SYMTYPE else "").bytes()
    return bytes(head) + record.ljust(BLOCK, b"\0") + member
