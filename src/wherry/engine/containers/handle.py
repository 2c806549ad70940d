"""Live containers: a handle per record with its lock, and the roster that finds them by name, id or prefix.

A record is immutable; a change is `roster.replace(handle, record)`, which stores it in one transaction
before it can be seen. Whoever changes a record's state holds `handle.lock`.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.engine.store import Store, Table
from wherry.lib.ids import is_id_prefix
from wherry.model.container import Container, ContainerId, ExecId
from wherry.model.errors import Internal, InvalidArgument, NameInUse, NoSuchContainer

if TYPE_CHECKING:
    from wherry.engine.containers.attach import WaitingClient
    from wherry.engine.containers.wait import Waiter
    from wherry.engine.shims import ShimHandle


logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Backoff:
    """The restart policy's memory: how often it failed in a row, how long it waits next."""

    failures: int = 0
    delay_s: float = 0.0
    cancelled: bool = False


class ContainerHandle:
    """A container's record and what lives beside it. Fields are used by the modules of this folder only."""

    __slots__ = (
        "backoff",
        "clients",
        "exec_ids",
        "health_task",
        "lock",
        "record",
        "removing",
        "restart_task",
        "shim",
        "teardown",
        "waiters",
    )

    def __init__(self, record: Container) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.shim: ShimHandle | None = None
        self.teardown: asyncio.Future[None] | None = None  # of the last run, while it is pending
        self.clients: list[WaitingClient] = []  # attached before the start
        self.waiters: list[Waiter] = []
        self.exec_ids: dict[ExecId, None] = {}  # of this run, in order
        self.backoff = Backoff()
        self.restart_task: asyncio.Task[None] | None = None
        self.health_task: asyncio.Task[None] | None = None
        self.removing = False

    @property
    def id(self) -> ContainerId:
        """The container's id."""
        return self.record.id


class Roster:
    """All containers of the engine, in memory and in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = Table(store, "containers", Container)
        self._handles: dict[str, ContainerHandle] = {}
        self._names: dict[str, str] = {}
        for key, record in self._table.items():
            self._handles[key] = ContainerHandle(record)
            self._names[record.name] = key

    def __iter__(self) -> Iterator[ContainerHandle]:
        return iter(tuple(self._handles.values()))

    def __len__(self) -> int:
        return len(self._handles)

    def runs_with(self, volume: str, *, but: str = "") -> bool:
        """Whether a container that runs or starts has the volume, other than `but`."""
        return any(
            point.type == "volume" and point.name == volume
            for handle in self
            if handle.id != but and (handle.shim is not None or handle.record.state.starting)
            for point in handle.record.mount_points
        )

    def get(self, ref: str) -> ContainerHandle:
        """By id, name (a leading slash is Docker's) or unique id prefix. Raises NoSuchContainer."""
        found = self.find(ref)
        if found is None:
            raise NoSuchContainer(ref)
        return found

    def find(self, ref: str) -> ContainerHandle | None:
        """As `get`, or None. Raises InvalidArgument for a prefix that fits several."""
        handle = self._handles.get(ref)
        if handle is not None:
            return handle
        key = self._names.get(ref.removeprefix("/"))
        if key is not None:
            return self._handles.get(key)
        if not is_id_prefix(ref):
            return None
        matches = [key for key in self._handles if key.startswith(ref)]
        if len(matches) > 1:
            raise InvalidArgument(f"multiple IDs found with provided prefix: {ref}")
        return self._handles[matches[0]] if matches else None

    def is_taken(self, name: str) -> bool:
        """Whether a container, or one that is being made, has the name."""
        return name in self._names

    def reserve(self, name: str, container_id: ContainerId) -> None:
        """Holds a name for a container that is not stored yet. Raises NameInUse."""
        holder = self._names.get(name)
        if holder is not None:
            raise NameInUse(name, holder)
        self._names[name] = container_id

    def give_back(self, name: str, container_id: ContainerId) -> None:
        """Frees a name that the container holds; idempotent."""
        if self._names.get(name) == container_id:
            del self._names[name]

    def add(self, record: Container) -> ContainerHandle:
        """Stores a container whose name is reserved."""
        self._table.put(record.id, record)
        handle = ContainerHandle(record)
        self._handles[record.id] = handle
        return handle

    def replace(self, handle: ContainerHandle, record: Container) -> None:
        """Stores the record and shows it."""
        self._table.put(record.id, record)
        handle.record = record

    def replace_anyway(self, handle: ContainerHandle, record: Container) -> None:
        """As `replace`; a record that cannot be stored is shown all the same, for what has happened has."""
        try:
            self._table.put(record.id, record)
        except (sqlite3.Error, Internal) as exc:
            logger.error(
                "container %s is now %s, which cannot be stored: %s",
                record.id,
                record.state.status,
                exc,
            )
        handle.record = record

    def rename(self, handle: ContainerHandle, record: Container) -> None:
        """As `replace`, with the name's reservation. Raises NameInUse."""
        old = handle.record.name
        self.reserve(record.name, record.id)
        try:
            self.replace(handle, record)
        except BaseException:
            self.give_back(record.name, record.id)
            raise
        self.give_back(old, record.id)

    def forget(self, handle: ContainerHandle, also: Callable[[], None] | None = None) -> None:
        """Deletes the record and frees its name; `also` writes in the same transaction."""
        with self._store.transaction():
            self._table.delete(handle.id)
            if also is not None:
                also()
        self._handles.pop(handle.id, None)
        self.give_back(handle.record.name, handle.id)
