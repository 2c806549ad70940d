"""Entries of binfmt_misc as kernels show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.engine.containers.emulation import platform_warnings
from wherry.kernel.binfmt import build_header, find_emulator, parse_handler
from wherry.model.platforms import parse_platform

AARCH64 = """enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
PYTHON = "enabled\ninterpreter /usr/bin/python3\nflags: \nextension .pyc\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "register").write_text("")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "qemu-aarch64").write_text(AARCH64)
    return tmp_path


def test_the_emulator_of_an_architecture(folder: Path) -> None:
    assert find_emulator("arm64", str(folder)) == "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"
    assert find_emulator("riscv64", str(folder)) is None
    assert find_emulator("pdp11", str(folder)) is None


def test_what_is_disabled_does_not_count(folder: Path) -> None:
    (folder / "qemu-aarch64").write_text(AARCH64.replace("enabled", "disabled"))
    assert find_emulator("arm64", str(folder)) is None
    (folder / "qemu-aarch64").write_text(AARCH64)
    (folder / "status").write_text("disabled\n")
    assert find_emulator("arm64", str(folder)) is None


def test_not_mounted(tmp_path: Path) -> None:
    assert find_emulator("arm64", str(tmp_path / "none")) is None


@pytest.mark.parametrize("text", ["", "enabled\n", PYTHON, "enabled\nmagic zz\n"])
def test_entries_that_do_not_look_at_bytes(text: str) -> None:
    assert parse_handler(text) is None


def test_headers() -> None:
    assert build_header("arm64").hex() == "7f454c460201010000000000000000000200b700"
    assert build_header("s390x")[18:20] == b"\0\x16"


MISMATCH = (
    "The requested image's platform (linux/arm64) does not match the detected host platform"
    " (linux/amd64/v3) and no specific platform was requested"
)


def test_warnings_of_a_foreign_image() -> None:
    host, arm = parse_platform("linux/amd64/v3"), parse_platform("linux/arm64")
    assert platform_warnings(arm, None, host, lambda _: "/qemu") == [MISMATCH]
    first, second = platform_warnings(arm, None, host, lambda _: None)
    assert first == MISMATCH
    assert second.startswith("no emulator for linux/arm64 is registered with binfmt_misc: ")
    assert "install the package" in second
    assert platform_warnings(arm, arm, host, lambda _: "/qemu") == []
    assert len(platform_warnings(arm, arm, host, lambda _: None)) == 1


@pytest.mark.parametrize("native", ["linux/amd64", "linux/amd64/v2", "linux/386"])
def test_native_images_need_no_words(native: str) -> None:
    host = parse_platform("linux/amd64/v3")
    assert platform_warnings(parse_platform(native), None, host, lambda _: None) == []
