"""Which containers may use a slot (pitfall 7): what is not known to be the same for a whole class may not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from wherry.shim.slots import slot_class

Document = dict[str, Any]


def mount(destination: str, kind: str, *options: str) -> Document:
    return {"destination": destination, "type": kind, "source": kind, "options": [*options]}


def oci() -> Document:
    return {
        "process": {"args": ["true"], "cwd": "/"},
        "hostname": "a",
        "mounts": [
            mount("/proc", "proc"),
            mount("/dev", "tmpfs", "mode=755"),
            mount("/dev/pts", "devpts", "newinstance"),
            mount("/sys", "sysfs", "ro"),
            mount("/dev/shm", "tmpfs", "size=64m"),
            mount("/etc/hosts", "bind", "rbind"),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc")],
            "resources": {},
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "sysctl": {"net.ipv4.ping_group_range": "0 1"},
        },
    }


def interface(**values: object) -> Document:
    return {
        "name": "eth0",
        "host_name": "veth1",
        "bridge": "br0",
        "mtu": 1500,
        "mac": "02:00:00:00:00:01",
        "addresses": ["10.0.0.2/24"],
        "gateway": "10.0.0.1",
        **values,
    }


def class_of(change: Callable[[Document], object], interfaces: tuple[Document, ...] = ()) -> object:
    document = copy.deepcopy(oci())
    change(document)
    return slot_class(document, interfaces)


def nothing(_: Document) -> None:
    pass


def resources(values: Document) -> Callable[[Document], object]:
    return lambda document: document["linux"].update(resources=values)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["process"].update(args=["sh"], env=["A=b"], cwd="/tmp", terminal=True),
        lambda d: d["process"].update(capabilities={"bounding": ["CAP_KILL"]}),
        lambda d: d.update(hostname="b", root={"readonly": True}),
        lambda d: d["mounts"].append(mount("/data", "bind", "rbind")),
        lambda d: d["mounts"].append(mount("/run", "tmpfs")),
        resources({"memory": {"limit": 64 << 20, "swap": -1}}),
        resources({"pids": {"limit": 1}}),
        resources({"cpu": {"shares": 2, "quota": 50_000, "period": 100_000}}),
        resources({"cpu": {"cpus": "0"}}),
        resources({"devices": [{"allow": False, "access": "rwm"}]}),
    ],
)
def test_the_class_does_not_hold_what_differs(change: Callable[[Document], object]) -> None:
    assert class_of(change) == class_of(nothing) is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["mounts"][4].update(options=["size=1g"]),
        lambda d: d["mounts"][3].update(options=["rw"]),
        lambda d: d["mounts"].pop(4),
        lambda d: d["linux"].update(maskedPaths=[]),
        lambda d: d["linux"].update(readonlyPaths=[]),
        lambda d: d["linux"]["sysctl"].update({"net.ipv4.ip_forward": "1"}),
        lambda d: d["linux"]["namespaces"].append({"type": "cgroup"}),
    ],
)
def test_another_class(change: Callable[[Document], object]) -> None:
    assert class_of(change) not in (None, class_of(nothing))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["linux"]["namespaces"].pop(),
        lambda d: d["linux"]["namespaces"].append({"type": "user"}),
        lambda d: d["linux"]["namespaces"][1].update(path="/proc/1/ns/net"),
        lambda d: d["linux"].update(devices=[{"path": "/dev/fuse"}]),
        lambda d: d["linux"].update(uidMappings=[{"hostID": 1}]),
        lambda d: d["linux"].update(rootfsPropagation="shared"),
        lambda d: d["mounts"].append(mount("/proc/cpuinfo", "bind", "rbind")),
        lambda d: d["mounts"].append(mount("/dev//shm/../x", "none", "bind")),
        lambda d: d["mounts"].pop(2),
        lambda d: d["mounts"].pop(3) and d["mounts"].append(mount("/sys/fs/cgroup", "cgroup")),
        lambda d: d["mounts"].extend(mount(f"/m{n}", "bind", "rbind") for n in range(300)),
        resources({"memory": {"limit": 6 << 20}}),
        resources({"memory": {"limit": -1, "swap": 32 << 20}}),
        resources({"cpu": {"quota": 1000, "period": 100_000}}),
        resources({"cpu": {"quota": 10_000}}),
        resources({"cpu": {"realtimeRuntime": 950_000}}),
        resources({"cpu": {"idle": 1}}),
    ],
)
def test_no_class(change: Callable[[Document], object]) -> None:
    assert class_of(change) is None


def test_interfaces_differ_by_their_bridge_alone() -> None:
    one = class_of(nothing, (interface(),))
    other = interface(mac="02:00:00:00:00:02", addresses=["10.0.0.3/24"], host_name="veth2")
    assert class_of(nothing, (other,)) == one
    assert class_of(nothing, (interface(bridge="br1"),)) != one != class_of(nothing)


@pytest.mark.parametrize(
    "interfaces",
    [
        (interface(bridge=""),),
        (interface(addresses=["10.0.0.2/24", "fd00::2/64"]),),
        (interface(), interface(name="eth1")),
    ],
)
def test_interfaces_of_no_class(interfaces: tuple[Document, ...]) -> None:
    assert class_of(nothing, interfaces) is None
