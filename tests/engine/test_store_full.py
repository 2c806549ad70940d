"""The database on a disk without room: what happened can still be noted, and things can be removed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.engine.store import Store, Table
from wherry.model.errors import Internal


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filler").open("ab", 0) as file:
        while file.write(bytes(4096)):
            pass


def put_all(store: Store, table: Table[str]) -> None:
    with store.transaction():
        for number in range(20):
            table.put(str(number), "x" * 1000)


def test_the_reserve_is_spent_once_and_filled_again(disk: Path) -> None:
    store = Store(disk / "state.db")
    table = Table(store, "things", str)
    reserve = disk / "state.db-reserve"
    assert reserve.stat().st_blocks > 0
    fill(disk)
    put_all(store, table)
    table.delete("0")
    assert not reserve.exists()
    assert len(list(table.items())) == 19
    (disk / "filler").unlink()
    store.checkpoint()
    assert reserve.exists()
    store.close()


def test_without_a_reserve_nothing_is_half_written(disk: Path) -> None:
    store = Store(disk / "state.db")
    table = Table(store, "things", str)
    fill(disk)
    (disk / "state.db-reserve").unlink()
    fill(disk)
    with pytest.raises(Internal, match="database or disk is full"):
        put_all(store, table)
    assert list(table.items()) == []
    store.close()
    (disk / "filler").unlink()
    again = Store(disk / "state.db")
    assert list(Table(again, "things", str).items()) == []
    again.close()


def test_it_opens_on_a_full_disk(disk: Path) -> None:
    store = Store(disk / "state.db")
    Table(store, "things", str).put("0", "x")
    store.close()
    fill(disk)
    again = Store(disk / "state.db")
    assert list(Table(again, "things", str).items()) == [("0", "x")]
    assert not (disk / "state.db-opening").exists()
    again.close()
