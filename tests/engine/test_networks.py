"""Networks of several engines on one machine."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.harness.traces import Claim

from wherry.engine.networks import Networks
from wherry.engine.store import Store
from wherry.kernel.netlink.rtnl import Rtnl
from wherry.network import turn
from wherry.network.ipam import build_mac, find_free_subnet
from wherry.network.turn import subnet_turn


@pytest.fixture
def tag(tmp_path: Path) -> Iterator[str]:
    name = f"we{secrets.token_hex(3)}"
    claim = Claim(tmp_path, name)
    yield name
    claim.remove()


@pytest.fixture
def networks(tmp_path: Path, tag: str) -> Iterator[Networks]:
    store = Store(tmp_path / "state.db")
    yield Networks(store, no_event, bridge=tag)
    store.close()


def no_event(kind: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
    """Nobody listens."""


def default_subnet(networks: Networks) -> str:
    return networks.get("bridge").ipam.config[0].subnet


def test_an_engine_waits_while_another_takes_a_subnet(networks: Networks, tag: str) -> None:
    async def story(other: str) -> str:
        async with subnet_turn():
            subnet = find_subnet()
            starting = asyncio.create_task(networks.start())
            await asyncio.sleep(0)
            take_subnet(subnet, other)
        await starting
        return str(subnet)

    other = f"{tag}n"
    try:
        assert asyncio.run(story(other)) != default_subnet(networks)
    finally:
        remove_bridge(other)


def test_a_turn_that_never_ends_holds_nobody_up(
    networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with subnet_turn():
            await networks.start()

    monkeypatch.setattr(turn, "DEADLINE_S", 0.02)
    asyncio.run(story())
    assert default_subnet(networks)


def find_subnet() -> ipaddress.IPv4Network:
    with Rtnl() as rtnl:
        return ipaddress.IPv4Network(find_free_subnet(target for target, _ in rtnl.routes()))


def take_subnet(subnet: ipaddress.IPv4Network, bridge: str) -> None:
    with Rtnl() as rtnl:
        rtnl.add_bridge(bridge, mac=build_mac())
        rtnl.flush()
        link = rtnl.find_link(bridge)
        assert link is not None
        rtnl.add_address(link.index, f"{subnet[1]}/{subnet.prefixlen}", replace=True)
        rtnl.set_up(link.index)
        rtnl.flush()


def remove_bridge(name: str) -> None:
    with Rtnl() as rtnl:
        link = rtnl.find_link(name)
        if link is not None:
            rtnl.delete_link(link.index)
            rtnl.flush()
