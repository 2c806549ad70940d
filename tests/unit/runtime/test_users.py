"""Docker's user strings against passwd and group files, hostile ones among them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.runtime.errors import StepError
from wherry.runtime.users import (
    MAX_FILE_BYTES,
    home_of,
    parse_group,
    parse_passwd,
    read_file,
    resolve_user,
)

PASSWD = """root:x:0:0:root:/root:/bin/bash
# a comment:x:9:9::/:
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
broken line
www:x:33:33:www:/var/www:/bin/false
1000:x:77:77:a name of digits:/seven:/bin/sh
minus:x:-5:0::/:
app:x:1000:1001::/home/app:
"""
GROUP = """root:x:0:
www:x:33:app
audio:x:29:app,www
empty:x:40:
:::
"""


def resolve(text: str, *groups: str) -> tuple[int, int, tuple[int, ...], str]:
    who = resolve_user(text, groups, parse_passwd(PASSWD), parse_group(GROUP))
    return who.uid, who.gid, who.groups, who.home


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", (0, 0, (0,), "/root")),
        ("root", (0, 0, (0,), "/root")),
        ("app", (1000, 1001, (1001, 33, 29), "/home/app")),
        ("1000", (1000, 1001, (1001, 33, 29), "/home/app")),
        ("app:audio", (1000, 29, (29,), "/home/app")),
        ("app:12345", (1000, 12345, (12345,), "/home/app")),
        ("4711", (4711, 0, (0,), "/")),
        ("4711:4712", (4711, 4712, (4712,), "/")),
        ("www:", (33, 33, (33, 29), "/var/www")),
        (":audio", (0, 29, (29,), "/root")),
    ],
)
def test_user_strings(text: str, answer: tuple[int, int, tuple[int, ...], str]) -> None:
    assert resolve(text) == answer


def test_additional_groups() -> None:
    assert resolve("4711", "audio", "500")[2] == (0, 29, 500)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nope", "unable to find user nope: no matching entries in passwd file"),
        ("0:nope", "unable to find group nope: no matching entries in group file"),
        ("99999999999", "uids and gids must be in range 0-2147483647"),
        ("0:99999999999", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_sentences(text: str, sentence: str) -> None:
    with pytest.raises(StepError, match=f"^{sentence}$"):
        resolve(text)


def test_home_is_found_by_uid() -> None:
    assert home_of(1000, parse_passwd(PASSWD)) == "/home/app"
    assert home_of(5, parse_passwd(PASSWD)) == "/"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


def test_a_fifo_is_not_read(root: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "etc/passwd")
    assert read_file(root, b"/etc/passwd") == ""


def test_an_endless_file_is_read_so_far(root: int, tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").touch()
    os.truncate(tmp_path / "etc/passwd", 1 << 40)
    assert len(read_file(root, b"/etc/passwd")) == MAX_FILE_BYTES


def test_links_stay_inside_the_root(root: int, tmp_path: Path) -> None:
    (tmp_path / "etc/real").write_text("inside")
    (tmp_path / "etc/passwd").symlink_to("/etc/real")
    assert read_file(root, b"/etc/passwd") == "inside"
    (tmp_path / "etc/group").symlink_to("../../../../../../etc/hostname")
    assert read_file(root, b"/etc/group") == ""


def test_binary_rubbish_is_no_entry() -> None:
    assert parse_passwd("\udcff\udcfe:\0:1\n" * 3 + "a:b:c:d:e:f:g") == []
    assert parse_group("\n" * 1000 + "a:b:99999999999999999999999:") == []
