"""Start-to-exit of `true`, exec and parallel starts: our engine beside those that are installed.

usage: python -m bench.start [--rounds N] [--slots N] [--back-to-back]

Peers: Docker's own engine at BENCH_DOCKER_HOST; podman, runc and crun from the PATH, or by a command prefix
in BENCH_PEER_PREFIX (for programs in another root, where BENCH_PEER_BUNDLE=outside:inside names a folder that
both see). An absent peer is left out. Starts are 120 ms apart, as a person's or a scheduler's are.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.harness.engine import Engine, running_engine
from tests.images.make import default_folder, make_image

from bench.compare import Variant, format_table, measure

IMAGE = "busybox:latest"
WHERRY = str(Path(sys.executable).with_name("wherry"))


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        """Connects to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def call(self, method: str, path: str, body: object = None) -> bytes:
        """One request. Raises RuntimeError for an error status."""
        raw = None if body is None else json.dumps(body)
        self.request(method, path, raw, {"Content-Type": "application/json"})
        response = self.getresponse()
        content = response.read()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {content.decode()}")
        return content


def time_api(path: str, network: str) -> float:
    """Seconds from the start request to the known exit; create and remove are outside."""
    connection = Connection(path)
    body = {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"NetworkMode": network}}
    identity = json.loads(connection.call("POST", "/v1.51/containers/create", body))["Id"]
    started = time.perf_counter()
    connection.call("POST", f"/v1.51/containers/{identity}/start")
    answer = json.loads(connection.call("POST", f"/v1.51/containers/{identity}/wait"))
    seconds = time.perf_counter() - started
    if answer["StatusCode"] != 0:
        raise RuntimeError(f"exit {answer['StatusCode']}")
    connection.call("DELETE", f"/v1.51/containers/{identity}")
    connection.close()
    return seconds


def run(argv: Sequence[str], env: dict[str, str] | None = None, cwd: str | None = None) -> None:
    """One command to its end. Raises RuntimeError when it fails."""
    done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{shlex.join(argv)}: exit {done.returncode}: {done.stderr.decode()[-300:]}"
        )


def find_docker_peer() -> dict[str, str] | None:
    """A client's environment for Docker's own engine, which gets the image."""
    host = os.environ.get("BENCH_DOCKER_HOST")
    if not host:
        return None
    env = {**os.environ, "DOCKER_HOST": host}
    run(["docker", "load", "-q", "-i", str(make_image(default_folder(), "busybox"))], env)
    return env


def start_variants(engine: Engine, peer: dict[str, str] | None, network: str) -> list[Variant]:
    """All ways to run `true`."""
    flags = ["run", "--rm", "--network", network, IMAGE, "true"]
    variants = [
        Variant("wherry engine (API)", lambda: time_api(str(engine.socket), network)),
        Variant("wherry run", lambda: run([WHERRY, *flags], engine.env)),
        Variant("docker CLI on wherry", lambda: run(["docker", *flags], engine.env)),
    ]
    if peer is not None:
        socket_path = peer["DOCKER_HOST"].removeprefix("unix://")
        variants += [
            Variant("dockerd (API)", lambda: time_api(socket_path, network)),
            Variant("docker run", lambda: run(["docker", *flags], peer)),
        ]
    return variants


def runtime_variants(folder: Path) -> list[Variant]:
    """podman without a network, and the runtimes alone: no API, no overlay, no bridge."""
    outside, _, inside = os.environ.get("BENCH_PEER_BUNDLE", f"{folder}:{folder}").partition(":")
    bundle = Path(outside) / f"bench-bundle-{os.getpid()}"
    seen = f"{inside}/{bundle.name}"
    prefix = shlex.split(os.environ.get("BENCH_PEER_PREFIX", ""))
    variants = []
    for program in ("runc", "crun"):
        if not prefix and not shutil.which(program):
            continue
        if not bundle.exists():
            make_bundle(bundle, [*prefix, program], seen)
        argv = [*prefix, program, "run", "--bundle", seen, f"bench-{program}-{os.getpid()}"]
        variants.append(Variant(f"{program} run", lambda argv=argv: run(argv)))  # type: ignore[misc]
    if prefix or shutil.which("podman"):
        podman = [*prefix, "podman", "run", "--rm", "--network", "none", IMAGE, "true"]
        variants.append(Variant("podman run", lambda: run(podman)))
    return variants


def make_bundle(bundle: Path, runtime: Sequence[str], seen: str) -> None:
    """An OCI bundle of busybox that runs `true`."""
    root = bundle / "rootfs"
    root.mkdir(parents=True)
    make_image(default_folder(), "busybox")
    run(["tar", "-xf", str(default_folder() / "layer-busybox.tar"), "-C", str(root)])
    run([*runtime, "spec", "--bundle", seen])
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = ["true"]
    path.write_text(json.dumps(config))


def exec_variants(engine: Engine, peer: dict[str, str] | None, name: str) -> list[Variant]:
    """All ways to exec `true` in a running container of that name."""
    command = ["run", "-d", "--name", name, IMAGE, "sleep", "3600"]
    run(["docker", *command], engine.env)
    variants = [
        Variant("wherry exec", lambda: run([WHERRY, "exec", name, "true"], engine.env)),
        Variant("docker CLI on wherry", lambda: run(["docker", "exec", name, "true"], engine.env)),
    ]
    if peer is not None:
        run(["docker", *command], peer)
        variants.append(Variant("docker exec", lambda: run(["docker", "exec", name, "true"], peer)))
    return variants


def measure_parallel(path: str, count: int, width: int = 8) -> float:
    """Containers per second: create and start, `width` in flight; removal is outside."""
    names: list[str] = []

    def start_one(_: int) -> None:
        connection = Connection(path)
        body = {"Image": IMAGE, "Cmd": ["sleep", "3600"]}
        identity = json.loads(connection.call("POST", "/v1.51/containers/create", body))["Id"]
        connection.call("POST", f"/v1.51/containers/{identity}/start")
        names.append(identity)
        connection.close()

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        list(pool.map(start_one, range(count)))
    seconds = time.perf_counter() - started
    connection = Connection(path)
    for identity in names:
        connection.call("DELETE", f"/v1.51/containers/{identity}?force=1")
    return count / seconds


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--back-to-back", action="store_true")
    options = parser.parse_args()
    pause_s = 0.0 if options.back_to_back else 0.12
    name = f"bench-{os.getpid()}"
    peer = find_docker_peer()
    with (
        running_engine(options=[f"--slots={options.slots}"]) as engine,
        tempfile.TemporaryDirectory() as folder,
    ):
        engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        for network in ("bridge", "none"):
            variants = start_variants(engine, peer, network)
            if network == "none":
                variants += runtime_variants(Path(folder))
            results = measure(variants, rounds=options.rounds, pause_s=pause_s)
            title = f"start to exit of `true`, network {network}, {options.slots} slots"
            sys.stdout.write(format_table(title, results, base="wherry run") + "\n")
        results = measure(exec_variants(engine, peer, name), rounds=options.rounds, pause_s=pause_s)
        sys.stdout.write(format_table("exec of `true`", results, base="wherry exec") + "\n")
        sys.stdout.write("### `run -d`, 8 in flight\n\n")
        sys.stdout.write(f"wherry: {measure_parallel(str(engine.socket), 64):.0f} containers/s\n")
        if peer is not None:
            run(["docker", "rm", "-f", name], peer)
            path = peer["DOCKER_HOST"].removeprefix("unix://")
            sys.stdout.write(f"dockerd: {measure_parallel(path, 24):.0f} containers/s\n")


if __name__ == "__main__":
    main()
