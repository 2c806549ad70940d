"""An engine per worker with the test images loaded, both clients, and the check that nothing is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.harness.engine import Engine, running_engine
from tests.images.make import default_folder, make_image


@pytest.fixture(autouse=True)
def no_child_left() -> None:
    """An engine that a test starts anew is the child of a fixture of a wider scope."""


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[Engine]:
    """One engine for a whole worker; every test leaves it as it found it."""
    with running_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def loaded(shared_engine: Engine) -> set[str]:
    """Names of the images that the shared engine has already."""
    return set()


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """The shared engine; a test that leaves a container, mount, cgroup, veth or process fails."""
    yield shared_engine
    left = shared_engine.docker("ps", "-aq")
    if left:
        shared_engine.run("docker", "rm", "-f", *left.split(), check=False)
    remains = shared_engine.settle()
    assert not remains
    assert not left, "the test left containers"


@pytest.fixture
def busybox(engine: Engine, loaded: set[str]) -> str:
    """busybox:latest, loaded."""
    return load(engine, loaded, "busybox", "busybox:latest")


@pytest.fixture
def debian(engine: Engine, loaded: set[str]) -> str:
    """debian:bookworm-slim, loaded."""
    return load(engine, loaded, "debian", "debian:bookworm-slim")


@pytest.fixture
def node(engine: Engine, loaded: set[str]) -> str:
    """node:lts-slim, loaded."""
    return load(engine, loaded, "node", "node:lts-slim")


@pytest.fixture(params=["docker", "wherry"])
def client(request: pytest.FixtureRequest) -> str:
    """Both clients, one after the other."""
    return str(request.param)


def load(engine: Engine, loaded: set[str], name: str, tag: str) -> str:
    """Loads an image once per engine."""
    if name not in loaded:
        engine.docker("load", "-q", "-i", str(make_image(default_folder(), name)))
        loaded.add(name)
    return tag
