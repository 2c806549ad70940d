"""Docker Compose against the engine: one project's life. Skipped where Compose is not installed.

WHERRY_TEST_COMPOSE names the program where it is in none of Docker's folders for plugins.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.engine import Engine

PLUGINS = ("/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins", "/usr/local/bin")
PROJECT = """
name: story
services:
  db:
    image: busybox
    command: sh -c 'touch /ok; while :; do echo hi | nc -l -p 5432; done'
    healthcheck: {test: [CMD, test, -e, /ok], interval: 1s, start_period: 3s, start_interval: 100ms}
    stop_grace_period: 0s
    volumes: [data:/data]
    networks: {back: {aliases: [database]}}
  migrate:
    image: busybox
    command: [sh, -c, "echo migrated >/data/done; echo all done"]
    volumes: [data:/data]
    networks: [back]
    depends_on: {db: {condition: service_healthy}}
  web:
    build: {context: web, args: {WHO: compose}}
    depends_on: {migrate: {condition: service_completed_successfully}}
    environment: {DB: "database:5432"}
    ports: ["127.0.0.1::8080"]
    networks: [front, back]
    volumes: [data:/data:ro]
    configs: [{source: settings, target: /etc/settings}]
    stop_grace_period: 0s
    restart: unless-stopped
  worker:
    image: busybox
    command: sleep 300
    init: true
    networks: [back]
    scale: 2
  debug:
    image: busybox
    profiles: [debug]
    command: sleep 300
    init: true
    network_mode: service:web
configs: {settings: {content: "from the project\n"}}
volumes: {data: {}}
networks: {front: {}, back: {internal: true}}
"""
DOCKERFILE = """
FROM busybox
ARG WHO
RUN mkdir /www && echo "hello $WHO" > /www/index.html
CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]
"""


def find_compose() -> str:
    """Compose as a program of its own, "" without one."""
    folders = os.pathsep.join(PLUGINS)
    return (
        os.environ.get("WHERRY_TEST_COMPOSE") or shutil.which("docker-compose", path=folders) or ""
    )


class Compose:
    """The project in a folder."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._env = {**engine.env, "COMPOSE_BAKE": "false", "COMPOSE_PROGRESS": "plain"}
        self._folder = folder

    def __call__(self, *arguments: str) -> str:
        """Standard output of a command that succeeds."""
        done = subprocess.run(
            [find_compose(), *arguments],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def compose(engine: Engine, busybox: str, tmp_path: Path) -> Iterator[Compose]:
    """The project, not up yet; all of it is gone at the end."""
    del busybox
    if not find_compose():
        pytest.skip("no Docker Compose")
    (tmp_path / "compose.yaml").write_text(PROJECT)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "Dockerfile").write_text(DOCKERFILE)
    project = Compose(engine, tmp_path)
    yield project
    project("--profile", "debug", "down", "-v", "-t", "0", "--rmi", "local", "--remove-orphans")
    assert engine.docker("network", "ls", "-q", "-f", "label=com.docker.compose.project") == ""
    assert engine.docker("volume", "ls", "-q", "-f", "label=com.docker.compose.project") == ""


def test_a_project_from_up_to_down(compose: Compose) -> None:
    compose("up", "-d", "--build")
    rows = compose("ps", "-a", "--format", "{{.Service}} {{.State}} {{.Health}}").splitlines()
    assert sorted(row.strip() for row in rows) == [
        "db running healthy",
        "migrate exited",
        "web running",
        "worker running",
        "worker running",
    ]
    assert "all done" in compose("logs", "--no-color", "migrate")
    seen = compose("exec", "-T", "web", "sh", "-c", "cat /data/done /etc/settings; nc ${DB%:*} ${DB#*:}")  # fmt: skip
    assert seen.split() == ["migrated", "from", "the", "project", "hi"]
    address = compose("port", "web", "8080").strip()
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        assert answer.read() == b"hello compose\n"

    assert compose("run", "--rm", "-T", "worker", "nc", "db", "5432") == "hi\n"
    compose("up", "-d", "--no-deps", "--scale", "worker=3", "worker")
    assert len(compose("ps", "-q", "worker").split()) == 3
    names = compose("exec", "-T", "web", "nslookup", "-type=a", "worker")
    assert names.count("Name:") == 3

    compose("--profile", "debug", "up", "-d", "--no-deps", "debug")
    assert compose("exec", "-T", "debug", "wget", "-qO-", "localhost:8080") == "hello compose\n"
    compose("stop", "db")
    compose("start", "db")
    compose("restart", "-t", "0", "worker")
    compose("up", "-d", "--no-deps", "--force-recreate", "worker")
    compose("kill", "worker")
    assert compose("ps", "-q", "worker") == ""
