"""Slots that wait, as the engine keeps them: filled ahead for the classes in use, reserved by creates, taken by starts.

Theory of operation. A start that could have used a slot teaches its class (`wherry.shim.slots.slot_class`) and
under which hint the next create may expect it; `count` slots are kept ready for each of the last few classes. A
slot's control groups have the id of its container to come, so a create takes its id from a ready slot. The start
of that container finds the slot by the id; when it turns out to be of another class, or of none, the slot is ended
first, and the start is cold. A slot whose container is not started soon goes its way unused; one that nobody
wants for long is made anew.

Slots are filled one by one, and not beside starts: a filling that competes with starts makes them slower than no
slots at all. But where one start is known to follow another (a build's steps) the next slot is filled at once,
and a create may reserve the one that is being filled: it is further than a cold start would be.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wherry.engine.shimpeer import Peer
from wherry.engine.spawner import SpawnerLost
from wherry.engine.warm import warm_cgroups
from wherry.lib.ids import new_id
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_objects, get_str
from wherry.network.ipam import build_host_name
from wherry.runtime.cgroups import open_cgroup
from wherry.shim.protocol import Channel, Message, open_pair
from wherry.shim.record import read_state, remove_folder
from wherry.shim.teardown import bury_cgroup

logger = logging.getLogger(__name__)

_FILL_DELAY_S = 0.05
# A create is followed by its start: nothing is filled in between.
_CREATE_DELAY_S = 1.0
_RESERVED_S = 60.0
_READY_S = 600.0
_END_PATIENCE_S = 5.0
_MOST_CLASSES = 3


@dataclass(frozen=True, slots=True)
class SlotClass:
    """The same for all its slots: the control groups' parent, and what their inits are made from."""

    cgroup_parent: str
    document: JsonObject

    @property
    def key(self) -> str:
        """Equal for equal classes."""
        return f"{self.cgroup_parent} {json.dumps(self.document, sort_keys=True)}"


@dataclass(frozen=True, slots=True)
class Hint:
    """What a create knows of the class that its start will have."""

    cgroup_parent: str
    network: str


@dataclass(eq=False, slots=True)
class _Slot:
    container_id: str
    key: str
    cgroup_path: str
    peer: Peer
    filled: asyncio.Future[None]
    reserved_at: float | None = None  # by the loop's clock

    @property
    def is_reserved(self) -> bool:
        """Whether a container to come has its id."""
        return self.reserved_at is not None


class ForkShim(Protocol):
    """Forks a shim with its end of a connection, or raises SpawnerLost."""

    def __call__(self, control_fd: int, *, is_brief: bool) -> None: ...


class Slots:
    """Shims with waiting inits. `count` are kept ready for each class in use."""

    def __init__(self, count: int, run_dir: Path, fork: ForkShim) -> None:
        self.count = count
        self._folder = run_dir / "slots"
        self._fork = fork
        self._classes: dict[str, SlotClass] = {}
        self._hints: dict[Hint, str] = {}
        self._ready: dict[str, deque[_Slot]] = {}
        self._reserved: dict[str, _Slot] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._filling: _Slot | None = None
        self._starts = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._warming: asyncio.Task[None] | None = None  # kept from the garbage collector

    @property
    def ready(self) -> int:
        """How many creates could have a slot right now."""
        return sum(len(ready) for ready in self._ready.values())

    def sweep(self) -> None:
        """Removes the groups of slots that were killed together with their engine. Blocking."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            folder_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                state = read_state(folder_fd)
            finally:
                os.close(folder_fd)
            if state is not None:
                _bury(state.cgroup)
            remove_folder(str(path))

    def learn(self, hint: Hint, slot_class: SlotClass) -> None:
        """Such a container is being started: there will be slots for the next ones."""
        if not self.count:
            return
        key = slot_class.key
        self._hints[hint] = key
        if key in self._classes:
            return
        while len(self._classes) >= _MOST_CLASSES:
            oldest = next(iter(self._classes))
            del self._classes[oldest]
            self._hints = {known: name for known, name in self._hints.items() if name != oldest}
            for slot in self._ready.pop(oldest):
                self._drop(slot)
        self._classes[key] = slot_class
        self._ready[key] = deque()

    def reserve(self, hint: Hint) -> str | None:
        """The id for a new container, which has a slot then; None when none is ready.

        One too many takes the place of the oldest, unless the start of that is still to be expected.
        """
        loop = asyncio.get_running_loop()
        oldest = None
        if self._reserved and len(self._reserved) >= self.count:
            oldest = next(iter(self._reserved.values()))
            if loop.time() - (oldest.reserved_at or 0) < _CREATE_DELAY_S:
                return None
        slot = self._next(self._hints.get(hint, ""))
        if slot is None:
            return None
        if oldest is not None:
            self._drop(self._reserved.pop(oldest.container_id))
        slot.reserved_at = loop.time()
        self._reserved[slot.container_id] = slot
        loop.call_later(_RESERVED_S, self._expire, slot)
        self._fill_later(_CREATE_DELAY_S)
        return slot.container_id

    def _next(self, key: str) -> _Slot | None:
        ready = self._ready.get(key)
        if ready:
            return ready.popleft()
        slot = self._filling
        return slot if slot is not None and slot.key == key and not slot.is_reserved else None

    def is_reserved(self, container_id: str) -> bool:
        """Whether a slot waits for this container."""
        return container_id in self._reserved

    async def take(self, container_id: str, key: str, *, is_followed: bool) -> Peer | None:
        """The container's slot, if it is of this class. Nothing of another one is left when it returns.

        With its order to launch the slot's folder becomes the container's. If its start `is_followed` by another one
        at once, that one's slot is begun.
        """
        slot = self._reserved.pop(container_id, None)
        if slot is not None and slot.key != key:
            self._drop(slot)
        elif slot is not None:
            await slot.filled
        if container_id in self._ending:
            await self._ending[container_id]
            slot = None
        if is_followed and key:
            self._fill(key)
        if slot is None:
            return None
        slot.peer.unsubscribe()
        return slot.peer

    def forget(self, container_id: str) -> None:
        """A slot that was taken has ended before it got its order."""
        remove_folder(self._path(container_id))

    def begin_start(self) -> None:
        """A start is in progress: nothing is filled before it ends."""
        self._starts += 1
        self._cancel_timer()

    def end_start(self) -> None:
        """To each `begin_start`."""
        self._starts -= 1
        self._fill_later(_FILL_DELAY_S)

    async def close(self) -> None:
        """Ends the slots that wait; returns when they have left no trace."""
        self._closed = True
        self._cancel_timer()
        slots = [slot for ready in self._ready.values() for slot in ready]
        slots += self._reserved.values()
        if self._filling is not None and not self._filling.is_reserved:
            slots.append(self._filling)
        self._ready.clear()
        self._reserved.clear()
        for slot in slots:
            self._drop(slot)
        await asyncio.gather(*self._ending.values())

    def _path(self, container_id: str) -> str:
        return f"{self._folder}/{container_id}"

    def _drop(self, slot: _Slot) -> None:
        if slot is self._filling:
            self._filling = None
        if not slot.filled.done():
            slot.filled.set_result(None)
        if slot.container_id in self._ending:
            return  # its shim has ended meanwhile
        self._ending[slot.container_id] = asyncio.get_running_loop().create_task(self._end(slot))

    async def _end(self, slot: _Slot) -> None:
        """Its shim ends it; what a shim that was killed has left is ended here."""
        try:
            await slot.peer.end(_END_PATIENCE_S)
            await asyncio.to_thread(_bury, slot.cgroup_path)
            remove_folder(self._path(slot.container_id))
        finally:
            del self._ending[slot.container_id]

    def _expire(self, slot: _Slot) -> None:
        if self._reserved.get(slot.container_id) is slot:
            self._drop(self._reserved.pop(slot.container_id))

    def _renew(self, slot: _Slot) -> None:
        """A container's first process should not be much older than the container."""
        ready = self._ready.get(slot.key, ())
        if slot in ready:
            self._ready[slot.key].remove(slot)
            self._drop(slot)
            self._fill_later(_FILL_DELAY_S)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fill_later(self, delay_s: float) -> None:
        self._cancel_timer()
        if not self._starts:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._fill)

    def _fill(self, wanted_now: str = "") -> None:
        """Begins a slot if one is missing, of that class alone if it is wanted now."""
        self._cancel_timer()
        wanted = [key for key, ready in self._ready.items() if len(ready) < self.count]
        if wanted_now:
            wanted = [key for key in wanted if key == wanted_now]
        if not wanted or self._filling is not None or self._closed:
            return
        key = wanted[-1]
        slot_class = self._classes[key]
        ours, theirs = open_pair()
        container_id = new_id()
        folder = self._path(container_id)
        path = f"{slot_class.cgroup_parent}/{container_id}"
        filled = asyncio.get_running_loop().create_future()
        slot = self._filling = _Slot(container_id, key, path, Peer(Channel(ours)), filled)
        try:
            os.mkdir(folder, 0o700)
            self._fork(theirs.detach(), is_brief=bool(wanted_now))
        except (OSError, SpawnerLost) as error:
            logger.warning("make a slot: %s", error)
            self._filling = None
            slot.peer.close()
            theirs.close()
            remove_folder(folder)
            return
        slot.peer.subscribe(lambda message: self._enter(slot, message), lambda: self._lose(slot))
        order = _name_interfaces(slot_class.document)
        message = {"op": "stage", "folder": folder, "cgroup": path, "rehearse": not wanted_now}
        slot.peer.send({**message, **order})
        self._warming = asyncio.get_running_loop().create_task(warm_cgroups())

    def _enter(self, slot: _Slot, message: Message) -> None:
        message.close()
        event = get_str(message.body, "event")
        if event not in {"ready", "refused"} or slot is not self._filling:
            return
        self._filling = None
        if event == "refused":
            # Its end follows, and removes what it may have made.
            logger.warning("make a slot: %s", get_str(message.body, "why"))
            return
        if slot.is_reserved:
            slot.filled.set_result(None)
        elif slot.key in self._ready and not self._closed:
            slot.filled.set_result(None)
            self._ready[slot.key].append(slot)
            asyncio.get_running_loop().call_later(_READY_S, self._renew, slot)
        else:
            self._drop(slot)
        self._fill_later(_FILL_DELAY_S)

    def _lose(self, slot: _Slot) -> None:
        """It was killed, or could not be made: then the next start tries again, not the timer."""
        self._reserved.pop(slot.container_id, None)
        if slot is self._filling:
            logger.warning("make a slot: its shim ended")
        self._drop(slot)
        ready = self._ready.get(slot.key)
        if ready is not None and slot in ready:
            ready.remove(slot)
            self._fill_later(_FILL_DELAY_S)


def _name_interfaces(document: JsonObject) -> dict[str, JsonValue]:
    interfaces = get_objects(document, "interfaces")
    named = [{**interface, "host_name": build_host_name()} for interface in interfaces]
    return {**document, "interfaces": named}


def _bury(cgroup_path: str) -> None:
    try:
        bury_cgroup(open_cgroup(cgroup_path))
    except OSError as error:
        logger.warning("free the cgroups %s of a slot: %s", cgroup_path, error)
