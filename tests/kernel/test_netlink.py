"""rtnetlink and nf_tables against the real kernel, each in a network namespace of its own."""

import ctypes
import multiprocessing
import subprocess
from collections.abc import Callable

import pytest

from wherry.kernel.netlink.rtnl import Rtnl
from wherry.network.firewall import BridgeNetwork, Firewall, PublishedPort

CLONE_NEWNET = 0x40000000


def run_in_netns(work: Callable[[], None]) -> None:
    """Runs `work` in a process with a new network namespace; its failure is the test's."""

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(CLONE_NEWNET) == 0, "unshare needs root"
        work()

    process = multiprocessing.get_context("fork").Process(target=enter)
    process.start()
    process.join(30)
    assert process.exitcode == 0


def test_a_bridge_with_a_port_an_address_and_a_route() -> None:
    def work() -> None:
        with Rtnl() as rtnl:
            rtnl.add_bridge("br0")
            rtnl.flush()
            bridge = rtnl.find_link("br0")
            assert bridge is not None
            rtnl.add_address(bridge.index, "10.9.0.1/16")
            rtnl.add_veth("v0", "eth0", master=bridge.index, mtu=1400, peer_mac="02:42:0a:09:00:02")
            rtnl.flush()
            peer = rtnl.find_link("eth0")
            assert peer is not None
            assert (peer.mac, peer.mtu, peer.kind) == ("02:42:0a:09:00:02", 1400, "veth")
            rtnl.set_up(peer.index)
            rtnl.flush()
            rtnl.add_address(peer.index, "10.9.0.2/16")
            rtnl.add_default_route(peer.index, "10.9.0.1")
            rtnl.flush()
            assert ("0.0.0.0/0", peer.index) in rtnl.routes()
            assert "10.9.0.1/16" in rtnl.addresses(bridge.index)
            rtnl.delete_link(bridge.index)
            rtnl.flush()
            assert rtnl.find_link("br0") is None

    run_in_netns(work)


def test_a_failed_request_names_its_object() -> None:
    def work() -> None:
        with Rtnl() as rtnl:
            rtnl.add_bridge("br0")
            rtnl.add_bridge("br0")
            with pytest.raises(FileExistsError) as caught:
                rtnl.flush()
            assert caught.value.filename == "bridge br0"

    run_in_netns(work)


def test_the_firewall_is_what_nft_reads() -> None:
    def nft() -> str:
        return subprocess.run(
            ["nft", "list", "ruleset"], capture_output=True, text=True, check=True
        ).stdout

    def work() -> None:
        firewall = Firewall("br0")
        port = PublishedPort(
            host_ip="0.0.0.0", host_port=8080, protocol="tcp", address="10.9.0.2", port=80
        )
        local = PublishedPort(
            host_ip="127.0.0.1", host_port=53, protocol="udp", address="10.9.0.3", port=53
        )
        networks = (
            BridgeNetwork(bridge="br0", subnet="10.9.0.0/16"),
            BridgeNetwork(bridge="br1", subnet="10.10.0.0/16", internal=True, icc=False),
        )
        firewall.load(networks, [port])
        firewall.publish([local])
        rules = nft()
        assert "tcp . 8080 : 10.9.0.2 . 80" in rules
        assert "127.0.0.1 . udp . 53 : 10.9.0.3 . 53" in rules
        assert 'ip saddr 10.9.0.0/16 oifname != "br0" masquerade' in rules
        assert 'oifname "br0" iifname != "br0" drop' in rules
        assert 'iifname "br1" oifname != "br1" drop' in rules
        assert 'iifname "br1" oifname "br1" drop' in rules
        firewall.withdraw([port, local])
        firewall.withdraw([port, local])
        assert "elements" not in nft()
        firewall.unload()
        firewall.unload()
        assert not nft()

    run_in_netns(work)
