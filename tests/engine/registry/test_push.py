"""Push to Debian's docker-registry: what is sent, what is skipped, what is said."""

from __future__ import annotations

import asyncio
import os

import pytest
from tests.harness.fake_images import FakeImages
from tests.harness.registry import (
    OCI_INDEX,
    PASSWORD,
    USER,
    RegistryServer,
    TestImage,
    digest_of,
    make_image,
    make_index,
    running_registry,
)
from tests.harness.registry_services import (
    Services,
    pull,
    push,
    sentences,
    with_services,
)

from wherry.engine.push import PushRequest
from wherry.image.reference import parse_reference
from wherry.model.errors import EngineError
from wherry.model.image import Descriptor, Digest, ImageId
from wherry.model.progress import Progress
from wherry.registry.auth import Credentials


def keep(images: FakeImages, name: str, image: TestImage) -> None:
    """As if it had been built here."""

    async def main() -> None:
        for digest, data in image.blobs.items():
            await images.put_blob(Digest(digest), data)
        await images.put_blob(Digest(image.digest), image.manifest)

    asyncio.run(main())
    images.images[name] = ImageId(image.config)
    images.targets[name] = Descriptor(
        media_type=image.media_type, digest=Digest(image.digest), size=len(image.manifest)
    )


def test_push_says_what_docker_says_and_is_byte_exact(
    registry: RegistryServer, images: FakeImages
) -> None:
    image = make_image([{"a": os.urandom(3_000_000)}, {"b": b"small"}])
    name = f"{registry.host}/push/one:v1"
    keep(images, name, image)
    lines = push(images, name)
    first, second = (diff_id[7:19] for diff_id in image.diff_ids)
    said = sentences(lines)
    assert said[:3] == [
        f"The push refers to repository [{registry.host}/push/one]",
        f"{second}: Preparing",
        f"{first}: Preparing",
    ]
    assert sorted(said[3:5]) == sorted([f"{first}: Pushed", f"{second}: Pushed"])
    assert said[5] == f"v1: digest: {image.digest} size: {len(image.manifest)}"
    assert lines[-1].aux == {"Tag": "v1", "Digest": image.digest, "Size": len(image.manifest)}
    assert registry.get_manifest("push/one", "v1") == (image.media_type, image.manifest)
    for digest, data in image.blobs.items():
        assert registry.request("GET", f"/v2/push/one/blobs/{digest}")[2] == data


def test_nothing_is_sent_twice(registry: RegistryServer, images: FakeImages) -> None:
    image = make_image([{"a": os.urandom(100_000)}])
    layer = image.diff_ids[0][7:19]
    names = [f"{registry.host}/push/{path}:v1" for path in ("origin", "other")]
    for name in names:
        keep(images, name, image)
    assert f"{layer}: Pushed" in sentences(push(images, names[0]))
    assert f"{layer}: Layer already exists" in sentences(push(images, names[0]))
    assert f"{layer}: Mounted from push/origin" in sentences(push(images, names[1]))
    assert registry.get_manifest("push/other", "v1")[1] == image.manifest


def test_a_pulled_layer_is_mounted(registry: RegistryServer, images: FakeImages) -> None:
    image = make_image([{"a": b"pulled" * 1000}])
    registry.put_image("push/source", "v1", image)
    pull(images, f"{registry.host}/push/source:v1")
    name = f"{registry.host}/push/copy:v1"
    keep(images, name, image)
    assert f"{image.diff_ids[0][7:19]}: Mounted from push/source" in sentences(push(images, name))


def test_an_index_is_pushed_with_all_its_manifests(
    registry: RegistryServer, images: FakeImages
) -> None:
    several = [
        (make_image([{"a": b"amd64 of index"}]), "amd64", ""),
        (make_image([{"a": b"arm64 of index"}], architecture="arm64"), "arm64", ""),
    ]
    name = f"{registry.host}/push/index:v1"
    for image, _, _ in several:
        keep(images, name, image)
    index = make_index(several)
    asyncio.run(images.put_blob(Digest(digest_of(index)), index))
    images.targets[name] = Descriptor(
        media_type=OCI_INDEX, digest=Digest(digest_of(index)), size=len(index)
    )
    push(images, name)
    assert registry.get_manifest("push/index", "v1") == (OCI_INDEX, index)
    for image, _, _ in several:
        assert registry.get_manifest("push/index", image.digest)[1] == image.manifest
    push(images, name, platform="linux/arm64")
    assert registry.get_manifest("push/index", "v1")[1] == several[1][0].manifest


def test_all_tags_are_pushed_without_a_tag(registry: RegistryServer, images: FakeImages) -> None:
    for tag in ("a", "b"):
        keep(images, f"{registry.host}/push/all:{tag}", make_image([{"a": tag.encode()}]))
    said = sentences(push(images, f"{registry.host}/push/all"))
    assert [line.partition(":")[0] for line in said if "digest:" in line] == ["a", "b"]


def test_missing_tags_have_dockers_sentences(registry: RegistryServer, images: FakeImages) -> None:
    name = f"{registry.host}/push/missing"
    with pytest.raises(EngineError) as caught:
        push(images, f"{name}:v1")
    assert str(caught.value) == f"An image does not exist locally with the tag: {name}"
    keep(images, f"{name}:v1", make_image([{"a": b"missing"}]))
    with pytest.raises(EngineError) as caught:
        push(images, f"{name}:v9")
    assert str(caught.value) == f"tag does not exist: {name}:v9"


def test_basic_authentication(images: FakeImages) -> None:
    with running_registry(password=True) as server:
        image = make_image([{"a": b"secret push"}])
        name = f"{server.host}/push/secret:v1"
        keep(images, name, image)
        with pytest.raises(EngineError, match=r"\Ano basic auth credentials\Z"):
            push(images, name)
        with pytest.raises(EngineError, match=r"\Aunauthorized: authentication required\Z"):
            push(images, name, credentials=Credentials(username=USER, password="wrong"))
        push(images, name, credentials=Credentials(username=USER, password=PASSWORD))
        assert server.get_manifest("push/secret", "v1")[1] == image.manifest


def test_a_closed_push_stops(registry: RegistryServer, images: FakeImages) -> None:
    name = f"{registry.host}/push/closed:v1"
    keep(images, name, make_image([{"a": os.urandom(5_000_000)}]))

    async def work(services: Services) -> Progress | None:
        pushing = services.pushes.push(PushRequest(reference=parse_reference(name)))
        async for line in pushing:
            if line.status == "Pushing":
                await pushing.aclose()
                return line
        return None

    assert with_services(images, work) is not None
    assert not images.protected


def test_distribution_inspect(registry: RegistryServer, images: FakeImages) -> None:
    image = make_image([{"a": b"inspect"}], architecture="arm", variant="v7")
    registry.put_image("push/inspect", "v1", image)

    async def work(services: Services) -> None:
        reference = parse_reference(f"{registry.host}/push/inspect:v1")
        found = await services.distribution.inspect(reference)
        assert found.descriptor.digest == image.digest
        assert [(p.os, p.architecture, p.variant) for p in found.platforms] == [
            ("linux", "arm", "v7")
        ]
        with pytest.raises(EngineError, match=r"\Amanifest unknown: manifest unknown\Z"):
            await services.distribution.inspect(parse_reference(f"{registry.host}/push/none:v1"))

    with_services(images, work)
