"""Load and save: every form of archive that exists, digests that survive, names and their lines."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard

from tests.image.support import Tar, open_images, stream
from wherry.engine.images import Deleted, Images
from wherry.engine.images.making import own_platform
from wherry.image.content import BadContent
from wherry.image.digest import digest_of
from wherry.model.errors import Forbidden, InvalidArgument, NoSuchImage, NotFound
from wherry.model.image import Platform

pytestmark = pytest.mark.needs("mount", "overlay")

BASE = Tar().folder("etc").add("etc/passwd", b"root:x:0:0::/:/bin/sh\n").bytes()
TOP = Tar().add("hello", b"hello" * 100).bytes()


def build_config(*layers: bytes, **more: object) -> bytes:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "config": {"Cmd": ["sh"], "Env": ["A=1"], "Labels": {"k": "v"}, "Unknown": 1},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        "history": [
            {"created_by": "base"},
            {"created_by": "ENV A=1", "empty_layer": True},
            {"created_by": "top"},
        ],
        **more,
    }
    return json.dumps(document).encode()


CONFIG = build_config(BASE, TOP)


def old_docker_archive() -> bytes:
    """Docker before 25: a folder per layer, a layer that two images share as a symlink."""
    name = digest_of(CONFIG)[7:] + ".json"
    other = build_config(BASE)
    manifest = [
        {
            "Config": name,
            "RepoTags": ["test:1", "test:2"],
            "Layers": ["a/layer.tar", "b/layer.tar"],
        },
        {"Config": "other.json", "RepoTags": None, "Layers": ["c/layer.tar"]},
    ]
    return (
        Tar()
        .folder("a")
        .add("a/layer.tar", BASE)
        .add("a/VERSION", b"1.0")
        .add("b/layer.tar", TOP)
        .symlink("c/layer.tar", "../a/layer.tar")
        .add(name, CONFIG)
        .add("other.json", other)
        .add("manifest.json", json.dumps(manifest).encode())
        .bytes()
    )


def oci_archive(*, compress: str = "gzip", name: str = "example.org/team/app:3") -> bytes:
    pack = {
        "gzip": (lambda data: gzip.compress(data, mtime=0), "+gzip"),
        "zstd": (zstandard.compress, "+zstd"),
        "none": (lambda data: data, ""),
    }[compress]
    blobs = {digest_of(CONFIG): CONFIG}
    layers = []
    for layer in (BASE, TOP):
        packed = pack[0](layer)
        blobs[digest_of(packed)] = packed
        layers.append(
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar" + pack[1],
                "digest": digest_of(packed),
                "size": len(packed),
            }
        )
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest_of(CONFIG),
                "size": len(CONFIG),
            },
            "layers": layers,
            "annotations": {"a": "b"},
        }
    ).encode()
    blobs[digest_of(manifest)] = manifest
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest_of(manifest),
                "size": len(manifest),
                "annotations": {"org.opencontainers.image.ref.name": name},
            }
        ],
    }
    tar = (
        Tar()
        .add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        .add("index.json", json.dumps(index).encode())
    )
    for digest, blob in blobs.items():
        tar.add(f"blobs/sha256/{digest[7:]}", blob)
    return tar.bytes()


def multi_platform_archive() -> bytes:
    """An OCI layout whose name leads to an index of two platforms, and an attestation that is no image."""
    blobs: dict[str, bytes] = {}

    def put(data: bytes, media_type: str, **more: object) -> dict[str, object]:
        blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}

    manifests = []
    for architecture in ("amd64", "arm64", "riscv64"):
        config = build_config(BASE, architecture=architecture, history=[])
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "config": put(config, "application/vnd.oci.image.config.v1+json"),
                "layers": [
                    put(gzip.compress(BASE, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
                ],
            }
        ).encode()
        manifests.append(
            put(
                manifest,
                "application/vnd.oci.image.manifest.v1+json",
                platform={"os": "linux", "architecture": architecture},
            )
        )
    del blobs[str(manifests[2]["digest"])]  # a platform that was left out
    index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    entry = put(
        index,
        "application/vnd.oci.image.index.v1+json",
        annotations={"io.containerd.image.name": "docker.io/library/multi:1"},
    )
    tar = Tar().add("index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
    for digest, blob in blobs.items():
        tar.add(f"blobs/sha256/{digest[7:]}", blob)
    return tar.bytes()


async def load(images: Images, data: bytes, **options: object) -> list[str]:
    pieces = (data[at : at + 1000] for at in range(0, len(data), 1000))
    return [
        line.stream or f"{line.status} {line.id}"
        async for line in images.load(stream(*pieces), **options)  # type: ignore[arg-type]
    ]


async def save(images: Images, *names: str, platform: Platform | None = None) -> bytes:
    return b"".join([piece async for piece in images.save(names, platform)])


def read_members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]


@pytest.fixture(params=["erofs", "overlay2"])
def images(request: pytest.FixtureRequest, tmp_path: Path):
    with open_images(tmp_path, request.param) as service:
        yield service
        asyncio.run(service.close())
        assert list((tmp_path / "root/tmp").iterdir()) == []


def test_an_old_docker_archive(images: Images) -> None:
    lines = asyncio.run(load(images, old_docker_archive()))
    other = digest_of(build_config(BASE))
    assert [line for line in lines if "Loaded" in line] == [
        "Loaded image: test:1\n",
        "Loaded image: test:2\n",
        f"Loaded image ID: {other}\n",
    ]
    assert lines.count(f"Loading layer {digest_of(BASE)[7:19]}") == 2
    image = images.get("test:1")
    assert image.id == digest_of(CONFIG)
    assert image.repo_tags == ("test:1", "test:2")
    assert image.config.env == ("A=1",)
    assert image.created == "2024-01-02T03:04:05Z"
    assert image.size_bytes == 500 + 22
    assert images.get(other[:20]).diff_ids == (digest_of(BASE),)


@pytest.mark.parametrize("compress", ["gzip", "zstd", "none"])
def test_an_oci_archive_keeps_its_blobs(images: Images, compress: str) -> None:
    data = oci_archive(compress=compress)
    assert "Loaded image: example.org/team/app:3\n" in asyncio.run(load(images, data))
    original = read_members(data)
    saved = read_members(asyncio.run(save(images, "example.org/team/app:3")))
    blobs = {name: blob for name, blob in original.items() if name.startswith("blobs/")}
    assert {name: blob for name, blob in saved.items() if name.startswith("blobs/")} == blobs


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_packed_archive(images: Images, pack) -> None:
    asyncio.run(load(images, pack(old_docker_archive())))
    assert images.get("test:2").id == digest_of(CONFIG)


def test_save_is_a_docker_archive_and_an_oci_layout(images: Images) -> None:
    asyncio.run(load(images, old_docker_archive()))
    members = read_members(asyncio.run(save(images, "test:1", "test:2")))
    (entry,) = json.loads(members["manifest.json"])
    assert entry["RepoTags"] == ["test:1", "test:2"]
    assert [members[layer] for layer in entry["Layers"]] == [BASE, TOP]
    assert members[entry["Config"]] == CONFIG
    index = json.loads(members["index.json"])
    names = [m["annotations"]["io.containerd.image.name"] for m in index["manifests"]]
    assert names == ["docker.io/library/test:1", "docker.io/library/test:2"]
    manifest = members["blobs/sha256/" + index["manifests"][0]["digest"][7:]]
    assert digest_of(manifest) == index["manifests"][0]["digest"]
    assert json.loads(members["repositories"])["test"]["1"] == digest_of(TOP)[7:]
    assert members["oci-layout"] == b'{"imageLayoutVersion": "1.0.0"}'


def test_save_load_save_gives_the_same_bytes(images: Images, tmp_path: Path) -> None:
    asyncio.run(load(images, old_docker_archive()))
    first = asyncio.run(save(images, "test"))
    (tmp_path / "second").mkdir()
    with open_images(tmp_path / "second", images.driver) as second:
        asyncio.run(load(second, first))
        assert asyncio.run(save(second, "test")) == first
        asyncio.run(second.close())


def test_a_pulled_image_comes_back_from_its_archive_with_every_digest(
    images: Images, tmp_path: Path
) -> None:
    asyncio.run(load(images, oci_archive()))
    saved = asyncio.run(save(images, "example.org/team/app:3"))
    (tmp_path / "second").mkdir()
    with open_images(tmp_path / "second", images.driver) as second:
        lines = asyncio.run(load(second, saved))
        assert lines[-1] == "Loaded image: example.org/team/app:3\n"
        assert (
            second.get("example.org/team/app:3").manifest
            == images.get("example.org/team/app:3").manifest
        )
        assert asyncio.run(save(second, "example.org/team/app:3")) == saved
        asyncio.run(second.close())


def test_loading_twice_costs_nothing(images: Images) -> None:
    asyncio.run(load(images, old_docker_archive()))
    before = sorted(images.content.digests())
    lines = asyncio.run(load(images, old_docker_archive()))
    assert not [line for line in lines if "Loading layer" in line]
    assert sorted(images.content.digests()) == before


def test_a_name_that_moves_says_so(images: Images) -> None:
    asyncio.run(load(images, old_docker_archive()))
    asyncio.run(load(images, oci_archive(name="docker.io/library/test:9")))
    config = build_config(TOP)
    tar = Tar().add("c", config).add("l", TOP)
    tar.add(
        "manifest.json",
        json.dumps([{"Config": "c", "RepoTags": ["test:1"], "Layers": ["l"]}]).encode(),
    )
    lines = asyncio.run(load(images, tar.bytes()))
    assert lines[-2] == (
        "The image test:1 already exists, renaming the old one with ID "
        f"{digest_of(CONFIG)} to empty string\n"
    )
    assert images.get("test:2").id == digest_of(CONFIG)


def test_quiet_load_says_only_what_was_loaded(images: Images) -> None:
    lines = asyncio.run(load(images, old_docker_archive(), quiet=True))
    assert all(line.startswith("Loaded image") for line in lines)


def test_a_client_that_goes_away_in_a_load_leaves_nothing(images: Images) -> None:
    data = old_docker_archive()

    async def broken() -> AsyncIterator[bytes]:
        yield data[:3000]
        raise ConnectionResetError("client gone")

    async def run() -> None:
        async for _ in images.load(broken()):
            pass

    with pytest.raises((ConnectionResetError, InvalidArgument)):
        asyncio.run(run())
    assert images.all() == ()
    images.collect()
    assert list(images.content.digests()) == []


def test_an_image_may_be_removed_while_it_is_saved(images: Images) -> None:
    asyncio.run(load(images, old_docker_archive()))

    async def run() -> bytes:
        pieces = []
        async for piece in images.save(["test:1"]):
            if not pieces:
                await images.remove("test:1")
                await images.remove("test:2")
            pieces.append(piece)
        images.collect()
        await images.collector.close()
        return b"".join(pieces)

    members = read_members(asyncio.run(run()))
    (entry,) = json.loads(members["manifest.json"])
    assert [members[layer] for layer in entry["Layers"]] == [BASE, TOP]
    assert not images.has_layer(digest_of(TOP))


def test_saving_what_is_not_there(images: Images) -> None:
    with pytest.raises(NoSuchImage, match=r"No such image: nope$"):
        images.save(["nope"])


def test_import_and_history(images: Images) -> None:
    async def run() -> None:
        image = await images.import_(
            stream(BASE),
            repository="imported",
            tag="1",
            source="-",
            changes=['CMD ["x"]', "ENV A=b"],
        )
        assert image.config.cmd == ("x",)
        assert image.config.env == ("A=b",)
        assert image.diff_ids == (digest_of(BASE),)
        (line,) = images.history("imported:1")
        assert (line.comment, line.size_bytes, line.tags) == (
            "Imported from -",
            22,
            ("imported:1",),
        )
        with pytest.raises(InvalidArgument, match="RUN is not a valid change command"):
            await images.import_(stream(BASE), changes=["RUN x"])

    asyncio.run(run())


def test_history_matches_layers_and_lines(images: Images) -> None:
    asyncio.run(load(images, old_docker_archive()))
    lines = images.history("test:1")
    assert [(line.created_by, line.size_bytes) for line in lines] == [
        ("top", 500),
        ("ENV A=1", 0),
        ("base", 22),
    ]
    assert [line.id for line in lines] == [digest_of(CONFIG), "<missing>", "<missing>"]


def test_sizes_shared_and_alone(images: Images) -> None:
    asyncio.run(load(images, old_docker_archive()))
    usages, total = images.disk_usage()
    assert total == 522
    assert {usage.image.size_bytes: usage.shared_bytes for usage in usages} == {522: 22, 22: 22}


def test_what_each_layer_does(images: Images) -> None:
    asyncio.run(load(images, old_docker_archive()))
    base, top = asyncio.run(images.layer_changes("test:1"))
    assert [(change.kind, change.path) for change in base.changes] == [
        ("A", "/etc"),
        ("A", "/etc/passwd"),
    ]
    assert [(change.kind, change.path, change.size_bytes) for change in top.changes] == [
        ("A", "/hello", 500)
    ]
    assert top.created_by == "top"


def test_check_finds_nothing_and_then_every_damage(images: Images) -> None:
    asyncio.run(load(images, oci_archive()))
    assert asyncio.run(images.check()) == []
    blob = images.content.path(digest_of(CONFIG))
    blob.write_bytes(CONFIG.replace(b"A=1", b"A=2"))
    gone = images.content.path(digest_of(gzip.compress(TOP, mtime=0)))
    gone.unlink()
    if images.driver == "erofs":
        tar = images.layers.folder / digest_of(BASE)[7:] / "layer.tar"
        tar.write_bytes(BASE.replace(b"root", b"toor"))
    problems = asyncio.run(images.check())
    assert any(digest_of(CONFIG) in problem and "damaged" in problem for problem in problems)
    assert any(gone.name in problem and "missing" in problem for problem in problems)
    assert any("its tar is damaged" in problem for problem in problems) == (
        images.driver == "erofs"
    )


def test_platforms_of_one_name(images: Images) -> None:
    asyncio.run(load(images, old_docker_archive()))
    assert images.get("test:1", Platform(architecture="amd64")).id == digest_of(CONFIG)
    with pytest.raises(NotFound) as caught:
        images.get("test:1", Platform(architecture="arm64"))
    assert str(caught.value) == (
        "image with reference test:1 was found but its platform (linux/amd64) does not match the specified"
        " platform (linux/arm64)"
    )


def test_an_archive_of_several_platforms(images: Images) -> None:
    lines = asyncio.run(load(images, multi_platform_archive()))
    assert lines[-1] == "Loaded image: multi:1\n"
    ours = images.get("multi:1")
    assert ours.platform.architecture == own_platform().architecture
    for architecture in ("amd64", "arm64"):
        image = images.get("multi:1", Platform(architecture=architecture))
        assert image.platform.architecture == architecture
    with pytest.raises(NotFound):
        images.get("multi:1", Platform(architecture="riscv64"))
    assert len(images.all()) == 2

    async def remove() -> list[Deleted]:
        deleted = await images.remove("multi:1")
        await images.collector.close()
        return deleted

    deleted = asyncio.run(remove())
    assert [entry.untagged for entry in deleted if entry.untagged] == ["multi:1"]
    assert images.all() == ()
    assert list(images.content.digests()) == []


def test_an_archive_of_several_platforms_is_saved_whole_or_by_platform(
    images: Images, tmp_path: Path
) -> None:
    asyncio.run(load(images, multi_platform_archive()))
    saved = asyncio.run(save(images, "multi:1"))
    members = read_members(saved)
    (entry,) = json.loads(members["index.json"])["manifests"]
    target = images.catalog.resolve("multi:1").target
    assert target is not None
    assert (entry["mediaType"], entry["digest"]) == (target.media_type, target.digest)
    assert len(json.loads(members["manifest.json"])) == 1
    (tmp_path / "second").mkdir()
    with open_images(tmp_path / "second", images.driver) as second:
        lines = asyncio.run(load(second, saved))
        assert [line for line in lines if "Loaded" in line] == ["Loaded image: multi:1\n"]
        for architecture in ("amd64", "arm64"):
            platform = Platform(architecture=architecture)
            assert second.get("multi:1", platform).id == images.get("multi:1", platform).id
        assert second.catalog.resolve("multi:1").target == target
        assert asyncio.run(save(second, "multi:1")) == saved
        asyncio.run(second.close())

    arm = Platform(architecture="arm64")
    pieces = asyncio.run(save(images, "multi:1", platform=arm))
    (tmp_path / "third").mkdir()
    with open_images(tmp_path / "third", images.driver) as third:
        asyncio.run(load(third, pieces))
        assert [image.id for image in third.all()] == [images.get("multi:1", arm).id]
        asyncio.run(third.close())


def test_only_the_platform_that_is_asked_for_is_loaded(images: Images) -> None:
    arm = Platform(architecture="arm64")
    asyncio.run(load(images, multi_platform_archive(), platform=arm))
    assert [image.platform.architecture for image in images.all()] == ["arm64"]
    with pytest.raises(BadContent, match="no image for the platform"):
        asyncio.run(load(images, multi_platform_archive(), platform=Platform(architecture="s390x")))


def test_the_host_image_is_neither_tagged_nor_removed_nor_saved(images: Images) -> None:
    with pytest.raises(Forbidden):
        images.tag("host", "other")
    asyncio.run(load(images, old_docker_archive()))
    with pytest.raises(Forbidden):
        images.tag("test:1", "host")
    with pytest.raises(Forbidden):
        asyncio.run(images.remove("host"))
    with pytest.raises(InvalidArgument):
        images.save(["host"])
