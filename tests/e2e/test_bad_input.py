"""Bad input gets Docker's status and sentence, and leaves nothing half made behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest
from bench.start import Connection
from tests.harness.engine import Engine
from tests.images.make import add_file, default_folder, write_archive


def ask(
    engine: Engine,
    method: str,
    path: str,
    body: bytes | None = None,
    content_type: str = "application/json",
) -> tuple[int, str]:
    """(status, message) of one raw request."""
    connection = Connection(str(engine.socket))
    connection.request(
        method, path, body, {"Content-Type": content_type} if body is not None else {}
    )
    response = connection.getresponse()
    content = response.read()
    connection.close()
    try:
        return response.status, str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return response.status, content.decode(errors="replace")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--name", "a/b"],
            "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (["--ipc", "invalid"], "invalid IPC mode: invalid"),
        (["--cap-add", "NOPE"], "invalid CapAdd: unknown capability"),
        (
            ["--mount", "type=bind,source=/does/not/exist,target=/x"],
            'invalid mount config for type "bind": bind source path does not exist: /does/not/exist',
        ),
        (["-v", "/tmp:relative"], "invalid volume specification"),
        (
            ["-w", "relative"],
            "the working directory 'relative' is invalid, it needs to be an absolute path",
        ),
        (["--network", "container:nope"], "No such container: nope"),
        (["--network", "nope"], "network nope not found"),
        (["--security-opt", "nope"], "Invalid --security-opt"),
        (["--runtime", "nope"], "unknown or invalid runtime name: nope"),
        (["--restart", "always", "--rm"], "conflicting options"),
    ],
)
def test_refused_creations(
    engine: Engine, busybox: str, arguments: list[str], sentence: str
) -> None:
    done = engine.run("docker", "run", *arguments, busybox, "true", check=False)
    assert done.returncode == 125
    assert sentence in done.stderr.replace("--restart and --rm", "")
    assert not engine.docker("ps", "-aq") or "network" in sentence or "container" in sentence
    left = engine.docker("ps", "-aq").split()
    if left:
        engine.docker("rm", *left)


def test_unknown_things(engine: Engine, busybox: str) -> None:
    for verb in (
        "start",
        "stop",
        "kill",
        "rm",
        "logs",
        "inspect",
        "pause",
        "wait",
        "attach",
        "top",
        "restart",
    ):
        done = engine.run("docker", verb, "nope", check=False)
        assert done.returncode == 1, verb
        assert (
            "no such container: nope" in done.stderr.lower()
            or "no such object: nope" in done.stderr.lower()
        ), done.stderr
    done = engine.run("docker", "run", "--pull", "never", "nope:latest", check=False)
    assert done.returncode == 125
    assert "No such image: nope:latest" in done.stderr
    engine.docker("run", "-d", "--name", "c1", busybox, "sleep", "60")
    done = engine.run("docker", "kill", "-s", "NOPE", "c1", check=False)
    assert "invalid signal: NOPE" in done.stderr
    taken = engine.run("docker", "run", "--name", "c1", busybox, check=False)
    assert taken.returncode == 125
    assert 'Conflict. The container name "/c1" is already in use by container' in taken.stderr
    engine.docker("rm", "-f", "c1")


@pytest.mark.usefixtures("busybox")
def test_malformed_requests(engine: Engine) -> None:
    create = "/v1.51/containers/create"
    assert (
        ask(
            engine,
            "POST",
            create,
            b"{",
        )[0]
        == 400
    )
    assert ask(engine, "POST", create, b'{"Image":"busybox"} x')[0] == 400
    assert ask(engine, "POST", create, b'{"Image":"busybox"}', "text/plain")[0] == 400
    assert ask(engine, "POST", create, b"{}")[0] == 400
    assert ask(engine, "POST", create, b'{"Image":3}')[0] == 400
    assert ask(engine, "GET", "/v1.51/nope") == (404, "page not found")
    assert ask(engine, "GET", "/v1.1/version")[0] == 400
    assert ask(engine, "GET", "/v9.99/version")[0] == 400
    assert ask(engine, "GET", "/v1.51/containers/json?filters=x")[0] == 400
    assert ask(engine, "GET", "/v1.51/containers/json?limit=abc")[0] == 500
    assert ask(engine, "GET", "/_ping") == (200, "OK")


def test_not_http_at_all(engine: Engine) -> None:
    for garbage in (
        b"\x16\x03\x01\x00",
        b"GET\r\n\r\n",
        b"G" * 200_000,
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(10)
            raw.connect(str(engine.socket))
            try:
                raw.sendall(garbage)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    continue
            except (BrokenPipeError, ConnectionResetError):
                continue
    assert engine.docker("version", "-f", "{{.Server.Version}}")


def test_a_file_over_a_folder_and_back(engine: Engine, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = engine.run(
        "docker", "run", "--rm", "-v", f"{tmp_path}/file:/etc", busybox, "true", check=False
    )
    assert done.returncode in {125, 126, 127}
    assert "not a directory" in done.stderr.lower()
    done = engine.run(
        "docker", "run", "--rm", "-v", f"{tmp_path}:/etc/passwd", busybox, "true", check=False
    )
    assert done.returncode in {125, 126, 127}
    assert "not a directory" in done.stderr.lower()


def test_a_large_environment_and_many_mounts(engine: Engine, busybox: str, tmp_path: Path) -> None:
    variables = tmp_path / "env"
    variables.write_text("".join(f"V{number}={'x' * 1000}\n" for number in range(250)))
    done = engine.docker(
        "run", "--rm", "--env-file", str(variables), busybox, "sh", "-c", "env | grep -c ^V"
    )
    assert done == "250"
    mounts = [word for number in range(300) for word in ("-v", f"{tmp_path}:/m/{number}")]
    assert engine.docker("run", "--rm", *mounts, busybox, "sh", "-c", "ls /m | wc -l") == "300"


def test_a_client_that_goes_between_attach_and_start(engine: Engine, busybox: str) -> None:
    identity = engine.docker("create", "-i", "--name", "c1", busybox, "sh", "-c", "echo on; cat")
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(engine.socket))
        raw.sendall(
            f"POST /v1.51/containers/{identity}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\n"
            "Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        )
        assert b"101" in raw.recv(4096)
    engine.docker("start", "c1")
    engine.docker("stop", "-t", "0", "c1")
    assert engine.docker("logs", "c1") == "on"
    engine.docker("rm", "c1")


def poisoned_image(
    tmp_path: Path,
    engine: Engine,
    tag: str,
    links: dict[str, str],
    extra: dict[str, bytes] | None = None,
    fifos: tuple[str, ...] = (),
) -> str:
    """busybox with hostile entries on top."""
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.SYMTYPE
            entry.linkname = target
            tar.addfile(entry)
        for name in fifos:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.FIFOTYPE
            entry.mode = 0o644
            tar.addfile(entry)
        for name, content in (extra or {}).items():
            add_file(tar, name, content)
    archive = tmp_path / "image.tar"
    base = default_folder() / "layer-busybox.tar"
    write_archive(archive, tag, (base, layer), {"Env": ["PATH=/bin"], "Cmd": ["sh"]})
    engine.docker("load", "-q", "-i", str(archive))
    return tag


@pytest.mark.usefixtures("busybox")
def test_mount_points_that_are_links_to_the_host(engine: Engine, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    links = {
        "proc": str(victim),
        "dev": str(victim),
        "sys": "/../../../../" + str(victim),
        "etc/hosts": str(victim / "hosts"),
        "etc/resolv.conf": "/proc/1/root/etc/resolv.conf",
    }
    tag = poisoned_image(tmp_path, engine, "poisoned:links", links)
    done = engine.run("docker", "run", "--rm", tag, "true", check=False)
    assert done.returncode in {0, 125, 126, 127, 128}
    assert not list(victim.iterdir())
    engine.docker("rmi", "-f", tag)


@pytest.mark.usefixtures("busybox")
def test_volumes_where_the_image_has_no_folder(
    engine: Engine, busybox: str, tmp_path: Path
) -> None:
    """A volume takes what the image has at its place: a loop of links or a file there cannot be taken."""
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN ln -s /loop /loop\n")
    engine.docker("build", "-q", "-t", "t-loop", str(tmp_path))
    for place, sentence in (
        ("/loop", "evalSymlinksInScope: too many links in /loop"),
        ("/loop/x", "evalSymlinksInScope: too many links in /loop/x"),
        ("/etc/passwd", "source /etc/passwd is not directory"),
    ):
        done = engine.run("docker", "create", "-v", f"t-vol:{place}", "t-loop", check=False)
        assert (done.returncode, done.stderr) == (1, f"Error response from daemon: {sentence}\n")
        engine.docker("volume", "rm", "t-vol")
    assert engine.docker("ps", "-aq") == ""
    assert "Traceback" not in engine.log.read_text()
    engine.docker("rmi", "t-loop")


def test_a_passwd_that_never_ends(engine: Engine, tmp_path: Path) -> None:
    tag = poisoned_image(tmp_path, engine, "poisoned:fifo", {}, fifos=("etc/passwd",))
    done = engine.run(
        "docker", "run", "--rm", "-u", "daemon", tag, "true", check=False, deadline_s=30
    )
    assert done.returncode in {125, 126}
    engine.docker("rmi", "-f", tag)
    endless = poisoned_image(tmp_path, engine, "poisoned:zero", {"etc/passwd": "/dev/zero"})
    done = engine.run(
        "docker", "run", "--rm", "-u", "daemon", endless, "true", check=False, deadline_s=30
    )
    assert done.returncode in {125, 126}
    engine.docker("rmi", "-f", endless)


@pytest.mark.usefixtures("busybox")
def test_python_in_the_image_is_never_imported(engine: Engine, tmp_path: Path) -> None:
    import sys

    marker = b"raise SystemExit(99)\n"
    modules = (
        "traceback",
        "errno",
        "os",
        "encodings/__init__",
        "encodings/idna",
        "json/__init__",
        "pwd",
        "socket",
        "sitecustomize",
    )
    folders = {path.lstrip("/") for path in (*sys.path, os.path.dirname(os.__file__)) if path}
    extra = {f"{folder}/{module}.py": marker for folder in folders for module in modules}
    tag = poisoned_image(tmp_path, engine, "poisoned:python", {}, extra)
    assert engine.docker("run", "--rm", tag, "echo", "fine") == "fine"
    missing = engine.run("docker", "run", "--rm", tag, "nope", check=False)
    assert (missing.returncode, "executable file not found" in missing.stderr) == (127, True)
    engine.docker("run", "-d", "--name", "c1", tag, "sleep", "60")
    assert engine.docker("exec", "c1", "echo", "fine") == "fine"
    assert engine.run("docker", "exec", "c1", "nope", check=False).returncode == 127
    (tmp_path / "copied").write_text("x")
    engine.docker("cp", str(tmp_path / "copied"), "c1:/")
    engine.docker("rm", "-f", "c1")
    engine.docker("rmi", "-f", tag)


def test_two_engines_on_one_root(engine: Engine) -> None:
    import sys

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "wherry.daemon",
            f"--data-root={engine.root}",
            f"--exec-root={engine.folder / 'other'}",
            f"-H=unix://{engine.folder / 's2'}",
            "--bridge=none",
        ],
        env={**engine.env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert str(engine.root) in done.stderr
    assert "Traceback" not in done.stderr


def test_output_without_a_newline(engine: Engine, busybox: str) -> None:
    engine.docker(
        "run",
        "--name",
        "c1",
        busybox,
        "sh",
        "-c",
        "head -c 20000000 /dev/zero | tr '\\0' x",
        deadline_s=120,
    )
    with engine.spawn("docker", "logs", "c1") as process:
        counted = subprocess.run(
            ["wc", "-c"], stdin=process.stdout, capture_output=True, check=True
        )
        process.wait(60)
    assert int(counted.stdout) == 20_000_000
    engine.docker("rm", "c1")


@pytest.mark.parametrize(
    ("arguments", "code", "lines"),
    [
        (
            ("run", "--cidfile", "/proc/x", "busybox", "true"),
            127,
            [
                "CLIENT: failed to create the container ID file: open /proc/x: no such file or directory"
            ],
        ),
        (
            ("run", "UPPER:x"),
            125,
            ["CLIENT: invalid reference format: repository name (library/UPPER) must be lowercase"],
        ),
        (
            ("run", "--log-opt", "foo=bar", "busybox"),
            125,
            [
                (
                    "CLIENT: Error response from daemon: "
                    "unknown log opt 'foo' for json-file log driver"
                )
            ],
        ),
        (
            ("create", "UPPER:x"),
            1,
            ["invalid reference format: repository name (library/UPPER) must be lowercase"],
        ),
        (("rm", "-f", "nobody"), 0, ["Error response from daemon: No such container: nobody"]),
        (("rm", "nobody"), 1, ["Error response from daemon: No such container: nobody"]),
        (
            ("rename", "nobody", "x2"),
            1,
            [
                "Error response from daemon: No such container: nobody",
                "Error: failed to rename container named nobody",
            ],
        ),
    ],
)
def test_words_and_codes_of_both_clients(
    engine: Engine,
    busybox: str,
    client: str,
    arguments: tuple[str, ...],
    code: int,
    lines: list[str],
) -> None:
    del busybox
    result = engine.run(client, *arguments, check=False)
    said = [line for line in result.stderr.splitlines() if line and not line.startswith("Run '")]
    assert (result.returncode, said) == (code, [line.replace("CLIENT", client) for line in lines])
