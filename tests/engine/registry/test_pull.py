"""Pull from Debian's docker-registry into an in-memory image service: progress, sentences, sharing, platforms."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading

import pytest
from tests.harness.fake_images import FakeImages
from tests.harness.registry import (
    OCI_INDEX,
    OCI_MANIFEST,
    PASSWORD,
    USER,
    RegistryServer,
    digest_of,
    make_image,
    make_index,
    running_registry,
)
from tests.harness.registry_services import Services, pull, sentences, with_services
from tests.harness.stub_registry import Request, running_stub

from wherry.engine.pull import PullRequest
from wherry.image.reference import Reference, parse_reference
from wherry.model.errors import EngineError
from wherry.model.progress import Progress
from wherry.registry.auth import Credentials
from wherry.registry.endpoints import build_registry_config


def test_a_pull_says_what_docker_says(registry: RegistryServer, images: FakeImages) -> None:
    image = make_image([{"a": os.urandom(3_000_000)}, {"b": b"b"}])
    registry.put_image("app/one", "v1", image)
    name = f"{registry.host}/app/one:v1"
    lines = pull(images, name)
    first, second = (digest[7:19] for digest in image.layers)
    said = sentences(lines)
    assert said[:3] == [
        "v1: Pulling from app/one",
        f"{first}: Pulling fs layer",
        f"{second}: Pulling fs layer",
    ]
    for layer in (first, second):
        assert [line for line in said if line.startswith(layer)] == [
            f"{layer}: Pulling fs layer",
            f"{layer}: Verifying Checksum",
            f"{layer}: Download complete",
            f"{layer}: Pull complete",
        ]
    assert said[-2:] == [f"Digest: {image.digest}", f"Status: Downloaded newer image for {name}"]
    assert images.images[name] == image.config
    assert images.events == [("pull", name, f"{registry.host}/app/one")]
    assert not images.protected
    images.verify()


def test_a_second_pull_and_a_second_tag_download_nothing(
    registry: RegistryServer, images: FakeImages
) -> None:
    image = make_image([{"a": b"a" * 1000}])
    for tag in ("one", "two"):
        registry.put_image("app/again", tag, image)
    pull(images, f"{registry.host}/app/again:one")
    ingests = images.ingests
    assert sentences(pull(images, f"{registry.host}/app/again:one"))[-1].startswith(
        "Status: Image is up to date for"
    )
    said = sentences(pull(images, f"{registry.host}/app/again:two"))
    assert len(said) == 3
    assert said[-1].startswith("Status: Downloaded newer image for")
    assert images.ingests == ingests


def test_a_layer_of_another_image_exists_already(
    registry: RegistryServer, images: FakeImages
) -> None:
    registry.put_image("app/layers", "one", make_image([{"a": b"base"}]))
    other = make_image([{"a": b"base"}, {"b": b"more"}])
    registry.put_image("app/layers", "two", other)
    pull(images, f"{registry.host}/app/layers:one")
    said = sentences(pull(images, f"{registry.host}/app/layers:two"))
    assert said[1:3] == [
        f"{other.layers[0][7:19]}: Already exists",
        f"{other.layers[1][7:19]}: Pulling fs layer",
    ]


def test_pull_by_digest(registry: RegistryServer, images: FakeImages) -> None:
    image = make_image([{"a": b"by digest"}])
    registry.put_image("app/digest", "v1", image)
    name = f"{registry.host}/app/digest@{image.digest}"
    said = sentences(pull(images, name))
    assert said[0] == f"{name}: Pulling from app/digest"
    assert said[-1] == f"Status: Downloaded newer image for {name}"
    assert name in images.images


def test_all_tags(registry: RegistryServer, images: FakeImages) -> None:
    registry.put_image("app/tags", "a", make_image([{"a": b"tag a"}]))
    registry.put_image("app/tags", "b", make_image([{"a": b"tag b"}]))
    said = sentences(pull(images, f"{registry.host}/app/tags", all_tags=True))
    assert "a: Pulling from app/tags" in said
    assert "b: Pulling from app/tags" in said
    assert said[-1] == f"Status: Downloaded newer image for {registry.host}/app/tags"
    assert images.list_tags(f"{registry.host}/app/tags") == ("a", "b")


@pytest.mark.parametrize(
    ("platform", "chosen"), [("linux/arm/v7", 1), ("linux/arm64", 2), ("linux/amd64", 0)]
)
def test_the_platform_of_an_index_is_chosen(
    registry: RegistryServer, images: FakeImages, platform: str, chosen: int
) -> None:
    several = [
        (make_image([{"a": b"amd64"}]), "amd64", ""),
        (make_image([{"a": b"arm"}], architecture="arm", variant="v6"), "arm", "v6"),
        (make_image([{"a": b"arm64"}], architecture="arm64"), "arm64", "v8"),
    ]
    for image, _, _ in several:
        registry.put_image("app/many", image.digest, image)
    registry.put_manifest("app/many", "v1", OCI_INDEX, make_index(several))
    name = f"{registry.host}/app/many:v1"
    pull(images, name, platform=platform)
    assert images.images[name] == several[chosen][0].config
    assert images.targets[name].media_type == OCI_INDEX


def test_no_matching_platform_is_dockers_sentence(
    registry: RegistryServer, images: FakeImages
) -> None:
    image = make_image([{"a": b"amd64"}])
    registry.put_image("app/few", image.digest, image)
    registry.put_manifest("app/few", "v1", OCI_INDEX, make_index([(image, "amd64", "")]))
    with pytest.raises(EngineError) as caught:
        pull(images, f"{registry.host}/app/few:v1", platform="linux/s390x")
    assert str(caught.value) == "no matching manifest for linux/s390x in the manifest list entries"


def test_a_single_manifest_of_another_platform_is_pulled_with_a_warning(
    registry: RegistryServer, images: FakeImages
) -> None:
    registry.put_image("app/single", "v1", make_image([{"a": b"single"}]))
    name = f"{registry.host}/app/single:v1"
    assert sentences(pull(images, name, platform="linux/arm64"))[-1] == (
        f"WARNING: image with reference {name} was found but its platform (linux/amd64) does not match"
        " the specified platform (linux/arm64)"
    )


def test_unknown_names_have_dockers_sentences(registry: RegistryServer, images: FakeImages) -> None:
    registry.put_image("app/known", "v1", make_image([{"a": b"known"}]))
    for name in (f"{registry.host}/app/known:v9", f"{registry.host}/app/none:latest"):
        with pytest.raises(EngineError) as caught:
            pull(images, name)
        assert (
            str(caught.value)
            == f"manifest for {name} not found: manifest unknown: manifest unknown"
        )


def test_no_registry_at_all(images: FakeImages) -> None:
    with pytest.raises(EngineError) as caught:
        pull(images, "127.0.0.1:1/app:v1")
    assert (
        str(caught.value)
        == 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    )


def test_a_registry_that_no_resolver_knows(images: FakeImages) -> None:
    with pytest.raises(EngineError) as caught:
        pull(images, "registry.invalid/app:v1")
    assert re.fullmatch(
        r'Get "https://registry\.invalid/v2/": dial tcp: lookup registry\.invalid( on \S+:53)?: no such host',
        str(caught.value),
    )


def test_basic_authentication(images: FakeImages) -> None:
    with running_registry(password=True) as server:
        image = make_image([{"a": b"secret"}])
        server.put_image("app/secret", "v1", image)
        name = f"{server.host}/app/secret:v1"
        with pytest.raises(EngineError, match="no basic auth credentials"):
            pull(images, name)
        with pytest.raises(EngineError, match=r"\Aunauthorized: authentication required\Z"):
            pull(images, name, credentials=Credentials(username=USER, password="wrong"))
        pull(images, name, credentials=Credentials(username=USER, password=PASSWORD))
        assert images.images[name] == image.config


def test_a_mirror_is_asked_before_docker_hub(registry: RegistryServer, images: FakeImages) -> None:
    image = make_image([{"a": b"official"}])
    registry.put_image("library/thing", "latest", image)
    said = sentences(pull(images, "thing", config=build_registry_config([registry.url])))
    assert said[0] == "latest: Pulling from library/thing"
    assert said[-1] == "Status: Downloaded newer image for thing:latest"
    assert images.images["docker.io/library/thing:latest"] == image.config


def test_concurrent_pulls_share_one_download(registry: RegistryServer, images: FakeImages) -> None:
    image = make_image([{"a": os.urandom(2_000_000)}])
    for tag in ("one", "two", "three"):
        registry.put_image("app/shared", tag, image)

    async def work(services: Services) -> list[list[Progress]]:
        async def one(tag: str) -> list[Progress]:
            reference = parse_reference(f"{registry.host}/app/shared:{tag}")
            return [line async for line in services.pulls.pull(PullRequest(reference=reference))]

        return await asyncio.gather(one("one"), one("two"), one("three"))

    outcomes = with_services(images, work)
    assert images.ingests == 1
    for lines in outcomes:
        assert sentences(lines)[-1].startswith("Status: Downloaded newer image")


def test_a_pull_that_is_closed_stops_its_download_but_not_the_others(images: FakeImages) -> None:
    image = make_image([{"a": os.urandom(100_000)}])
    both_wait = threading.Event()

    def hold(request: Request) -> None:
        if image.layers[0] in request.path:
            both_wait.wait(10)

    async def work(services: Services) -> list[Progress]:
        reference = parse_reference(f"{stub.host}/app:v1")
        leaving = services.pulls.pull(PullRequest(reference=reference))
        async for line in leaving:
            if line.status == "Pulling fs layer":
                break
        staying = asyncio.create_task(_collect(services, reference))
        running = services.downloads._running
        async with asyncio.timeout(60):
            while sum(len(download.watchers) for download in running.values()) < 2:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0)
        await leaving.aclose()
        both_wait.set()
        return await staying

    with running_stub() as stub:
        stub.add_image("v1", image)
        stub.rules.append(hold)
        assert sentences(with_services(images, work))[-1].startswith("Status: Downloaded")
    assert images.ingests == 1


async def _collect(services: Services, reference: Reference) -> list[Progress]:
    return [line async for line in services.pulls.pull(PullRequest(reference=reference))]


def test_an_index_that_never_ends_is_refused(registry: RegistryServer, images: FakeImages) -> None:
    image = make_image([{"a": b"deep"}])
    registry.put_image("app/deep", image.digest, image)
    body, media_type = image.manifest, OCI_MANIFEST
    for _ in range(6):
        registry.put_manifest("app/deep", digest_of(body), media_type, body)
        entry = {
            "mediaType": media_type,
            "digest": digest_of(body),
            "size": len(body),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        body = json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        ).encode()
        media_type = OCI_INDEX
    registry.put_manifest("app/deep", "v1", media_type, body)
    with pytest.raises(EngineError, match="nested deeper than"):
        pull(images, f"{registry.host}/app/deep:v1")
