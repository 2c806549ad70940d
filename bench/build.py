"""Builds: our engine with both clients, beside Docker's own engine (BuildKit and classic) and buildah.

usage: python -m bench.build [--rounds N] [--only STORY]

Peers: Docker's own engine at BENCH_DOCKER_HOST. BuildKit needs a `docker` with buildx; both it and buildah come
from the PATH, or by a command prefix in BENCH_PEER_PREFIX for programs in another root: BENCH_PEER_FOLDER=
outside:inside then names a folder that both see, BENCH_PEER_DOCKER_HOST the engine's address inside. An absent
peer is left out. The base image is busybox, and node:lts-slim for the program.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.engine import Engine, running_engine
from tests.images.make import default_folder, make_image

from bench.compare import Variant, format_table, measure
from bench.start import WHERRY, run

NODE_APP = Path(__file__).parents[1] / "tests" / "data" / "builds" / "node-app"
IMAGES = {"busybox": "busybox:latest", "node": "node:lts-slim"}
CHAIN = 20
FILES = 5000
STAGES = 8


@dataclass(frozen=True, slots=True)
class Story:
    """One thing to build; `options` go to every builder."""

    title: str
    write: Callable[[Path], None]
    options: tuple[str, ...] = ("--no-cache",)


@dataclass(frozen=True, slots=True)
class Builder:
    """A command that builds a folder; `place` is that folder as the command sees it."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    place: Callable[[Path], str]


def write_chain(folder: Path) -> None:
    steps = "".join(f"RUN true {number}\n" for number in range(CHAIN))
    (folder / "Dockerfile").write_text(f"FROM busybox\n{steps}")


def write_files(folder: Path) -> None:
    for number in range(FILES):
        part = folder / f"d{number % 50}"
        part.mkdir(exist_ok=True)
        (part / f"f{number}").write_text(f"{number}\n" * 20)
    (folder / "Dockerfile").write_text("FROM busybox\nCOPY . /all/\n")


def write_stages(folder: Path) -> None:
    stages = "".join(
        f"FROM busybox AS s{number}\nRUN sleep 0.3; echo {number} > /{number}\n"
        for number in range(STAGES)
    )
    copies = "".join(f"COPY --from=s{number} /{number} /\n" for number in range(STAGES))
    (folder / "Dockerfile").write_text(f"{stages}FROM busybox\n{copies}")


def write_node_app(folder: Path) -> None:
    shutil.copytree(NODE_APP, folder, dirs_exist_ok=True)


STORIES = (
    Story(f"chain of {CHAIN} `RUN true`, uncached", write_chain),
    Story("the same, all cached", write_chain, ()),
    Story(f"COPY of {FILES:,} files, uncached", write_files),
    Story(f"COPY of {FILES:,} files, cached", write_files, ()),
    Story(f"{STAGES} stages side by side, uncached", write_stages),
    Story("Node program in two stages, uncached", write_node_app),
)


def builders(engine: Engine, shared: str) -> list[Builder]:
    """Every builder that is there. `shared` is outside:inside."""
    classic = {"DOCKER_BUILDKIT": "0"}
    found = [
        Builder("wherry build", (WHERRY, "build", "-q"), engine.env, str),
        Builder("docker CLI on wherry", ("docker", "build", "-q"), {**engine.env, **classic}, str),
    ]
    host = os.environ.get("BENCH_DOCKER_HOST")
    prefix = tuple(shlex.split(os.environ.get("BENCH_PEER_PREFIX", "")))
    outside, _, inside = shared.partition(":")

    def place_inside(folder: Path) -> str:
        return str(folder).replace(outside, inside or outside, 1)

    if host:
        env = {**os.environ, "DOCKER_HOST": host}
        for name, image in IMAGES.items():
            # Its own is kept: an image that is replaced would make it rebuild what others compare with.
            if subprocess.run(
                ["docker", "image", "inspect", image], env=env, capture_output=True, check=False
            ).returncode:
                archive = str(make_image(default_folder(), name))
                run(["docker", "load", "-q", "-i", archive], env)
        inner = os.environ.get("BENCH_PEER_DOCKER_HOST", host)
        buildx = (*prefix, "env", f"DOCKER_HOST={inner}", "docker", "buildx", "build", "-q")
        found.append(Builder("dockerd, BuildKit", buildx, env, place_inside))
        found.append(
            Builder("dockerd, classic", ("docker", "build", "-q"), {**env, **classic}, str)
        )
    if prefix or shutil.which("buildah"):
        buildah = (*prefix, "buildah", "build", "-q", "--layers")
        found.append(Builder("buildah", buildah, dict(os.environ), place_inside))
    return found


def variants(story: Story, folder: Path, found: Sequence[Builder]) -> list[Variant]:
    """The story with every builder."""
    return [
        Variant(
            builder.name,
            lambda builder=builder: run(  # type: ignore[misc] # bound now
                [*builder.argv, *story.options, builder.place(folder)], builder.env
            ),
        )
        for builder in found
    ]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    shared = os.environ.get("BENCH_PEER_FOLDER", "")
    with (
        running_engine(options=[f"--slots={options.slots}"]) as engine,
        tempfile.TemporaryDirectory(dir=shared.partition(":")[0] or None) as parent,
    ):
        for name in IMAGES:
            engine.docker("load", "-q", "-i", str(make_image(default_folder(), name)))
        found = builders(engine, shared)
        for number, story in enumerate(STORIES):
            if options.only not in story.title:
                continue
            folder = Path(parent) / str(number)
            folder.mkdir()
            story.write(folder)
            results = measure(variants(story, folder, found), rounds=options.rounds, warm_up=1)
            sys.stdout.write(format_table(story.title, results, base="wherry build") + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
