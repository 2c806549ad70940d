"""Pull into the real image service: what comes is stored and mountable, what lies is refused and leaves nothing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest
import zstandard
from tests.harness.registry import (
    OCI_INDEX,
    RegistryServer,
    TestImage,
    digest_of,
    make_image,
    make_index,
    make_layer,
)
from tests.harness.registry_services import QUICK, sentences
from tests.harness.stub_registry import Cutter, StubRegistry, random_budgets, running_stub

from wherry.engine.blobsources import BlobSources
from wherry.engine.downloads import Downloads
from wherry.engine.images.service import Images
from wherry.engine.pull import PullRequest, Pulls
from wherry.engine.push import Pushes, PushRequest
from wherry.engine.registries import Registries
from wherry.engine.store import Store
from wherry.image.compression import Compression
from wherry.image.config import ImageConfig
from wherry.image.reference import parse_reference
from wherry.model.errors import EngineError
from wherry.model.image import Digest, Image
from wherry.model.oci_image import parse_image_manifest
from wherry.model.progress import Progress
from wherry.registry.endpoints import build_registry_config
from wherry.registry.retry import RetryPolicy

Answer = TypeVar("Answer")

PATIENT = RetryPolicy(max_attempts=30, first_delay_s=0.001, max_delay_s=0.002)


@dataclass
class Place:
    """ROOT and RUN of one engine after another."""

    root: Path
    run_dir: Path
    policy: RetryPolicy = field(default=QUICK)

    def with_engine(self, work: Callable[[Images, Pulls], Awaitable[Answer]]) -> Answer:
        return self.with_services(lambda images, pulls, _: work(images, pulls))

    def with_services(self, work: Callable[[Images, Pulls, Pushes], Awaitable[Answer]]) -> Answer:
        async def main() -> Answer:
            store = Store(self.root / "state.db")
            images = Images(store, self.root, self.run_dir)
            registries = Registries(build_registry_config(), self.policy)
            downloads = Downloads(images, self.policy)
            sources = BlobSources(store)
            try:
                pulls = Pulls(registries, images, downloads, sources)
                return await work(images, pulls, Pushes(registries, images, sources))
            finally:
                await registries.close()
                await images.close()
                store.close()

        return asyncio.run(main())

    def pull(self, name: str) -> list[Progress]:
        request = PullRequest(reference=parse_reference(name))

        async def work(_: Images, pulls: Pulls) -> list[Progress]:
            return [line async for line in pulls.pull(request)]

        return self.with_engine(work)

    def push(self, name: str) -> list[Progress]:
        request = PushRequest(reference=parse_reference(name))

        async def work(_: Images, __: Pulls, pushes: Pushes) -> list[Progress]:
            return [line async for line in pushes.push(request)]

        return self.with_services(work)

    def verify(self) -> None:
        async def work(images: Images, _: Pulls) -> None:
            for digest in images.content.digests():
                assert images.content.verify(digest)

        self.with_engine(work)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("root", "run"):
        (tmp_path / name).mkdir()
    return Place(tmp_path / "root", tmp_path / "run")


@pytest.fixture
def stub() -> Iterator[StubRegistry]:
    with running_stub() as running:
        yield running


def replace_layer(image: TestImage, packed: bytes, media_type: str, diff_id: str) -> TestImage:
    """The image with its only layer's bytes exchanged."""
    config = json.loads(image.blobs[image.config])
    config["rootfs"]["diff_ids"] = [diff_id]
    body = json.dumps(config).encode()
    manifest = json.loads(image.manifest)
    manifest["config"].update(digest=digest_of(body), size=len(body))
    manifest["layers"] = [
        {"mediaType": media_type, "digest": digest_of(packed), "size": len(packed)}
    ]
    return TestImage(
        manifest=json.dumps(manifest).encode(),
        media_type=image.media_type,
        blobs={digest_of(body): body, digest_of(packed): packed},
        layers=[digest_of(packed)],
        diff_ids=[diff_id],
        config=digest_of(body),
    )


TAR = make_layer({"file": b"content", "other": os.urandom(100_000)})
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.mark.parametrize(
    ("media_type", "packed"),
    [
        (GZIP, gzip.compress(TAR)),
        ("application/vnd.oci.image.layer.v1.tar+zstd", zstandard.compress(TAR)),
        ("application/vnd.oci.image.layer.v1.tar", TAR),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip.compress(TAR)),
    ],
)
def test_compressions(
    registry: RegistryServer, place: Place, media_type: str, packed: bytes
) -> None:
    image = replace_layer(make_image([{"a": b"a"}]), packed, media_type, digest_of(TAR))
    registry.put_image("store/packed", "v1", image)
    name = f"{registry.host}/store/packed:v1"
    assert sentences(place.pull(name))[-1] == f"Status: Downloaded newer image for {name}"

    async def work(images: Images, _: Pulls) -> None:
        found = images.get(name)
        assert found.diff_ids == (digest_of(TAR),)
        assert found.repo_tags == (name,)
        assert found.repo_digests == (f"{registry.host}/store/packed@{image.digest}",)
        assert images.blob_path(Digest(digest_of(packed))).read_bytes() == packed

    place.with_engine(work)
    assert sentences(place.pull(name))[-1] == f"Status: Image is up to date for {name}"

    async def tag(images: Images, _: Pulls) -> None:
        images.tag(name, f"{registry.host}/store/again", "v1")

    place.with_engine(tag)
    place.push(f"{registry.host}/store/again:v1")
    assert registry.get_manifest("store/again", "v1") == (image.media_type, image.manifest)


def test_what_is_made_of_dockers_layers_has_ocis_media_types(
    registry: RegistryServer, place: Place
) -> None:
    """skopeo refuses to convert a manifest that has both."""
    docker = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    image = replace_layer(make_image([{"a": b"a"}]), gzip.compress(TAR), docker, digest_of(TAR))
    document = json.loads(image.manifest)
    document["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json"
    document["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    registry.put_image(
        "store/docker",
        "v1",
        replace(image, manifest=json.dumps(document).encode(), media_type=document["mediaType"]),
    )
    name = f"{registry.host}/store/docker:v1"
    place.pull(name)

    async def work(images: Images, _: Pulls) -> None:
        base = images.get(name)
        assert (await types_of(images, base)) == [document["config"]["mediaType"], docker]
        with images.building():
            config = ImageConfig(diff_ids=base.diff_ids)
            made = await images.make_image(config, base=base)
            packed = await images.recompressed(made, Compression(kind="gzip"))
            (layer,) = await images.portable_layers(base.diff_ids)
        oci = ["application/vnd.oci.image.config.v1+json", GZIP]
        assert await types_of(images, made) == await types_of(images, packed) == oci
        assert layer.media_type == GZIP

    async def types_of(images: Images, image: Image) -> list[str]:
        assert image.manifest is not None
        manifest = parse_image_manifest(await images.read_blob(image.manifest.digest))
        return [manifest.config.media_type, *(layer.media_type for layer in manifest.layers)]

    place.with_engine(work)


def bomb(size: int) -> bytes:
    """Gzip members of that many zeros together, a thousand times smaller."""
    return gzip.compress(b"\0" * (64 << 20)) * (size >> 26)


@pytest.mark.parametrize(
    ("packed", "diff_id"),
    [
        pytest.param(gzip.compress(TAR)[:-20], digest_of(TAR), id="truncated gzip"),
        pytest.param(gzip.compress(TAR)[:-8] + b"\0" * 8, digest_of(TAR), id="wrong checksum"),
        pytest.param(gzip.compress(TAR), digest_of(b"other"), id="wrong diff-id"),
        pytest.param(b"not an archive" * 100, digest_of(TAR), id="no archive"),
        pytest.param(bomb(10 << 30), digest_of(b"bomb"), id="bomb of 10 GB"),
    ],
)
def test_bad_layers_are_refused_with_one_sentence(
    registry: RegistryServer, place: Place, packed: bytes, diff_id: str
) -> None:
    image = replace_layer(make_image([{"a": b"a"}]), packed, GZIP, diff_id)
    registry.put_image("store/bad", "v1", image)
    with pytest.raises(EngineError) as caught:
        place.pull(f"{registry.host}/store/bad:v1")
    assert str(caught.value).startswith("failed to register layer: ")
    assert "\n" not in str(caught.value)

    async def work(images: Images, _: Pulls) -> None:
        assert images.all() == ()
        images.collect()
        assert not list(images.content.digests())
        assert not images.has_layer(Digest(diff_id))

    place.with_engine(work)
    assert not [path for path in (place.root / "tmp").iterdir() if path.suffix != ".partial"]


def test_cut_connections_and_left_pulls_end_in_a_whole_store(
    registry: RegistryServer, place: Place
) -> None:
    place.policy = PATIENT
    for seed in range(8):
        image = make_image([{"a": os.urandom(900_000)}, {"b": os.urandom(400_000)}])
        registry.put_image("store/cut", f"v{seed}", image)
        cutter = Cutter(registry.port, random_budgets(seed, 600_000))
        try:
            name = f"{cutter.host}/store/cut:v{seed}"
            leave_after(place, name, steps=3 + seed)
            assert "Status: Downloaded newer image" in sentences(place.pull(name))[-1]
        finally:
            cutter.close()
        place.verify()


def leave_after(place: Place, name: str, steps: int) -> None:
    """Gives a pull up after some lines."""

    async def work(_: Images, pulls: Pulls) -> None:
        pulling = pulls.pull(PullRequest(reference=parse_reference(name)))
        left = steps
        async for _ in pulling:
            left -= 1
            if left == 0:
                await pulling.aclose()
                return

    place.with_engine(work)


@pytest.mark.parametrize("config", [b"{}", b"no JSON"])
def test_an_artifact_is_stored_as_it_is(
    registry: RegistryServer, place: Place, config: bytes
) -> None:
    data = b"chart" * 1000
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.chart",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.example.chart.content",
                "digest": digest_of(data),
                "size": len(data),
            }
        ],
    }
    for blob in (config, data):
        registry.put_blob("store/artifact", blob)
    body = json.dumps(manifest).encode()
    registry.put_manifest("store/artifact", "v1", str(manifest["mediaType"]), body)
    name = f"{registry.host}/store/artifact:v1"
    place.pull(name)

    async def work(images: Images, _: Pulls) -> None:
        assert images.blob_path(Digest(digest_of(data))).read_bytes() == data
        assert images.blob_path(Digest(digest_of(body))).read_bytes() == body
        saved = b"".join([piece async for piece in images.save([name])])
        await images.remove(name)
        assert not images.has_blob(Digest(digest_of(data)))

        async def stream() -> AsyncIterator[bytes]:
            yield saved

        said = [line.stream async for line in images.load(stream())]
        assert said == [f"Loaded image: {name}\n"]

    place.with_engine(work)
    place.push(name)
    assert registry.get_manifest("store/artifact", "v1") == (manifest["mediaType"], body)


def test_a_tag_of_a_whole_index_is_that_index(registry: RegistryServer, place: Place) -> None:
    image = make_image([{"a": b"a"}])
    index = make_index([(image, "amd64", "")])
    registry.put_image("store/index", "one", image)
    registry.put_manifest("store/index", "v1", OCI_INDEX, index)
    name, other = f"{registry.host}/store/index:v1", f"{registry.host}/store/index-again:v1"
    place.pull(name)

    async def tag(images: Images, _: Pulls) -> None:
        images.tag(name, f"{registry.host}/store/index-again", "v1")

    place.with_engine(tag)
    place.push(other)
    assert registry.get_manifest("store/index-again", "v1") == (OCI_INDEX, index)


def test_an_image_named_by_sha512_is_saved_and_loaded(stub: StubRegistry, place: Place) -> None:
    image = make_image([{"a": b"a"}])
    manifest = json.loads(image.manifest)
    for descriptor in (manifest["config"], *manifest["layers"]):
        blob = image.blobs[descriptor["digest"]]
        descriptor["digest"] = f"sha512:{hashlib.sha512(blob).hexdigest()}"
        stub.blobs[descriptor["digest"]] = blob
    body = json.dumps(manifest).encode()
    digest = f"sha512:{hashlib.sha512(body).hexdigest()}"
    stub.manifests["v1"] = stub.manifests[digest] = (image.media_type, body)
    name = f"{stub.host}/app:v1"
    place.pull(name)

    async def work(images: Images, _: Pulls) -> None:
        image_id = images.get(name).id
        assert image_id == manifest["config"]["digest"]
        saved = b"".join([piece async for piece in images.save([name])])
        await images.remove(name)
        assert list(images.content.digests()) == []

        async def stream() -> AsyncIterator[bytes]:
            yield saved

        assert [line.stream async for line in images.load(stream(), quiet=True)] == [
            f"Loaded image: {name}\n"
        ]
        assert images.get(name).id == image_id
        assert b"".join([piece async for piece in images.save([name])]) == saved

    place.with_engine(work)


def test_two_images_that_share_a_layer(stub: StubRegistry, place: Place) -> None:
    one, two = make_image([{"a": b"same"}, {"b": b"1"}]), make_image([{"a": b"same"}, {"b": b"2"}])
    stub.add_image("one", one)
    stub.add_image("two", two)
    place.pull(f"{stub.host}/app:one")
    place.pull(f"{stub.host}/app:two")
    assert len(stub.asked("GET", one.layers[0])) == 1


def save_archive(path: Path, tars: list[bytes], name: str) -> None:
    """A docker-archive with uncompressed layers."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        }
    ).encode()
    files = {f"{number}/layer.tar": tar for number, tar in enumerate(tars)}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": list(files)}]
    files |= {"config.json": config, "manifest.json": json.dumps(manifest).encode()}
    path.write_bytes(make_layer(files))


def test_a_loaded_image_is_compressed_once_and_pushed(
    registry: RegistryServer, place: Place, tmp_path: Path
) -> None:
    tars = [make_layer({"a": b"a" * 200_000}), make_layer({"b": os.urandom(1000)})]
    name = f"{registry.host}/store/loaded:v1"
    save_archive(tmp_path / "archive.tar", tars, name)

    async def load(images: Images, _: Pulls) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield (tmp_path / "archive.tar").read_bytes()

        async for _line in images.load(pieces(), quiet=True):
            pass

    place.with_engine(load)
    first = place.push(name)
    manifest = registry.get_manifest("store/loaded", "v1")
    assert first[-1].aux == {
        "Tag": "v1",
        "Digest": digest_of(manifest[1]),
        "Size": len(manifest[1]),
    }
    for layer, tar in zip(json.loads(manifest[1])["layers"], tars, strict=True):
        packed = registry.request("GET", f"/v2/store/loaded/blobs/{layer['digest']}")[2]
        assert gzip.decompress(packed) == tar
    again = place.push(name)
    assert registry.get_manifest("store/loaded", "v1") == manifest
    assert [line.status for line in again if line.id].count("Layer already exists") == 2
