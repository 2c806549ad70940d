"""Namespaces shared with the host or another container, and user namespaces."""

import os
from collections.abc import Iterator

import pytest

from tests.runtime.bundle import Machine, docker_spec
from wherry.kernel import caps, syscalls
from wherry.runtime.errors import LaunchError

MAPPING = [{"containerID": 0, "hostID": 200000, "size": 65536}]


def without(document: dict, *kinds: str) -> dict:
    namespaces = document["linux"]["namespaces"]
    document["linux"]["namespaces"] = [ns for ns in namespaces if ns["type"] not in kinds]
    if "network" in kinds:
        document["linux"]["sysctl"] = {}
    if "uts" in kinds:
        document["hostname"] = ""
    return document


def joining(document: dict, pid: int, *kinds: str) -> dict:
    files = {"network": "net", "uts": "uts", "ipc": "ipc", "pid": "pid", "cgroup": "cgroup"}
    without(document, *kinds)
    document["linux"]["namespaces"] += [
        {"type": kind, "path": f"/proc/{pid}/ns/{files[kind]}"} for kind in kinds
    ]
    return document


def test_of_the_host(machine: Machine) -> None:
    document = docker_spec(["ls", "-l", "/proc/self/ns"])
    output = machine.run(without(document, "network", "uts", "ipc", "pid")).output
    for kind in ("net", "uts", "ipc", "pid"):
        assert os.readlink(f"/proc/self/ns/{kind}") in output
    assert os.readlink("/proc/self/ns/mnt") not in output


@pytest.mark.parametrize("kinds", [("network",), ("pid",), ("network", "uts", "ipc", "pid")])
def test_of_another_container(machine: Machine, kinds: tuple[str, ...]) -> None:
    first = machine.start(docker_spec(["sh", "-c", "echo up; exec sleep 100"]))
    cgroup = machine.cgroup
    assert first.read_line() == "up\n"
    document = docker_spec(["sh", "-c", "ls -l /proc/self/ns; ls /proc/$$/fd; :"])
    result = machine.run(joining(document, first.launched.pid, *kinds))
    for kind in ("net", "uts", "ipc", "pid"):
        inside = os.readlink(f"/proc/{first.launched.pid}/ns/{kind}")
        shared = kind.replace("net", "network") in kinds
        assert (inside in result.output) == shared, kind
    assert result.output.split()[-3:] == ["0", "1", "2"]
    cgroup.kill()
    first.wait()


def test_what_is_no_namespace(machine: Machine) -> None:
    document = without(docker_spec(["true"]), "network")
    document["linux"]["namespaces"].append({"type": "network", "path": "/etc/passwd"})
    with pytest.raises(LaunchError) as caught:
        machine.start(document)
    assert caught.value.step == "namespace"


def test_failures_in_a_joined_pid_namespace(machine: Machine) -> None:
    first = machine.start(docker_spec(["sleep", "100"]))
    cgroup = machine.cgroup
    with pytest.raises(LaunchError) as caught:
        machine.start(joining(docker_spec(["nope"]), first.launched.pid, "pid"))
    assert caught.value.step == "exec"
    cgroup.kill()
    first.wait()
    document = joining(docker_spec(["true"]), os.getpid(), "pid")
    document["linux"]["namespaces"][-1]["path"] = "/proc/self/ns/mnt"
    with pytest.raises(LaunchError) as caught:
        machine.start(document)
    assert caught.value.step == "namespace"


@pytest.fixture
def remapped(machine: Machine) -> dict:
    for folder, names, files in os.walk(machine.lower):
        for name in (*names, *files):
            os.chown(os.path.join(folder, name), 200000, 200000, follow_symlinks=False)
    os.chown(machine.lower, 200000, 200000)
    machine.scratch.chmod(0o755)
    document = docker_spec(["sh", "-c", "true"])
    document["linux"]["namespaces"].append({"type": "user"})
    document["linux"].update(uidMappings=MAPPING, gidMappings=MAPPING)
    return document


def test_user_namespace(machine: Machine, remapped: dict) -> None:
    remapped["process"]["args"][2] = (
        "id -u; cat /proc/self/uid_map; ls -l /dev/null /dev/tty; echo x > /dev/null;"
        " grep CapEff /proc/self/status; ls /sys /proc/self/fd > /dev/null && echo seen"
    )
    root = machine.overlay()
    os.chown(root.upper, 200000, 200000)
    result = machine.run(remapped, root=root)
    assert result.errors == ""
    lines = result.output.splitlines()
    assert lines[0] == "0"
    assert lines[1].split() == ["0", "200000", "65536"]
    assert lines[-1] == "seen"
    assert int(lines[-2].split()[1], 16) == caps.mask_of(
        remapped["process"]["capabilities"]["bounding"]
    )


def test_exec_into_a_user_namespace(machine: Machine, remapped: dict) -> None:
    remapped["process"]["args"][2] = "echo up; exec sleep 100"
    root = machine.overlay()
    os.chown(root.upper, 200000, 200000)
    container = machine.start(remapped, root=root)
    assert container.read_line() == "up\n"
    process = docker_spec(["sh", "-c", "id -u; cat /proc/self/uid_map"])["process"]
    result = machine.execute(container, process).wait()
    assert result.output.split() == ["0", "0", "200000", "65536"]
    process["terminal"] = True
    process["args"][2] = "tty; stat -c %u /dev/pts/0"
    assert machine.execute(container, process).wait().output.split() == ["/dev/pts/0", "0"]
    machine.cgroup.kill()
    container.wait()


def test_terminal_in_a_user_namespace(machine: Machine, remapped: dict) -> None:
    remapped["process"]["args"][2] = "tty; stat -c %u /dev/console"
    remapped["process"]["terminal"] = True
    root = machine.overlay()
    os.chown(root.upper, 200000, 200000)
    assert machine.run(remapped, root=root).output.split() == ["/dev/pts/0", "0"]


PRIORITY = "cut -d' ' -f 19,41 /proc/self/stat"


@pytest.fixture
def reluctant() -> Iterator[None]:
    """A launcher that gives way to others: `nice -n 7 chrt --batch 0`."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, 7)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, niceness)


@pytest.mark.usefixtures("reluctant")
def test_a_nice_launcher_and_a_user_namespace(machine: Machine, remapped: dict) -> None:
    remapped["process"]["args"][2] = f"{PRIORITY}; exec sleep 100"
    root = machine.overlay()
    os.chown(root.upper, 200000, 200000)
    container = machine.start(remapped, root=root)
    assert container.read_line() == "0 0\n"
    process = docker_spec(["sh", "-c", PRIORITY])["process"]
    assert machine.execute(container, process).wait().output == "0 0\n"
    machine.cgroup.kill()
    container.wait()


@pytest.mark.usefixtures("reluctant")
def test_a_launcher_that_may_not_be_less_nice(machine: Machine) -> None:
    own = caps.own_sets()
    without_it = own["Eff"] & ~caps.mask_of(["CAP_SYS_NICE"])
    syscalls.capset(without_it, own["Prm"], own["Inh"])
    try:
        container = machine.start(docker_spec(["sh", "-c", PRIORITY]))
    finally:
        syscalls.capset(own["Eff"], own["Prm"], own["Inh"])
    assert container.wait().output == "7 0\n"
