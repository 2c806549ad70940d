"""Pull of the Node image until it can run, push, save and load: our engine beside those that are installed.

usage: python -m bench.pull [--rounds N] [--image node|debian|busybox]

From Debian's docker-registry on loopback; the image's layers carry a mark of this run, so that no engine has any of
them. Peers: Docker's own engine at BENCH_DOCKER_HOST (it must reach this machine's loopback), podman from the PATH or
by a command prefix in BENCH_PEER_PREFIX. An absent peer is left out. The peak memory is that of wherryd itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from isal import igzip
from tests.harness.engine import Engine, running_engine
from tests.harness.registry import RegistryServer, digest_of, running_registry
from tests.images.make import default_folder, make_image

from bench.compare import Variant, format_table, measure
from bench.start import Connection, run

REPOSITORY = "bench/image"


class Peer:
    """An engine behind Docker's API."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        self.name = name
        self.env = env
        self._socket = env["DOCKER_HOST"].removeprefix("unix://")

    def call(self, method: str, path: str, body: object = None) -> bytes:
        """One request on a connection of its own."""
        with contextlib.closing(Connection(self._socket)) as connection:
            return connection.call(method, path, body)

    def time_pull(self, image: str) -> float:
        """Seconds until a container of the image has been created; the image is gone before and after."""
        run(["docker", "rmi", "-f", image], self.env)
        started = time.perf_counter()
        answer = self.call("POST", f"/v1.51/images/create?fromImage={image}")
        if b"errorDetail" in answer:
            raise RuntimeError(answer.decode()[-300:])
        created = self.call("POST", "/v1.51/containers/create", {"Image": image, "Cmd": ["true"]})
        seconds = time.perf_counter() - started
        identity = re.findall(rb'"Id":"([0-9a-f]+)"', created)[0].decode()
        self.call("DELETE", f"/v1.51/containers/{identity}")
        return seconds

    def time_push(self, image: str) -> float:
        """Seconds of a push to a registry that has nothing yet."""
        with running_registry() as registry:
            target = f"{registry.host}/{REPOSITORY}:v1"
            run(["docker", "tag", image, target], self.env)
            started = time.perf_counter()
            run(["docker", "push", "-q", target], self.env)
            seconds = time.perf_counter() - started
            run(["docker", "rmi", target], self.env)
            return seconds

    def time_save(self, image: str, archive: Path) -> float:
        """Seconds of `docker save`."""
        started = time.perf_counter()
        run(["docker", "save", "-o", str(archive), image], self.env)
        return time.perf_counter() - started

    def time_load(self, image: str, archive: Path) -> float:
        """Seconds of `docker load`; the image is gone before."""
        run(["docker", "rmi", "-f", image], self.env)
        started = time.perf_counter()
        run(["docker", "load", "-q", "-i", str(archive)], self.env)
        return time.perf_counter() - started


def find_peers(engine: Engine) -> list[Peer]:
    """Ours first, then Docker's own if there is one."""
    peers = [Peer("wherry", engine.env)]
    host = os.environ.get("BENCH_DOCKER_HOST")
    if host:
        peers.append(Peer("dockerd", {**os.environ, "DOCKER_HOST": host}))
    return peers


def podman_pull(image: str) -> Variant | None:
    """podman without a daemon."""
    prefix = shlex.split(os.environ.get("BENCH_PEER_PREFIX", ""))
    if not prefix and not shutil.which("podman"):
        return None

    def pull() -> float:
        run([*prefix, "podman", "rmi", "-f", "--ignore", image])
        started = time.perf_counter()
        run([*prefix, "podman", "pull", "-q", "--tls-verify=false", image])
        run([*prefix, "podman", "create", "--name", f"bench-{os.getpid()}", image, "true"])
        seconds = time.perf_counter() - started
        run([*prefix, "podman", "rm", f"bench-{os.getpid()}"])
        return seconds

    return Variant("podman", pull)


def read_peak_mb(pid: int) -> float:
    """Peak resident memory since the last reset."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def publish(registry: RegistryServer, archive: Path) -> str:
    """Puts a docker-archive into the registry, each layer marked as this run's; returns the image's name."""
    with tarfile.open(archive) as whole, tempfile.TemporaryDirectory() as folder:
        entry = json.loads(read_member(whole, "manifest.json"))[0]
        config = json.loads(read_member(whole, entry["Config"]))
        layers, diff_ids = [], []
        for number, name in enumerate(entry["Layers"]):
            layer = Path(folder) / str(number)
            whole.extract(name, folder)
            (Path(folder) / name).rename(layer)
            with tarfile.open(layer, "a") as tar:
                tar.addfile(tarfile.TarInfo(f"bench-{os.getpid()}-{time.time_ns()}"))
            data = layer.read_bytes()
            diff_ids.append(digest_of(data))
            packed = igzip.compress(data, 2)
            registry.put_blob(REPOSITORY, packed)
            kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
            layers.append({"mediaType": kind, "digest": digest_of(packed), "size": len(packed)})
        config["rootfs"]["diff_ids"] = diff_ids
        body = json.dumps(config).encode()
        registry.put_blob(REPOSITORY, body)
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": digest_of(body),
                "size": len(body),
            },
            "layers": layers,
        }
        registry.put_manifest(REPOSITORY, "v1", kind, json.dumps(manifest).encode())
    return f"{registry.host}/{REPOSITORY}:v1"


def read_member(archive: tarfile.TarFile, name: str) -> bytes:
    """A small file of an archive."""
    member = archive.extractfile(name)
    if member is None:
        raise RuntimeError(f"archive has no file {name}")
    return member.read()


def show(title: str, runs: dict[str, Callable[[], float]], rounds: int) -> None:
    """Measures and prints one table."""
    variants = [Variant(name, function) for name, function in runs.items()]
    results = measure(variants, rounds=rounds, warm_up=1)
    sys.stdout.write(format_table(title, results, base="wherry") + "\n")
    sys.stdout.flush()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--image", default="node")
    options = parser.parse_args()
    with (
        running_engine() as engine,
        running_registry() as registry,
        tempfile.TemporaryDirectory() as folder,
    ):
        peers = find_peers(engine)
        image = publish(registry, make_image(default_folder(), options.image))
        pulls: dict[str, Callable[[], float]] = {
            peer.name: lambda peer=peer: peer.time_pull(image) for peer in peers
        }
        podman = podman_pull(image)
        if podman is not None:
            pulls["podman"] = lambda: podman.run() or 0.0
        assert engine.process is not None
        Path(f"/proc/{engine.process.pid}/clear_refs").write_text("5")
        show(f"pull of {options.image} until it can run", pulls, options.rounds)
        peak = read_peak_mb(engine.process.pid)
        sys.stdout.write(f"wherryd: peak of {peak:.0f} MB while pulling\n\n")

        show(
            f"push of {options.image} to an empty registry",
            {peer.name: lambda peer=peer: peer.time_push(image) for peer in peers},
            options.rounds,
        )
        archives = {peer.name: Path(folder) / f"{peer.name}.tar" for peer in peers}
        show(
            f"save of {options.image}",
            {
                peer.name: lambda peer=peer: peer.time_save(image, archives[peer.name])
                for peer in peers
            },
            options.rounds,
        )
        show(
            f"load of {options.image}",
            {
                peer.name: lambda peer=peer: peer.time_load(image, archives[peer.name])
                for peer in peers
            },
            options.rounds,
        )
        for peer in peers:
            run(["docker", "rmi", "-f", image], peer.env)


if __name__ == "__main__":
    main()
