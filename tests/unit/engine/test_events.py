"""The event bus: filters, history, slow subscribers."""

import asyncio
import time

import pytest

from wherry.engine.events import Events, match_event
from wherry.model.event import Event


def container(action: str, **attributes: str) -> Event:
    return Event(
        type="container",
        action=action,
        actor_id="ab12",
        attributes={"image": "busybox:1.35", "name": "box", **attributes},
        time_ns=1,
    )


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["image", "network"]}, False),
        ({"event": ["exec_create"]}, True),
        ({"event": ["exec_create: sh "]}, True),
        ({"event": ["start"]}, False),
        ({"container": ["box"]}, True),
        ({"container": ["ab"]}, True),
        ({"container": ["other"]}, False),
        ({"image": ["busybox"]}, True),
        ({"image": ["busybox:1.35"]}, True),
        ({"image": ["busy"]}, False),
        ({"label": ["a=b"]}, True),
        ({"label": ["a"]}, True),
        ({"label": ["a=c"]}, False),
        ({"type": ["container"], "container": ["other"]}, False),
        ({"no-such-filter": ["x"]}, True),
    ],
)
def test_filters(filters: dict[str, list[str]], matches: bool) -> None:
    assert match_event(container("exec_create: sh ", a="b"), filters) is matches


def test_a_network_event_is_found_by_its_network_alone() -> None:
    event = Event(
        type="network",
        action="connect",
        actor_id="ff",
        attributes={"container": "ab12", "name": "bridge"},
        time_ns=1,
    )
    assert not match_event(event, {"container": ["ab12"]})
    assert match_event(event, {"network": ["bridge"]})


def test_history_then_live_then_the_end() -> None:
    async def story() -> list[str]:
        events = Events()
        events.publish("container", "create", "a", {})
        subscription = events.subscribe({}, since_ns=1)
        events.publish("container", "start", "a", {})
        events.close()
        return [event.action async for event in subscription]

    assert asyncio.run(story()) == ["create", "start"]


def test_until_in_the_past_gives_history_only() -> None:
    async def story() -> tuple[list[str], int]:
        events = Events()
        events.publish("container", "create", "a", {})
        until = time.time_ns()
        events.publish("container", "late", "a", {})
        subscription = events.subscribe({}, until_ns=until)
        return [event.action async for event in subscription], events.listeners

    assert asyncio.run(story()) == (["create"], 0)


def test_until_ends_a_live_subscription() -> None:
    async def story() -> list[str]:
        events = Events()
        subscription = events.subscribe({}, until_ns=time.time_ns() + 20_000_000)
        return [event.action async for event in subscription]

    assert asyncio.run(story()) == []


def test_a_subscriber_that_does_not_read_is_cut_off() -> None:
    async def story() -> int:
        events = Events()
        events.subscribe({})
        for number in range(9000):
            events.publish("container", str(number), "a", {})
        return events.listeners

    assert asyncio.run(story()) == 0
