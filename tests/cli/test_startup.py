"""What makes a command slow to start stays out of the hot verbs' way, and the launcher finds its package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HEAVY = {
    "argparse", "asyncio", "collections", "contextlib", "dataclasses", "enum", "functools", "json",
    "logging", "msgspec", "pathlib", "re", "rich", "shutil", "signal", "socket", "subprocess",
    "tempfile", "threading", "traceback", "typing",
}  # fmt: skip
SCRIPT = """
import sys
sys.path.append(sys.argv[1])
from wherry.cli.main import run
run(sys.argv[2:])
sys.stdout.write(" ".join(sys.modules))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--rm", "-it", "-e", "A=1", "x", "true"],
        ["run", "-d", "-p", "80:80", "-v", "/a:/b", "-m", "64m", "--restart", "always", "x"],
        ["exec", "c", "true"],
        ["ps", "-a"],
        ["start", "-a", "c"],
        ["stop", "c"],
        ["logs", "c"],
        ["rm", "-f", "c"],
        ["inspect", "-f", "{{.Id}}", "c"],
    ],
    ids=lambda words: words[0],
)
def test_hot_verbs_import_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            SCRIPT,
            str(REPOSITORY / "src"),
            "-H",
            "unix:///nope/s",
            *words,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert set(done.stdout.split()) & HEAVY == set()


@pytest.mark.parametrize(
    ("library", "editable"),
    [("site-packages", False), ("dist-packages", False), ("site-packages", True)],
    ids=["plain", "debian", "editable"],
)
def test_the_launcher_finds_the_package_beside_itself(
    tmp_path: Path, library: str, *, editable: bool
) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = tmp_path / "lib" / version / library
    packages.mkdir(parents=True)
    if editable:
        (packages / "_editable_impl_wherry.pth").write_text(str(REPOSITORY / "src"))
    else:
        (packages / "wherry").symlink_to(REPOSITORY / "src" / "wherry")
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy(REPOSITORY / "scripts" / "wherry", programs)
    (programs / "python3").symlink_to(sys.executable)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(programs / "wherry")
    for program in (programs / "wherry", elsewhere):
        shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        assert shown.stdout.startswith("wherry version ")
