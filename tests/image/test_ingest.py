"""Taking a blob in while it arrives: resume, damage, cancellation, and what is left behind."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest
import zstandard

from tests.image.support import Tar, open_images
from wherry.engine.images import Images
from wherry.image.content import BadContent
from wherry.image.digest import digest_of
from wherry.model.image import Descriptor, Digest

pytestmark = pytest.mark.needs("mount", "overlay")

LAYER = Tar().add("hello", os.urandom(300_000)).folder("d").add("d/x").bytes()
PACKED = gzip.compress(LAYER, mtime=0)


def describe(data: bytes) -> Descriptor:
    return Descriptor(media_type="x", digest=digest_of(data), size=len(data))


Run = Callable[[Coroutine[object, object, object]], object]


@pytest.fixture
def run() -> Iterator[Run]:
    """One loop for a whole test: workers of a pull are kept for the next layer."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(params=["erofs", "overlay2"])
def images(request: pytest.FixtureRequest, tmp_path: Path, run: Run):
    with open_images(tmp_path, request.param) as service:
        yield service
        run(service.close())
    assert [p.name for p in (tmp_path / "root/layers").iterdir() if p.name.startswith(".")] == []


async def take_in(
    images: Images, data: bytes, diff_id: Digest | None, descriptor: Descriptor | None = None
) -> None:
    descriptor = descriptor or describe(data)
    partial = images.partial_path(descriptor.digest)
    partial.touch()
    ingest = images.begin_layer(descriptor, diff_id)
    with partial.open("ab", buffering=0) as file:
        for at in range(0, len(data), 50_000):
            file.write(data[at : at + 50_000])
            ingest.advance(file.tell())
            await asyncio.sleep(0)
    try:
        await ingest.finish()
    except BaseException:
        await ingest.abort()
        raise


@pytest.mark.parametrize(
    "data", [PACKED, zstandard.compress(LAYER), LAYER], ids=["gzip", "zstd", "plain"]
)
def test_a_layer_while_it_arrives(run: Run, images: Images, data: bytes) -> None:
    run(take_in(images, data, digest_of(LAYER)))
    assert images.content.path(digest_of(data)).read_bytes() == data
    assert images.has_layer(digest_of(LAYER))
    assert not images.partial_path(digest_of(data)).exists()
    assert images.layers.get(digest_of(LAYER)).size_bytes == 300_000


def test_gzip_of_many_members(run: Run, images: Images) -> None:
    data = b"".join(gzip.compress(LAYER[at : at + 1000]) for at in range(0, len(LAYER), 1000))
    run(take_in(images, data, digest_of(LAYER)))
    assert images.has_layer(digest_of(LAYER))


def test_a_blob_that_is_no_layer(run: Run, images: Images) -> None:
    run(take_in(images, b"anything", None))
    assert images.content.read(digest_of(b"anything")) == b"anything"


def test_an_earlier_attempt_counts(run: Run, images: Images) -> None:
    descriptor = describe(PACKED)
    partial = images.partial_path(descriptor.digest)
    partial.write_bytes(PACKED[:100_000])

    async def resume() -> None:
        ingest = images.begin_layer(descriptor, digest_of(LAYER))
        ingest.advance(100_000)
        with partial.open("ab") as file:
            file.write(PACKED[100_000:])
        ingest.advance(len(PACKED))
        await ingest.finish()

    run(resume())
    assert images.has_layer(digest_of(LAYER))


def test_a_worker_may_be_done_before_it_is_told_that_all_is_there(run: Run, images: Images) -> None:
    descriptor = describe(PACKED)
    partial = images.partial_path(descriptor.digest)
    partial.write_bytes(PACKED)

    async def story() -> None:
        ingest = images.begin_layer(descriptor, digest_of(LAYER))
        ingest.advance(len(PACKED))
        while partial.exists():  # noqa: ASYNC110 - the worker tells this to nobody
            await asyncio.sleep(0.01)
        await ingest.finish()

    run(story())
    assert images.has_layer(digest_of(LAYER))


def test_an_aborted_ingest_keeps_the_partial_file_and_nothing_else(
    run: Run, images: Images
) -> None:
    descriptor = describe(PACKED)
    partial = images.partial_path(descriptor.digest)
    partial.write_bytes(PACKED[:100_000])

    async def abort() -> None:
        ingest = images.begin_layer(descriptor, digest_of(LAYER))
        ingest.advance(100_000)
        async with asyncio.timeout(60):
            while not any(images.layers.folder.iterdir()):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.001)
        await ingest.abort()
        await ingest.abort()

    run(abort())
    assert partial.read_bytes() == PACKED[:100_000]
    assert not images.has_layer(digest_of(LAYER))
    assert list(images.layers.folder.iterdir()) == []


def test_a_cancelled_finish_leaves_nothing_half_done(run: Run, images: Images) -> None:
    # Seen when a client left a pull whose layers were being extracted: every such pull left a folder behind.
    descriptor = describe(PACKED)
    images.partial_path(descriptor.digest).write_bytes(PACKED)

    async def leave(steps: int) -> None:
        ingest = images.begin_layer(descriptor, digest_of(LAYER))
        ingest.advance(len(PACKED))
        finishing = asyncio.ensure_future(ingest.finish())
        for _ in range(steps):
            await asyncio.sleep(0.01)
        finishing.cancel()
        await asyncio.wait([finishing])
        await ingest.abort()
        if images.partial_path(descriptor.digest).exists():
            assert [p.name for p in images.layers.folder.iterdir() if p.name[0] == "."] == []

    for steps in range(12):
        run(leave(steps))
        if not images.partial_path(descriptor.digest).exists():
            break


@pytest.mark.parametrize(
    ("data", "diff_id", "descriptor", "sentence"),
    [
        (PACKED, digest_of(b"other"), None, r"does not match the image.s diff ID"),
        (PACKED, digest_of(LAYER), describe(PACKED[::-1]), "verification failed for digest"),
        (PACKED[::-1], digest_of(LAYER), describe(PACKED), "verification failed for digest"),
        (b"garbage" * 1000, digest_of(LAYER), None, "."),
        (PACKED[:100_000], digest_of(LAYER), None, "unexpected EOF"),
        (gzip.compress(b"no tar" * 1000), digest_of(LAYER), None, "tar header"),
    ],
    ids=["diff-id", "digest", "other-bytes", "garbage", "truncated", "no-tar"],
)
def test_damage_is_refused_with_one_sentence(
    run: Run,
    images: Images,
    data: bytes,
    diff_id: Digest,
    descriptor: Descriptor | None,
    sentence: str,
) -> None:
    with pytest.raises(BadContent, match=sentence):
        run(take_in(images, data, diff_id, descriptor))
    assert list(images.content.digests()) == []
    assert images.layers.all() == ()
    assert not images.partial_path((descriptor or describe(data)).digest).exists()


def test_two_ingests_of_one_layer_at_once(run: Run, images: Images) -> None:
    other = zstandard.compress(LAYER)

    async def both() -> None:
        await asyncio.gather(
            take_in(images, PACKED, digest_of(LAYER)), take_in(images, other, digest_of(LAYER))
        )

    run(both())
    assert images.has_layer(digest_of(LAYER))
    assert images.has_blob(digest_of(PACKED))
    assert images.has_blob(digest_of(other))


def test_an_image_becomes_known_at_once_and_goes_whole(run: Run, images: Images) -> None:
    config = json.dumps({"rootfs": {"diff_ids": [digest_of(LAYER)]}, "config": {}}).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest_of(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": digest_of(PACKED),
                    "size": len(PACKED),
                }
            ],
        }
    ).encode()

    async def pull() -> None:
        names = [digest_of(data) for data in (config, manifest, PACKED, LAYER)]
        with images.protect(names):
            await take_in(images, PACKED, digest_of(LAYER))
            images.collect()  # somebody's rmi meanwhile
            await images.put_blob(digest_of(config), config)
            await images.put_blob(digest_of(manifest), manifest)
            target = Descriptor(
                media_type="application/vnd.oci.image.manifest.v1+json",
                digest=digest_of(manifest),
                size=len(manifest),
            )
            await images.add_image("1", "example.org/app", target, target)
        assert images.find_image("example.org/app:1") == digest_of(config)
        image = images.get("example.org/app:1")
        assert image.repo_digests == (f"example.org/app@{digest_of(manifest)}",)
        assert await images.push_target("example.org/app:1") == target
        deleted = await images.remove("example.org/app:1")
        assert [entry.untagged for entry in deleted[:2]] == [
            "example.org/app:1",
            f"example.org/app@{digest_of(manifest)}",
        ]
        await images.collector.close()

    run(pull())
    assert list(images.content.digests()) == []
    assert images.layers.all() == ()


def test_what_push_needs_is_compressed_once(run: Run, images: Images) -> None:
    async def push() -> None:
        from tests.image.support import stream

        image = await images.import_(stream(LAYER), repository="local", tag="1")
        first = await images.push_target("local:1")
        manifest = json.loads(await images.read_blob(first.digest))
        (layer,) = manifest["layers"]
        assert layer["mediaType"].endswith("+gzip")
        assert gzip.decompress(images.blob_path(Digest(layer["digest"])).read_bytes()) == LAYER
        assert await images.push_target("local:1") == first
        await images.add_repo_digest("example.org/pushed", first)
        assert images.get(image.id).repo_digests == (f"example.org/pushed@{first.digest}",)

    run(push())
