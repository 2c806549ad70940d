"""Registries end to end: pull, run, push, login, mirrors, and everything that is killed in the middle of a pull."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.client
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest
import zstandard
from tests.harness.engine import Engine, running_engine
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
from tests.harness.stub_registry import Cutter, random_budgets

from wherry.kernel.binfmt import build_header, find_emulator


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    with running_registry() as server:
        yield server


def runnable(*, size: int = 1000, architecture: str = "amd64") -> TestImage:
    """busybox and a layer of noise."""
    busybox = next(p for p in (Path("/usr/bin/busybox"), Path("/bin/busybox")) if p.exists())
    return make_image(
        [{"bin/sh": busybox.read_bytes()}, {"noise": os.urandom(size)}], architecture=architecture
    )


OCI_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
ECHO = ("/bin/sh", "-c", "echo it runs")


def test_pull_and_run(engine: Engine, registry: RegistryServer, client: str) -> None:
    image = runnable()
    registry.put_image(f"e2e/{client}", "v1", image)
    name = f"{registry.host}/e2e/{client}:v1"
    said = engine.run(client, "pull", name).stdout
    assert f"Digest: {image.digest}\nStatus: Downloaded newer image for {name}\n{name}\n" in said
    assert engine.run(client, "run", "--rm", name, *ECHO).stdout == "it runs\n"
    assert "Status: Image is up to date for" in engine.run(client, "pull", name).stdout
    by_digest = f"{registry.host}/e2e/{client}@{image.digest}"
    assert engine.run(client, "pull", "-q", by_digest).stdout == f"{by_digest}\n"
    shown = engine.run(client, "image", "inspect", "-f", "{{json .RepoDigests}}", name).stdout
    assert json.loads(shown) == [by_digest]
    engine.run(client, "rmi", name)


def test_a_build_shows_the_pull_of_its_base(
    engine: Engine, registry: RegistryServer, tmp_path: Path
) -> None:
    image = runnable()
    registry.put_image("e2e/base", "v1", image)
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.host}/e2e/base:v1\n")
    said = engine.docker("build", "--pull", str(tmp_path))
    assert "\nv1: Pulling from e2e/base\n" in said
    assert f"\nDigest: {image.digest}\nStatus: Downloaded newer image for " in said
    client = docker.APIClient(base_url=f"unix://{engine.socket}")
    try:
        lines = list(client.build(path=str(tmp_path), pull=True, decode=True))
    finally:
        client.close()
    assert {"status": "Pulling from e2e/base", "id": "v1"} in lines


def test_run_pulls_what_is_missing(engine: Engine, registry: RegistryServer, client: str) -> None:
    registry.put_image(f"e2e/missing-{client}", "latest", runnable())
    name = f"{registry.host}/e2e/missing-{client}"
    done = engine.run(client, "run", "--rm", name, *ECHO)
    assert done.stdout == "it runs\n"
    assert done.stderr.startswith(f"Unable to find image '{name}:latest' locally\nlatest: Pulling")
    engine.run(client, "rmi", name)
    missing = engine.run(client, "run", "--rm", f"{name}-no", "true", check=False)
    assert missing.returncode == 125
    assert f"manifest for {name}-no:latest not found" in missing.stderr
    quiet = engine.run(client, "run", "-q", "--rm", f"{name}-no", "true", check=False)
    assert quiet.stderr.startswith(f"{client}: Error response from daemon: manifest for {name}-no")


def test_push_mounts_and_others_can_read_it(
    engine: Engine, registry: RegistryServer, client: str, tmp_path: Path
) -> None:
    image = runnable()
    registry.put_image(f"e2e/origin-{client}", "v1", image)
    name, copy = (f"{registry.host}/e2e/{part}-{client}:v1" for part in ("origin", "copy"))
    engine.run(client, "pull", "-q", name)
    engine.run(client, "tag", name, copy)
    said = engine.run(client, "push", copy).stdout
    assert said.count(f"Mounted from e2e/origin-{client}") == 2
    assert f"v1: digest: {image.digest} size: {len(image.manifest)}" in said
    assert "Layer already exists" in engine.run(client, "push", copy).stdout
    if shutil.which("skopeo"):
        argv = ["skopeo", "inspect", "--tls-verify=false", f"docker://{copy}"]
        seen = subprocess.run(argv, capture_output=True, check=True)
        assert json.loads(seen.stdout)["Digest"] == image.digest
        target = f"dir:{tmp_path}"
        argv = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{copy}", target]
        subprocess.run(argv, check=True)
        assert (tmp_path / "manifest.json").read_bytes() == image.manifest
    engine.run(client, "rmi", name, copy)


def test_a_push_to_nobody_prepares_nothing(engine: Engine, busybox: str, client: str) -> None:
    engine.run(client, "tag", busybox, "127.0.0.1:1/nobody:1")
    done = engine.run(client, "push", "127.0.0.1:1/nobody:1", check=False)
    assert (done.returncode, done.stdout) == (
        1,
        "The push refers to repository [127.0.0.1:1/nobody]\n",
    )
    refused = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert done.stderr == f'Get "http://127.0.0.1:1/v2/": {refused}\n'
    engine.run(client, "rmi", "127.0.0.1:1/nobody:1")


def test_a_plain_archive_of_a_pulled_image_changes_no_digest(
    engine: Engine, registry: RegistryServer, client: str, tmp_path: Path
) -> None:
    """docker-archives of skopeo and of dockerd have uncompressed layers."""
    image = runnable()
    name, copy = (f"{registry.host}/e2e/{part}-{client}:v1" for part in ("packed", "loaded"))
    registry.put_image(f"e2e/packed-{client}", "v1", image)
    archive = f"docker-archive:{tmp_path / 'archive'}:{copy}"
    argv = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", archive]
    subprocess.run(argv, check=True)
    engine.run(client, "pull", "-q", name)
    assert (
        f"Loaded image: {copy}"
        in engine.run(client, "load", "-i", str(tmp_path / "archive")).stdout
    )
    said = engine.run(client, "push", copy).stdout
    assert said.count(f"Mounted from e2e/packed-{client}") == 2
    assert f"v1: digest: {image.digest} size: {len(image.manifest)}" in said
    engine.run(client, "rmi", name, copy)
    # A layer that came with another image goes as it came, too.
    other, third = (f"{registry.host}/e2e/{part}-{client}:v1" for part in ("other", "third"))
    registry.put_image(f"e2e/other-{client}", "v1", runnable())
    engine.run(client, "pull", "-q", other)
    engine.run(client, "load", "-i", str(tmp_path / "archive"))
    engine.run(client, "tag", copy, third)
    assert engine.run(client, "push", third).stdout.count("Mounted from") == 1
    engine.run(client, "rmi", other, copy, third)


def test_names_of_one_image_in_two_forms_keep_theirs(
    engine: Engine, registry: RegistryServer, client: str, tmp_path: Path
) -> None:
    image = runnable()
    manifest = json.loads(image.manifest)
    for layer in manifest["layers"]:
        packed = zstandard.compress(gzip.decompress(image.blobs[layer["digest"]]))
        layer |= {"mediaType": OCI_ZSTD, "digest": digest_of(packed), "size": len(packed)}
        image.blobs[digest_of(packed)] = packed
    forms = {"gzip": image, "zstd": replace(image, manifest=json.dumps(manifest).encode())}
    names = {form: f"{registry.host}/e2e/{form}-{client}:v1" for form in forms}
    for form, name in names.items():
        registry.put_image(f"e2e/{form}-{client}", "v1", forms[form])
        engine.run(client, "pull", "-q", name)
    for form, name in names.items():
        again = f"{registry.host}/e2e/again-{form}-{client}:v1"
        engine.run(client, "tag", name, again)
        assert f"digest: {forms[form].digest} " in engine.run(client, "push", again).stdout
        engine.run(client, "save", "-o", str(tmp_path / "saved"), again)
        with tarfile.open(tmp_path / "saved") as saved:
            index = saved.extractfile("index.json")
            assert index is not None
            assert json.load(index)["manifests"][0]["digest"] == forms[form].digest
        engine.run(client, "rmi", again)
    engine.run(client, "save", "-o", str(tmp_path / "saved"), *names.values())
    engine.run(client, "rmi", *names.values())
    engine.run(client, "load", "-i", str(tmp_path / "saved"))
    for form, name in names.items():
        assert f"digest: {forms[form].digest} " in engine.run(client, "push", name).stdout
    engine.run(client, "rmi", *names.values())


def test_an_index_comes_from_an_archive_with_its_attestations(
    engine: Engine, registry: RegistryServer, client: str, tmp_path: Path
) -> None:
    several = [(runnable(), "amd64", ""), (runnable(architecture="arm64"), "arm64", "")]
    statement = b'{"_type":"https://in-toto.io/Statement/v0.1"}'
    config = json.dumps({"os": "unknown", "rootfs": {"diff_ids": [digest_of(statement)]}}).encode()
    manifest = json.loads(several[0][0].manifest)
    manifest["config"] |= {"digest": digest_of(config), "size": len(config)}
    manifest["layers"] = [
        {
            "mediaType": "application/vnd.in-toto+json",
            "digest": digest_of(statement),
            "size": len(statement),
        }
    ]
    attestation = replace(
        several[0][0],
        manifest=json.dumps(manifest).encode(),
        blobs={digest_of(config): config, digest_of(statement): statement},
    )
    index = json.loads(make_index([*several, (attestation, "unknown", "")]))
    index["manifests"][2]["platform"]["os"] = "unknown"
    path, name = f"e2e/attested-{client}", f"{registry.host}/e2e/attested-{client}:v1"
    for image in (several[0][0], several[1][0], attestation):
        registry.put_image(path, image.digest, image)
    registry.put_manifest(path, "v1", OCI_INDEX, json.dumps(index).encode())
    archives = [tmp_path / "first", tmp_path / "second"]
    source = ("--all", "--src-tls-verify=false", f"docker://{name}")
    argv = ["skopeo", "copy", "-q", *source, f"oci-archive:{archives[0]}:{name}"]
    subprocess.run(argv, check=True)
    for number, archive in enumerate(archives):
        engine.run(client, "load", "-i", str(archive))
        engine.run(client, "save", "-o", str(archives[1]), name)
        copy = f"{registry.host}/e2e/attested-{client}-{number}:v1"
        engine.run(client, "tag", name, copy)
        pushed = f"digest: {digest_of(json.dumps(index).encode())} "
        assert pushed in engine.run(client, "push", copy).stdout
        engine.run(client, "rmi", name, copy)


def test_login_and_logout(engine: Engine, client: str) -> None:
    with running_registry(password=True) as server:
        server.put_image("e2e/secret", "v1", runnable())
        name = f"{server.host}/e2e/secret:v1"
        refused = engine.run(client, "pull", name, check=False)
        assert refused.returncode == 1
        assert "no basic auth credentials" in refused.stderr
        login = ("login", "-u", USER, "--password-stdin", server.host)
        wrong = engine.run(client, *login, input_="wrong", check=False)
        assert wrong.returncode == 1
        assert "401 Unauthorized" in wrong.stderr
        assert "Login Succeeded" in engine.run(client, *login, input_=PASSWORD).stdout
        engine.run(client, "pull", "-q", name)
        engine.run(client, "push", "-q", name)
        engine.run(client, "logout", server.host)
        assert engine.run(client, "push", name, check=False).returncode == 1
        engine.run(client, "rmi", name)


HELPER = """#!/bin/sh
store=$(dirname "$0")/stored
case $1 in
  store) cat >"$store";;
  get) [ -s "$store" ] && cat "$store" || { echo "credentials not found in native keychain"; exit 1; };;
  erase) rm -f "$store";;
esac
"""


def test_a_credential_helper_keeps_the_password(
    engine: Engine, client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    config = Path(engine.env["DOCKER_CONFIG"]) / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps({"credsStore": "test"}))
    with running_registry(password=True) as server:
        server.put_image("e2e/helped", "v1", runnable())
        name = f"{server.host}/e2e/helped:v1"
        login = ("login", "-u", USER, "--password-stdin", server.host)
        engine.run(client, *login, input_=PASSWORD)
        assert json.loads((tmp_path / "stored").read_text())["Secret"] == PASSWORD
        assert base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode() not in config.read_text()
        engine.run(client, "pull", "-q", name)
        engine.run(client, "logout", server.host)
        assert not (tmp_path / "stored").exists()
        engine.run(client, "rmi", name)
    config.unlink()


@pytest.mark.parametrize("content", ['{"credsStore": "that-is-not-here"}', "{bad", "[]"])
def test_a_config_that_cannot_be_used_does_not_stop_a_pull(
    engine: Engine, registry: RegistryServer, client: str, content: str
) -> None:
    registry.put_image("e2e/open", "v1", runnable())
    name = f"{registry.host}/e2e/open:v1"
    config = Path(engine.env["DOCKER_CONFIG"]) / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text(content)
    assert engine.run(client, "pull", "-q", name).stdout == f"{name}\n"
    gone = engine.run(client, "logout", registry.host)
    assert gone.stdout == f"Removing login credentials for {registry.host}\n"
    config.unlink()
    engine.run(client, "rmi", name)


def test_the_platform_that_was_asked_for(engine: Engine, registry: RegistryServer) -> None:
    several = [(runnable(), "amd64", ""), (runnable(architecture="arm64"), "arm64", "v8")]
    for image, _, _ in several:
        registry.put_image("e2e/platforms", image.digest, image)
    index = make_index(several)
    registry.put_manifest("e2e/platforms", "v1", OCI_INDEX, index)
    name = f"{registry.host}/e2e/platforms:v1"
    for platform, expected in (("linux/amd64", "amd64"), ("linux/arm64/v8", "arm64")):
        engine.docker("pull", "-q", "--platform", platform, name)
        shown = engine.docker("image", "inspect", "-f", "{{.Architecture}}", name)
        assert shown == expected
    refused = engine.run("docker", "pull", "--platform", "linux/s390x", name, check=False)
    assert "no matching manifest for linux/s390x in the manifest list entries" in refused.stderr
    assert json.loads(engine.docker("manifest", "inspect", "--insecure", name)) == json.loads(index)
    by_digest = f"{registry.host}/e2e/platforms@{several[0][0].digest}"
    for options, shown in (((), name), (("--verbose",), name), ((), by_digest)):
        arguments = ("manifest", "inspect", "--insecure", *options, shown)
        assert engine.wherry(*arguments) == engine.docker(*arguments)
    engine.docker("rmi", name)


def test_a_platform_that_is_not_here_is_pulled(
    engine: Engine, registry: RegistryServer, client: str
) -> None:
    several = [(runnable(), "amd64", ""), (runnable(architecture="arm64"), "arm64", "")]
    for image, _, _ in several:
        registry.put_image("e2e/missing", image.digest, image)
    registry.put_manifest("e2e/missing", "v1", OCI_INDEX, make_index(several))
    name = f"{registry.host}/e2e/missing:v1"
    engine.docker("pull", "-q", name)
    create = ("create", "--name", "other", "--platform", "linux/arm64", name, "sh")
    never = engine.run(client, *create[:1], "--pull", "never", *create[1:], check=False)
    assert "does not match the specified platform (linux/arm64)" in never.stderr
    done = engine.run(client, *create)
    assert done.stderr.startswith(f"Unable to find image '{name}' locally\n")
    shown = engine.docker("inspect", "-f", "{{.Image}}", "other")
    assert shown == several[1][0].config
    engine.docker("rm", "other")
    engine.docker("rmi", name)


def test_one_platform_of_a_name_is_removed_and_all_are_saved(
    engine: Engine, registry: RegistryServer, client: str, tmp_path: Path
) -> None:
    several = [(runnable(), "amd64", ""), (runnable(architecture="arm64"), "arm64", "v8")]
    for image, _, _ in several:
        registry.put_image("e2e/several", image.digest, image)
    index = make_index(several)
    registry.put_manifest("e2e/several", "v1", OCI_INDEX, index)
    name = f"{registry.host}/e2e/several:v1"
    for platform in ("linux/arm64/v8", "linux/amd64"):
        engine.docker("pull", "-q", "--platform", platform, name)
    other = several[1][0].config
    asked = ("--platform", "linux/arm64/v8", "-f", "{{.Id}}", name)
    assert engine.run(client, "image", "inspect", *asked).stdout == f"{other}\n"
    wrong = engine.run(client, "history", "--platform", "linux/s390x", name, check=False)
    assert "does not match the specified platform (linux/s390x)" in wrong.stderr
    engine.run(client, "save", "-o", str(tmp_path / "all"), name)
    arm64 = ("--override-arch", "arm64", "--override-variant", "v8")
    for options, (image, _, _) in zip(((), arm64), several, strict=True):
        done = subprocess.run(
            ["skopeo", *options, "inspect", "--config", f"oci-archive:{tmp_path}/all"],
            capture_output=True,
            check=True,
        )
        assert json.loads(done.stdout)["rootfs"]["diff_ids"] == image.diff_ids
    other_name = f"{registry.host}/e2e/several-{client}:v2"
    engine.run(client, "tag", name, other_name)
    engine.run(client, "push", "-q", other_name)
    assert registry.get_manifest(f"e2e/several-{client}", "v2") == (OCI_INDEX, index)
    wrong = engine.run(client, "push", "--platform", "linux/s390x", other_name, check=False)
    assert "Error response from daemon: image with reference" in wrong.stderr
    engine.docker("rmi", other_name)
    wrong = engine.run(client, "rmi", "--platform", "linux/s390x", name, check=False)
    assert "does not match the specified platform (linux/s390x)" in wrong.stderr
    done = engine.run(client, "rmi", "--platform", "linux/arm64/v8", name)
    assert f"Deleted: {other}\n" in done.stdout
    assert "Untagged" not in done.stdout
    assert engine.docker("image", "inspect", "-f", "{{.Architecture}}", name) == "amd64"
    engine.docker("rmi", name)
    loaded = engine.run(client, "load", "-i", str(tmp_path / "all")).stdout
    assert loaded.splitlines()[-1] == f"Loaded image: {name}"
    assert engine.docker("images", "-q", name).count("\n") == 1  # both
    engine.docker("rmi", name)


QEMU = "/usr/bin/qemu-aarch64-static"
AARCH64_MAGIC = rb"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
AARCH64_MASK = rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def arm64_program(exit_code: int) -> bytes:
    """mov x8, #93 (exit); mov x0, #exit_code; svc #0."""
    text = struct.pack("<III", 0xD2800BA8, 0xD2800000 | exit_code << 5, 0xD4000001)
    base, start = 0x400000, 64 + 56
    header = build_header("arm64") + struct.pack(
        "<IQQQIHHHHHH", 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    size = start + len(text)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + text


@contextlib.contextmanager
def registered_emulator(folder: Path) -> Iterator[None]:
    """qemu for arm64 in binfmt_misc, as Debian's packages register it; left as it was found."""
    if find_emulator("arm64") is not None:
        yield
        return
    if not Path(QEMU).exists():
        pytest.skip("qemu-user-static is not installed")
    if subprocess.run(["mount", "-t", "binfmt_misc", "none", str(folder)], check=False).returncode:
        pytest.skip("the kernel has no binfmt_misc")
    name = f"wherry-{os.getpid()}"
    try:
        entry = b":%s:M::%s:%s:%s:OCF"
        line = entry % (name.encode(), AARCH64_MAGIC, AARCH64_MASK, QEMU.encode())
        (folder / "register").write_bytes(line)
        yield
    finally:
        if (folder / name).exists():
            (folder / name).write_text("-1")
        subprocess.run(["umount", str(folder)], check=True)


def test_an_image_of_another_architecture(
    engine: Engine, registry: RegistryServer, tmp_path: Path
) -> None:
    image = make_image([{"program": arm64_program(42)}], architecture="arm64")
    registry.put_image("e2e/arm64", "v1", image)
    name = f"{registry.host}/e2e/arm64:v1"
    engine.docker("pull", "-q", "--platform", "linux/arm64", name)
    if find_emulator("arm64") is None:
        refused = engine.run("docker", "run", "--rm", name, "/program", check=False)
        assert "exec /program: exec format error" in refused.stderr
        assert "no emulator for linux/arm64 is registered" in refused.stderr
    with registered_emulator(tmp_path):
        done = engine.run("docker", "run", "--rm", name, "/program", check=False)
        assert done.returncode == 42
        assert "The requested image's platform (linux/arm64) does not match" in done.stderr
        asked = ("run", "--rm", "--platform", "linux/arm64", name, "/program")
        done = engine.run("docker", *asked, check=False)
        assert (done.returncode, done.stderr) == (42, "")
    engine.docker("rmi", name)


def test_an_engine_with_a_mirror_and_more(registry: RegistryServer) -> None:
    registry.put_image("library/thing", "latest", runnable())
    with running_engine(options=[f"--registry-mirror={registry.url}"]) as engine:
        done = engine.run("docker", "run", "--rm", "thing", *ECHO)
        assert done.stdout == "it runs\n"
        assert "latest: Pulling from library/thing" in done.stderr
        info = json.loads(engine.docker("info", "--format", "{{json .RegistryConfig}}"))
        assert info["Mirrors"] == [registry.url] or info["Mirrors"] == [f"{registry.url}/"]
        missing = engine.run("docker", "pull", "no-such-thing", check=False)
        assert "manifest for no-such-thing:latest not found" in missing.stderr


class PullStream:
    """`POST /images/create` whose progress is read line by line."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(engine.socket))
        auth = base64.urlsafe_b64encode(b"{}").decode()
        self._socket.sendall(
            f"POST /v1.51/images/create?fromImage={name} HTTP/1.1\r\nHost: d\r\n"
            f"X-Registry-Auth: {auth}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        self._response = http.client.HTTPResponse(self._socket, method="POST")

    def read_lines(self, count: int) -> list[dict[str, object]]:
        """Up to so many lines; fewer when the stream ends or breaks."""
        lines: list[dict[str, object]] = []
        try:
            if not lines:
                self._response.begin()
            while len(lines) < count:
                line = self._response.readline()
                if not line:
                    break
                lines.append(json.loads(line))
        except (OSError, http.client.HTTPException, ValueError):
            pass
        return lines

    def close(self) -> None:
        self._response.close()
        self._socket.close()


def verify_blobs(engine: Engine) -> None:
    """Everything in the content store is what its name says, read behind the engine's back."""
    for blob in (engine.root / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


@pytest.mark.parametrize(
    ("victim", "rounds"), [("engine", 18), ("registry", 16), ("connection", 16)]
)
def test_whatever_is_killed_in_a_pull_the_store_is_whole(victim: str, rounds: int) -> None:
    moments = random.Random(victim)
    with running_engine() as engine, running_registry() as registry:
        for number in range(rounds):
            image = make_image([{"a": os.urandom(4_000_000)}, {"b": os.urandom(2_000_000)}])
            registry.put_image("e2e/kill", f"v{number}", image)
            cutter = Cutter(registry.port, random_budgets(number, 4_000_000))
            host = cutter.host if victim == "connection" else registry.host
            stream = PullStream(engine, f"{host}/e2e/kill:v{number}")
            try:
                stream.read_lines(moments.randrange(1, 12))
                if victim == "engine":
                    engine.kill()
                    engine.start()
                elif victim == "registry":
                    registry.stop()
                    stream.read_lines(1000)
                    registry.start()
                else:
                    stream.read_lines(1000)
            finally:
                stream.close()
                cutter.close()
            name = f"{registry.host}/e2e/kill:v{number}"
            engine.docker("pull", "-q", name)
            assert engine.docker("image", "inspect", "-f", "{{.Id}}", name) == image.config
            if number % 6 == 5:
                verify_blobs(engine)
        verify_blobs(engine)
        engine.wherry("system", "check")
