"""A hostile process in a container against what the engine does on its behalf."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

from tests.harness.engine import Engine


def test_a_part_of_a_volume_that_becomes_a_link_before_it_is_bound(
    engine: Engine, busybox: str, tmp_path: Path
) -> None:
    """Whoever has the volume swaps the folder all the time: only the volume may ever be seen."""
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    engine.docker("volume", "create", "parts")
    swapper = (
        "mkdir -p /v/real; touch /v/real/mine; "
        f"while :; do mv /v/real /v/part; mv /v/part /v/real; ln -s {tmp_path} /v/part; rm /v/part; done"
    )
    engine.docker("run", "-d", "--name", "swapper", "-v", "parts:/v", busybox, "sh", "-c", swapper)
    mount = "type=volume,source=parts,target=/m,volume-subpath=part"
    for _ in range(12):
        done = engine.run(
            "docker", "run", "--rm", "--mount", mount, busybox, "ls", "/m", check=False
        )
        assert "secret" not in done.stdout
        if done.returncode:
            assert "path" in done.stderr, done.stderr
    engine.docker("rm", "-f", "swapper")
    assert not [path for path in engine.mounts() if "/run/images/" in path]
    engine.docker("volume", "rm", "parts")


def test_parts_of_volumes_are_folders_and_files(engine: Engine, busybox: str) -> None:
    engine.docker("volume", "create", "parts")
    make = "mkdir -p /v/a/b; echo one > /v/a/b/file"
    engine.docker("run", "--rm", "-v", "parts:/v", busybox, "sh", "-c", make)
    folder = "type=volume,source=parts,target=/m,volume-subpath=a/b"
    file = "type=volume,source=parts,target=/f,volume-subpath=a/b/file"
    arguments = ["--mount", folder, "--mount", file, busybox]
    shown = engine.docker(
        "run", "--rm", *arguments, "sh", "-c", "cat /f /m/file; echo two > /m/new"
    )
    assert shown == "one\none"
    assert engine.docker("run", "--rm", "-v", "parts:/v", busybox, "cat", "/v/a/b/new") == "two"
    assert not [path for path in engine.mounts() if "/run/images/" in path]
    assert not list((engine.run_dir / "images").glob("*"))
    engine.docker("volume", "rm", "parts")


def test_file_names_that_are_no_utf8(engine: Engine, busybox: str, tmp_path: Path) -> None:
    make = "printf x > /$(printf 'a\\377')"
    engine.docker("run", "--name", "c1", busybox, "sh", "-c", make)
    assert "A /a" in engine.docker("diff", "c1")
    engine.docker("cp", "c1:/", str(tmp_path / "out"))
    assert b"a\xff" in os.listdir(os.fsencode(tmp_path / "out"))
    engine.docker("rm", "c1")


def test_an_exec_in_a_container_that_may_trace_shows_nothing_of_the_host(
    engine: Engine, busybox: str, tmp_path: Path
) -> None:
    """Pitfall 3: with CAP_SYS_PTRACE not being dumpable protects nothing, so there must be nothing to see."""
    source = Path(__file__).parents[1] / "data" / "spy.c"
    subprocess.run(["gcc", "-static", "-O2", "-o", tmp_path / "spy", source], check=True)
    engine.docker(
        *("run", "-d", "--name", "spied", "--cap-add", "SYS_PTRACE"),
        *("-v", f"{tmp_path / 'spy'}:/spy:ro", busybox, "/spy"),
    )
    for _ in range(25):
        engine.docker("exec", "spied", "true")
    # Detached: the spy ends when it sees the file, and takes the exec with it.
    engine.docker("exec", "-d", "spied", "touch", "/stop")
    assert engine.docker("wait", "spied") == "0"
    first, *found, last = engine.docker("logs", "spied").splitlines()
    assert (first, found) == ("looking", [])
    assert int(last.removeprefix("seen ")) > 0
    engine.docker("rm", "spied")


def test_a_poisoned_image_runs_nothing_of_its_own(
    engine: Engine, busybox: str, tmp_path: Path
) -> None:
    """Pitfall 1: whatever is done with it, well or badly, none of its Python, NSS or iconv files is run."""
    evil = "open('/poisoned', 'w').close()\nraise SystemExit(66)\n"
    modules = ("traceback", "linecache", "pwd", "grp", "socket", "errno", "json", "tokenize")
    for folder in (sysconfig.get_path("stdlib"), "/usr/lib/python3.11", "/wherry", "/wherry/image"):
        place = tmp_path / "root" / folder.lstrip("/")
        (place / "encodings").mkdir(parents=True, exist_ok=True)
        for name in (*modules, "encodings/idna", "encodings/latin_1", "encodings/__init__"):
            (place / f"{name}.py").write_text(evil)
    for library in ("libnss_files.so.2", "libnss_compat.so.2"):
        (tmp_path / "root" / "lib").mkdir(exist_ok=True)
        (tmp_path / "root" / "lib" / library).write_bytes(b"\x7fELF poisoned")
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/nsswitch.conf").write_text("passwd: files evil\ngroup: evil\n")
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nCOPY root /\n")
    engine.docker("build", "-q", "-t", "poisoned:python", str(tmp_path))

    def attempt(*words: str) -> int:
        done = engine.run("docker", *words, check=False)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode

    (tmp_path / "file").write_text("x")
    engine.docker("run", "-d", "--name", "poisoned", "poisoned:python", "sleep", "600")
    good = (
        ("exec", "poisoned", "true"),
        ("exec", "-u", "daemon", "poisoned", "id"),
        ("cp", f"{tmp_path / 'file'}", "poisoned:/new"),
        ("cp", "poisoned:/new", f"{tmp_path / 'back'}"),
        ("diff", "poisoned"),
        ("top", "poisoned"),
        ("commit", "poisoned", "poisoned:again"),
    )
    bad = (
        ("exec", "poisoned", "nope"),
        ("exec", "-u", "ghost", "poisoned", "true"),
        ("exec", "-w", "/new/below", "poisoned", "true"),
        ("cp", "poisoned:/absent", str(tmp_path)),
        ("cp", f"{tmp_path / 'file'}", "poisoned:/new/below/"),
        ("run", "--rm", "poisoned:python", "nope"),
        ("run", "--rm", "-u", "ghost", "poisoned:python", "true"),
        ("run", "--rm", "-v", "/new", "-w", "/etc/nsswitch.conf", "poisoned:python", "true"),
    )
    assert [words for words in good if attempt(*words) != 0] == []
    assert [words for words in bad if attempt(*words) == 0] == []
    for instruction, code in (
        ("RUN true\nCOPY --chown=daemon file /\nWORKDIR /a/b", 0),
        ("RUN nope", 1),
        ("COPY --chown=ghost file /", 1),
        ("WORKDIR /etc/nsswitch.conf", 1),
        ("USER ghost\nRUN true", 1),
    ):
        (tmp_path / "Dockerfile").write_text(f"FROM poisoned:again\n{instruction}\n")
        assert bool(attempt("build", "-q", "-t", "poisoned:built", str(tmp_path))) == bool(code)
    for image in ("poisoned:again", "poisoned:built"):
        assert attempt("run", "--rm", image, "test", "!", "-e", "/poisoned") == 0
    assert not Path("/poisoned").exists()
    engine.docker("rm", "-f", "poisoned")
    engine.docker("rmi", "-f", "poisoned:built", "poisoned:again", "poisoned:python")
