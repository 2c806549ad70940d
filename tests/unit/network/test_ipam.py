"""Addresses: turn, exhaustion, wanted ones, and the choice of a free pool."""

import pytest

from wherry.model.errors import Conflict, InvalidArgument
from wherry.network.ipam import AddressPool, build_mac, find_free_subnet


def test_addresses_are_handed_out_in_turn_and_the_gateway_never() -> None:
    pool = AddressPool("10.0.0.0/29")
    taken = [pool.take() for _ in range(5)]
    assert taken == [f"10.0.0.{last}/29" for last in range(2, 7)]
    with pytest.raises(Conflict, match="no available IPv4 addresses"):
        pool.take()


def test_a_freed_address_is_not_the_next_one() -> None:
    pool = AddressPool("10.0.0.0/24")
    first = pool.take()
    pool.give_back(first)
    assert pool.take() != first


def test_a_wanted_address_is_given_once() -> None:
    pool = AddressPool("10.0.0.0/24")
    assert pool.take("10.0.0.77") == "10.0.0.77/24"
    with pytest.raises(Conflict, match="Address already in use"):
        pool.take("10.0.0.77")
    with pytest.raises(InvalidArgument, match="no configured subnet"):
        pool.take("10.0.1.1")


def test_ip_range_bounds_the_turn() -> None:
    pool = AddressPool("10.0.0.0/24", ip_range="10.0.0.64/30")
    assert [pool.take() for _ in range(4)] == [f"10.0.0.{last}/24" for last in range(64, 68)]


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        ([], "172.17.0.0/16"),
        (["172.17.0.0/16"], "172.18.0.0/16"),
        (["172.17.4.0/24", "172.18.255.0/24"], "172.19.0.0/16"),
        (["0.0.0.0/0", "fe80::/64"], "172.17.0.0/16"),
    ],
)
def test_a_pool_that_meets_no_route_is_chosen(taken: list[str], free: str) -> None:
    assert find_free_subnet(taken) == free


def test_macs_are_local_and_unicast() -> None:
    for _ in range(50):
        assert int(build_mac()[:2], 16) & 0x03 == 0x02
