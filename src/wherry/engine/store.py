"""Durable records in ROOT/state.db: one table per kind of record, a row per key, the record as JSON.

SQLite in WAL mode with `synchronous=NORMAL`: a power cut may lose the last transactions, never the
database. `wal_autocheckpoint` is 0 on this connection, since a checkpoint inside COMMIT costs up to
10 ms on the event loop; `checkpoint()` runs in a worker thread on a connection of its own.

A full disk must not keep the engine from noting how containers end, nor a user from removing what fills
it: beside the database lies a file that only takes room, and gives it up when a write finds none. Opening needs
room too, for the index of the log that SQLite makes anew: another such file is for that alone.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from wherry.model.errors import Internal

Record = TypeVar("Record")

logger = logging.getLogger(__name__)

_RESERVE_BYTES = 1 << 20
_OPENING_BYTES = 128 << 10


class Store:
    """The database. Used from the event loop's thread only, except for `checkpoint`."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the database. Raises sqlite3.DatabaseError when the file is not one."""
        self.path = path
        self._reserve = path.with_name(f"{path.name}-reserve")
        self._opening_reserve = path.with_name(f"{path.name}-opening")
        self._depth = 0
        self._written: list[tuple[str, tuple[object, ...]]] = []  # of the transaction under way
        try:
            self._connection = self._open()
        except sqlite3.OperationalError:
            # Which of its errors says so depends on where SQLite met the full disk.
            if not _spend(self._opening_reserve):
                raise
            logger.warning("open %s: what was kept for this on a full disk is spent", path)
            self._connection = self._open()
        # A connection that is closed while another holds a lock leaves its descriptor behind until the
        # process ends (POSIX locks belong to processes), so this one stays open too.
        self._checkpointer = sqlite3.connect(path, check_same_thread=False)
        self.checkpoint()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            for pragma in (
                "journal_mode=WAL",
                "synchronous=NORMAL",
                "wal_autocheckpoint=0",
                "busy_timeout=5000",
            ):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """Runs one statement in the current transaction, or on its own. Raises Internal on a full disk."""
        try:
            return self._connection.execute(statement, parameters)
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            if not self._spend_reserve():
                raise Internal(f"write {self.path.name}: {exc}") from exc
            if self._depth and not self._connection.in_transaction:
                # SQLite has rolled all of the transaction back.
                self._connection.execute("BEGIN IMMEDIATE")
                for earlier in self._written:
                    self._connection.execute(*earlier)
            return self._connection.execute(statement, parameters)
        finally:
            if self._depth:
                self._written.append((statement, parameters))

    def _spend_reserve(self) -> bool:
        if not _spend(self._reserve):
            return False
        logger.warning("no space left for %s: its reserve is spent", self.path)
        return True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside become durable together or not at all; nests."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        self.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0
            self._written.clear()

    def checkpoint(self) -> None:
        """Moves the WAL into the database. Blocking: call it off the loop."""
        try:
            self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.OperationalError as exc:
            logger.warning("checkpoint %s: %s", self.path, exc)
            return
        _keep(self._opening_reserve, _OPENING_BYTES)
        _keep(self._reserve, _RESERVE_BYTES)

    def close(self) -> None:
        """Closes the database. No `checkpoint` may be under way."""
        self._checkpointer.close()
        self._connection.close()


def _spend(reserve: Path) -> bool:
    """Whether there was something to spend."""
    try:
        reserve.unlink()
    except OSError:
        return False
    return True


def _keep(reserve: Path, size_bytes: int) -> None:
    """Sets the room aside, if there is any."""
    if reserve.exists():
        return
    try:
        fd = os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        finally:
            os.close(fd)
    except OSError:
        reserve.unlink(missing_ok=True)


class Table(Generic[Record]):
    """Records of one type by key. Reads decode anew each time: callers keep what they use often."""

    def __init__(self, store: Store, name: str, record_type: type[Record]) -> None:
        """Creates the table when it is not there. `name` is a constant of the code, never input."""
        self._store = store
        self._name = name
        self._decoder = msgspec.json.Decoder(record_type)
        store.execute(
            f"CREATE TABLE IF NOT EXISTS {name} (key TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID"
        )

    def get(self, key: str) -> Record | None:
        """The record, or None."""
        row = self._store.execute(
            f"SELECT record FROM {self._name} WHERE key = ?",  # noqa: S608 - a constant name
            (key,),
        ).fetchone()
        return None if row is None else self._decoder.decode(row[0])

    def put(self, key: str, record: Record) -> None:
        """Inserts or replaces."""
        self._store.execute(
            f"INSERT OR REPLACE INTO {self._name} (key, record) VALUES (?, ?)",  # noqa: S608 - a constant name
            (key, msgspec.json.encode(record)),
        )

    def delete(self, key: str) -> None:
        """Removes the record when it is there."""
        self._store.execute(
            f"DELETE FROM {self._name} WHERE key = ?",  # noqa: S608 - a constant name
            (key,),
        )

    def items(self) -> Iterator[tuple[str, Record]]:
        """All records, in the order of their keys."""
        rows = self._store.execute(
            f"SELECT key, record FROM {self._name} ORDER BY key"  # noqa: S608 - a constant name
        ).fetchall()
        for key, record in rows:
            yield key, self._decoder.decode(record)
