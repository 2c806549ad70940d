"""Durable records in ROOT/state.db: one table per kind of record, a row per key, the record as JSON.

SQLite in WAL mode with `synchronous=NORMAL`: a power cut may lose the last transactions, never the
database. `wal_autocheckpoint` is 0 on this connection, since a checkpoint inside COMMIT costs up to
10 ms on the event loop; `checkpoint()` runs in a worker thread on a connection of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

Record = TypeVar("Record")


class Store:
    """The database. Used from the event loop's thread only, except for `checkpoint`."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the database. Raises sqlite3.DatabaseError when the file is not one."""
        self.path = path
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._depth = 0
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "wal_autocheckpoint=0",
            "busy_timeout=5000",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        # A connection that is closed while another holds a lock leaves its descriptor behind until the
        # process ends (POSIX locks belong to processes), so this one stays open too.
        self._checkpointer = sqlite3.connect(path, check_same_thread=False)
        self.checkpoint()

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """Runs one statement in the current transaction, or on its own."""
        return self._connection.execute(statement, parameters)

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
        self._connection.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        else:
            self._connection.execute("COMMIT")
        finally:
            self._depth = 0

    def checkpoint(self) -> None:
        """Moves the WAL into the database. Blocking: call it off the loop."""
        self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Closes the database. No `checkpoint` may be under way."""
        self._checkpointer.close()
        self._connection.close()


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
