"""Events: what happened, as `docker events` shows it; a short history and live subscriptions.

Publishing never blocks nor fails: a subscriber that does not keep up is cut off, and asks again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from wherry.engine.filters import Filters, match_labels
from wherry.model.event import Event

HISTORY_SIZE = 256  # as Docker keeps
_BACKLOG_LIMIT = 8192


class Events:
    """The bus of one engine."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY_SIZE)
        self._subscriptions: set[Subscription] = set()

    @property
    def listeners(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscriptions)

    def publish(self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        """Records an event and passes it to all subscriptions that match."""
        event = Event(
            type=kind,
            action=action,
            actor_id=actor_id,
            attributes=attributes,
            time_ns=time.time_ns(),
        )
        self._history.append(event)
        for subscription in tuple(self._subscriptions):
            subscription.offer(event)

    def subscribe(self, filters: Filters, *, since_ns: int = 0, until_ns: int = 0) -> Subscription:
        """Opens a subscription at once. `since_ns` replays history; it ends at `until_ns` if given."""
        subscription = Subscription(filters, until_ns, self._subscriptions.discard)
        if since_ns or until_ns:
            for event in self._history:
                if event.time_ns >= since_ns and (not until_ns or event.time_ns <= until_ns):
                    subscription.offer(event)
        if until_ns and until_ns <= time.time_ns():
            subscription.finish()
        else:
            self._subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        """Ends all subscriptions."""
        for subscription in tuple(self._subscriptions):
            subscription.finish()


class Subscription:
    """An asynchronous iterator of events; `close()` it when the client goes."""

    def __init__(
        self, filters: Filters, until_ns: int, forget: Callable[[Subscription], None]
    ) -> None:
        self._filters = filters
        self._until_ns = until_ns
        self._forget = forget
        self._backlog: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._finished = False

    def offer(self, event: Event) -> None:
        """Takes an event in when it matches."""
        if self._finished or not match_event(event, self._filters):
            return
        if len(self._backlog) >= _BACKLOG_LIMIT:
            self.finish()
            return
        self._backlog.append(event)
        self._arrived.set()

    def finish(self) -> None:
        """Nothing more comes; what is in the backlog is still delivered."""
        self._finished = True
        self._arrived.set()
        self._forget(self)

    def close(self) -> None:
        """Gives the subscription up; idempotent."""
        self._backlog.clear()
        self.finish()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._backlog:
            if self._finished:
                raise StopAsyncIteration
            self._arrived.clear()
            try:
                async with asyncio.timeout(self._remaining_s()):
                    await self._arrived.wait()
            except TimeoutError:
                self.finish()
        return self._backlog.popleft()

    def _remaining_s(self) -> float | None:
        if not self._until_ns:
            return None
        return max(0.0, (self._until_ns - time.time_ns()) / 1e9)


def match_event(event: Event, filters: Filters) -> bool:
    """Docker's rules (moby daemon/events/filter.go): names add up, values of a name are alternatives."""
    for name, values in filters.items():
        if not values:
            continue
        matcher = _MATCHERS.get(name)
        if matcher is None:
            continue  # Docker ignores names that it does not know here
        if not matcher(event, values):
            return False
    return True


def _match_action(event: Event, values: Sequence[str]) -> bool:
    # "exec_create: sh -c …" and "health_status: healthy" are also meant by the part before the colon.
    return event.action in values or event.action.partition(":")[0] in values


def _match_object(kind: str) -> Callable[[Event, Sequence[str]], bool]:
    def matches(event: Event, values: Sequence[str]) -> bool:
        names = (event.actor_id, event.attributes.get("name", ""))
        return event.type == kind and any(n.startswith(value) for n in names for value in values)

    return matches


def _match_image(event: Event, values: Sequence[str]) -> bool:
    name = event.attributes.get("name" if event.type == "image" else "image", "")
    identity = event.actor_id if event.type == "image" else name
    known = {identity, name, _strip_tag(identity), _strip_tag(name)}
    return any(value in known for value in values)


def _strip_tag(reference: str) -> str:
    head, separator, tail = reference.rpartition(":")
    return head if separator and "/" not in tail else reference


_MATCHERS: Mapping[str, Callable[[Event, Sequence[str]], bool]] = {
    "event": _match_action,
    "type": lambda event, values: event.type in values,
    "scope": lambda _, values: "local" in values,
    "container": _match_object("container"),
    "volume": _match_object("volume"),
    "network": _match_object("network"),
    "daemon": _match_object("daemon"),
    "plugin": _match_object("plugin"),
    "image": _match_image,
    "label": lambda event, values: match_labels(values, event.attributes),
}
