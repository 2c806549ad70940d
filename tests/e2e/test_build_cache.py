"""The build cache between stores: --cache-to of one engine, --cache-from of another that has never built anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.engine import Engine, running_engine
from tests.harness.registry import RegistryServer
from tests.images.make import default_folder, make_image

DOCKERFILE = """\
FROM busybox AS made
RUN head -c 100000 /dev/urandom > /big; date +%N > /unique
FROM busybox
ENV A=b
WORKDIR /app
COPY file .
COPY --from=made /unique .
RUN echo run >> file
CMD cat file unique
"""


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    """A registry of its own."""
    server = RegistryServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def stores() -> Iterator[tuple[Engine, Engine]]:
    """Two engines that have busybox and nothing else."""
    with running_engine() as one, running_engine() as other:
        for engine in (one, other):
            engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        yield one, other


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "file").write_text("copied\n")
    return folder


def build(engine: Engine, context: Path, *options: str) -> str:
    done = engine.run("wherry", "build", "-t", "x", *options, str(context))
    return done.stdout + done.stderr


def facts(engine: Engine) -> tuple[str, str]:
    image = engine.docker("image", "inspect", "-f", "{{.Id}}", "x")
    return image, engine.docker("run", "--rm", "x")


def test_through_a_registry(
    stores: tuple[Engine, Engine], registry: RegistryServer, context: Path
) -> None:
    one, other = stores
    ref = f"{registry.host}/cache:all"
    build(one, context, "--cache-to", f"type=registry,ref={ref},mode=max")
    text = build(other, context, "--cache-from", f"type=registry,ref={ref}")
    assert text.count("CACHED") == 5
    assert facts(other) == facts(one)
    # Nothing needed the first stage's files, so nobody fetched them.
    assert len(list((other.root / "layers").glob("[0-9a-f]*"))) < len(
        list((one.root / "layers").glob("[0-9a-f]*"))
    )
    # It is as new as what was made here.
    pruned = other.docker("builder", "prune", "-af", "--filter", "until=1h")
    assert pruned == "Total reclaimed space: 0B"
    (context / "file").write_text("changed\n")
    text = build(other, context, "--cache-from", ref)
    assert text.count("CACHED") == 2
    assert facts(other)[1].startswith("changed\nrun\n")


def test_inline_and_the_official_client(
    stores: tuple[Engine, Engine], registry: RegistryServer, context: Path
) -> None:
    one, other = stores
    ref = f"{registry.host}/app:1"
    (context / "Dockerfile").write_text(DOCKERFILE.replace("COPY --from=made /unique .\n", ""))
    one.docker("build", "-t", ref, "--build-arg", "BUILDKIT_INLINE_CACHE=1", str(context))
    one.docker("push", ref)
    assert build(other, context, "--cache-from", ref).count("CACHED") == 3
    with running_engine() as third:
        third.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        third.docker("pull", ref)
        text = third.docker("build", "--cache-from", ref, str(context))
        assert text.count("Using cache") == 5


def test_a_source_that_is_not_there(stores: tuple[Engine, Engine], context: Path) -> None:
    one, _ = stores
    told = build(one, context, "--cache-from", f"type=local,src={context}/none")
    assert f"no cache from {context}/none: could not read index.json: no such file" in told


def test_the_least_that_is_needed(
    stores: tuple[Engine, Engine], registry: RegistryServer, context: Path
) -> None:
    one, other = stores
    ref = f"{registry.host}/cache:min"
    build(one, context, "--cache-to", f"type=registry,ref={ref}")
    # The first stage's layers are not in the cache, and nobody needs them.
    text = build(other, context, "--cache-from", ref)
    assert text.count("CACHED") == 5
    assert facts(other) == facts(one)
    # Now somebody does: the stage is built after all.
    (context / "Dockerfile").write_text(DOCKERFILE.replace("/unique .", "/unique /big ."))
    text = build(other, context, "--cache-from", ref)
    assert "head -c 100000" in text
    assert other.docker("run", "--rm", "x", "stat", "-c", "%s", "big").strip() == "100000"


def test_through_a_folder(stores: tuple[Engine, Engine], context: Path, tmp_path: Path) -> None:
    one, other = stores
    folder = tmp_path / "cache"
    destination = f"type=local,dest={folder},mode=max"
    build(one, context, "--cache-from", f"type=local,src={folder}", "--cache-to", destination)
    assert (folder / "oci-layout").exists()
    text = build(other, context, "--cache-from", f"type=local,src={folder}")
    assert text.count("CACHED") == 5
    assert facts(other) == facts(one)
    # A damaged cache is no cache.
    for blob in (folder / "blobs/sha256").iterdir():
        blob.write_bytes(blob.read_bytes()[::-1])
    with running_engine() as third:
        third.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        text = build(third, context, "--cache-from", f"type=local,src={folder}")
        assert "CACHED" not in text
        assert "no cache from" in text


def test_the_forms_of_a_cache(
    stores: tuple[Engine, Engine], registry: RegistryServer, context: Path, tmp_path: Path
) -> None:
    one, other = stores
    for number, (form, cache, layer) in enumerate(
        (
            ("compression=zstd,force-compression=true", "oci.image.manifest.v1+json", "tar+zstd"),
            ("compression=zstd,compression-level=19", "oci.image.manifest.v1+json", "tar+zstd"),
            ("compression-level=9,oci-mediatypes=0", "manifest.list.v2+json", "diff.tar.gzip"),
            ("compression=uncompressed,image-manifest=false", "oci.image.index.v1+json", "v1.tar"),
        )
    ):
        folder, ref = tmp_path / f"cache-{number}", f"{registry.host}/cache:{number}"
        build(
            one,
            context,
            *("--cache-to", f"type=local,dest={folder},mode=max,{form}"),
            *("--cache-to", f"type=registry,ref={ref},mode=max,{form}"),
        )
        top = json.loads((folder / "index.json").read_text())["manifests"][0]
        assert top["mediaType"].endswith(cache)
        blob = folder / "blobs" / top["digest"].replace(":", "/")
        document = json.loads(blob.read_text())
        layers = document.get("layers") or document["manifests"][:-1]
        assert layers
        assert {
            found["mediaType"].rpartition(".image.")[2].endswith(layer) for found in layers
        } == {True}
        for source in (f"type=local,src={folder}", f"type=registry,ref={ref}"):
            assert build(other, context, "--cache-from", source).count("CACHED") == 5
            assert facts(other) == facts(one)
            other.docker("image", "rm", "x")
            other.docker("builder", "prune", "-af")
    for form, sentence in (
        ("compression=lz4", "unsupported compression type lz4"),
        ("compression-level=best", "non-integer value best specified for compression-level"),
        ("compression-level=10", "gzip: invalid compression level: 10"),
        ("force-compression=maybe", "non-bool value maybe specified for force-compression"),
        ("image-manifest=true,oci-mediatypes=false", "OCI mediatypes are required"),
    ):
        option = f"type=local,dest={tmp_path}/no,{form}"
        done = one.run("wherry", "build", "--cache-to", option, str(context), check=False)
        assert done.returncode == 1
        assert sentence in done.stderr


def test_what_cannot_be_read_or_written(
    stores: tuple[Engine, Engine], registry: RegistryServer, context: Path
) -> None:
    one, _ = stores
    text = build(one, context, "--cache-from", f"{registry.host}/nothing")
    assert f"no cache from {registry.host}/nothing" in text
    gone = "type=registry,ref=127.0.0.1:1/x"
    done = one.run("wherry", "build", "--cache-to", gone, str(context), check=False)
    assert done.returncode == 1
    assert "connection refused" in done.stderr
    build(one, context, "--cache-to", f"{gone},ignore-error=true")
    for option, sentence in (
        ("type=s3", 'unknown cache exporter: "s3"'),
        ("type=registry", "ref is required for registry cache exporter"),
        ("type=registry,ref=x,mode=most", "mode=most is not supported"),
        ("type=inline,ref=x", 'unknown attribute "ref"'),
    ):
        done = one.run("wherry", "build", "--cache-to", option, str(context), check=False)
        assert done.returncode == 1
        assert sentence in done.stderr


def test_a_base_of_another_platform_is_pulled(
    stores: tuple[Engine, Engine], registry: RegistryServer, context: Path
) -> None:
    one, other = stores
    ref = f"{registry.host}/base"
    (context / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nLABEL a=$TARGETARCH\n")
    platforms = "--platform=linux/amd64,linux/arm64"
    one.run("wherry", "build", "-q", "-t", ref, platforms, str(context))
    one.docker("push", "-q", ref)
    other.docker("pull", "-q", ref)
    (context / "Dockerfile").write_text(f"FROM {ref}\nLABEL b=c\n")
    build(other, context, "--platform=linux/arm64")
    assert other.docker("image", "inspect", "-f", "{{.Config.Labels}}", "x") == "map[a:arm64 b:c]"
