"""The plan of a launch: pure, in the right order, and refused where it can never work."""

import copy
from collections.abc import Callable

import pytest
from tests.runtime.bundle import docker_spec

from wherry.kernel.consts import CLONE
from wherry.runtime.cgroups import Cgroup
from wherry.runtime.cgroups.hierarchy import Hierarchy
from wherry.runtime.errors import SpecError
from wherry.runtime.interface import Interface
from wherry.runtime.plan import build_plan
from wherry.runtime.root import OverlayRoot
from wherry.runtime.spec import parse_spec

ROOT = OverlayRoot(("/lower",), "/upper", "/work")
Edit = Callable[[dict[str, object]], object]


def cgroup(version: int = 1) -> Cgroup:
    return Cgroup("/docker/x", [Hierarchy(version, "/sys/fs/cgroup/pids", ("pids",))])


def plan_of(edit: Edit = lambda _: None, *interfaces: Interface):
    document = copy.deepcopy(docker_spec(["true"]))
    edit(document)
    return build_plan(parse_spec(document), ROOT, cgroup(), interfaces)


def names(edit: Edit = lambda _: None) -> list[str]:
    return [type(step).__name__ for step in plan_of(edit).steps]


def test_the_root_is_entered_before_anything_is_made_in_it() -> None:
    order = names()
    assert order[0] == "EnterRoot"
    assert order[-1] == "Execute"


def test_masks_come_after_mounts_and_the_root_is_sealed_after_them() -> None:
    order = names(lambda d: d["root"].update(readonly=True))
    assert order.index("FilesystemMount") < order.index("MaskPaths") < order.index("RemountOfRoot")
    assert order.index("WorkingDirectory") < order.index("RemountOfRoot")


def test_the_parent_is_waited_for_when_nothing_else_is_left_to_do() -> None:
    order = names()
    assert order.index("AwaitParent") + 1 == order.index("Network")
    assert order.index("ReadonlyPaths") < order.index("AwaitParent") < order.index("Sysctl")


def test_no_descriptor_is_left_when_the_working_directory_is_entered() -> None:
    order = names()
    assert order.index("Sysctl") < order.index("CloseDescriptors") < order.index("ChangeUser")


def test_without_no_new_privs_the_filter_comes_before_privileges_go() -> None:
    order = names()
    assert order.index("Seccomp") < order.index("ChangeUser")
    assert "NoNewPrivileges" not in order


def test_with_no_new_privs_the_filter_is_the_last_step_before_exec() -> None:
    order = names(lambda d: d["process"].update(noNewPrivileges=True))
    assert order[-2:] == ["Seccomp", "Execute"]
    assert order.index("NoNewPrivileges") < order.index("ChangeUser")


def test_the_death_signal_is_set_after_the_ids() -> None:
    order = names()
    assert order.index("ChangeUser") < order.index("DieWithParent")


def test_cgroup_namespace_is_made_after_the_attach_and_before_its_mount() -> None:
    order = names(lambda d: d["linux"]["namespaces"].append({"type": "cgroup"}))
    assert order.index("AwaitParent") < order.index("CgroupNamespace") < order.index("CgroupMount")
    assert order.count("CgroupNamespace") == 1
    assert not plan_of().clone_flags & CLONE.NEWCGROUP


def test_joined_namespaces_are_not_made() -> None:
    def join(document: dict[str, object]) -> None:
        document["linux"]["namespaces"] = [
            {"type": "mount"},
            {"type": "network", "path": "/proc/1/ns/net"},
        ]
        document["hostname"] = ""

    plan = plan_of(join)
    assert plan.clone_flags == CLONE.NEWNS
    assert type(plan.steps[0]).__name__ == "JoinNamespace"


def test_a_user_namespace_is_entered_first_and_waits_for_its_maps() -> None:
    def remap(document: dict[str, object]) -> None:
        document["linux"]["namespaces"].append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        document["linux"].update(uidMappings=mapping, gidMappings=mapping)

    assert names(remap)[:3] == ["AwaitParent", "BecomeRoot", "EnterRoot"]


def test_planning_is_pure_and_can_be_read() -> None:
    lines = plan_of().describe()
    assert "mount proc on /proc" in lines
    assert lines[-1] == "exec true"


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (lambda d: d["process"].update(args=[]), "process.args"),
        (lambda d: d["process"].update(args="true"), "config.json"),
        (lambda d: d["process"].update(cwd="relative"), "process.cwd"),
        (lambda d: d.pop("process"), "process"),
        (lambda d: d["linux"].update(namespaces=[{"type": "uts"}]), "linux.namespaces"),
        (lambda d: d["linux"].update(namespaces=[{"type": "zoo"}]), "linux.namespaces"),
        (lambda d: d["linux"]["namespaces"].append({"type": "pid"}), "linux.namespaces"),
        (lambda d: d["linux"]["namespaces"].append({"type": "user"}), "linux.uidMappings"),
        (lambda d: d["linux"].update(rootfsPropagation="x"), "linux.rootfsPropagation"),
        (lambda d: d["linux"].update(namespaces=[{"type": "mount"}]), "hostname"),
        (lambda d: d["mounts"].append({"destination": "/x"}), "mounts /x"),
        (lambda d: d["process"].update(rlimits=[{"type": "NOFILE"}]), "process.rlimits"),
        (lambda d: d["linux"].update(devices=[{"path": "x", "type": "q"}]), "linux.devices"),
        (lambda d: d["linux"]["sysctl"].update({"kernel.panic": "1"}), "linux.sysctl"),
        (lambda d: d["linux"]["sysctl"].update({"user.max_user_namespaces": "1"}), "linux.sysctl"),
        (lambda d: d["linux"].update(personality={"domain": "SVR4"}), "linux.personality"),
        (lambda d: d["process"].update(scheduler={"policy": "SCHED_RR"}), "process.scheduler"),
        (lambda d: d["mounts"][0].update(options=["idmap"]), "mounts /proc"),
    ],
)
def test_what_can_never_work_is_refused(edit: Edit, where: str) -> None:
    with pytest.raises(SpecError) as caught:
        plan_of(edit)
    assert caught.value.path == where


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ipc", "kernel.shmmax"),
        ("ipc", "fs.mqueue.msg_max"),
        ("network", "net.ipv4.ip_forward"),
        ("network", "net/ipv4/conf/eth0.1/forwarding"),
        ("uts", "kernel.domainname"),
    ],
)
def test_sysctls_need_their_namespace(kind: str, name: str) -> None:
    def edit(document: dict[str, object]) -> None:
        namespaces = [ns for ns in document["linux"]["namespaces"] if ns["type"] != kind]
        document["linux"].update(namespaces=namespaces, sysctl={name: "1"})
        document["hostname"] = ""

    with pytest.raises(SpecError, match=f"not allowed in host {kind} namespace"):
        plan_of(edit)
    plan_of(lambda d: d["linux"].update(sysctl={name: "1"}))
