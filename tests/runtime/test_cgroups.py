"""Control groups: version 1, version 2 and what this machine mounts, through the same interface."""

import ctypes
import os
import platform
import resource
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.runtime.bundle import Machine, docker_spec, need_controllers
from wherry.runtime.cgroups import Cgroup, open_cgroup, warm
from wherry.runtime.cgroups.hierarchy import hierarchies
from wherry.runtime.cgroups.v2 import limits_of, weight_of_shares
from wherry.runtime.spec import parse_resources

SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283}[platform.machine()]
MEMBARRIER_CMD_GLOBAL = 1
DENY_ALL = {"devices": [{"allow": False, "access": "rwm"}]}


@pytest.fixture(params=["machine", "v1", "v2"])
def cgroup(request: pytest.FixtureRequest):
    mounted = hierarchies()
    if request.param != "machine":
        mounted = [item for item in mounted if f"v{item.version}" == request.param]
    if not mounted:
        pytest.skip(f"{request.param} is not mounted")
    made = Cgroup(f"/wherry-tests/unit-{os.getpid()}", mounted)
    yield made
    made.kill()
    made.remove()
    assert not any(os.path.exists(path) for path in made.paths().values())


@pytest.fixture
def sleeper(cgroup: Cgroup):
    process = subprocess.Popen(["sleep", "100"])
    cgroup.create(parse_resources({}))
    cgroup.attach(process.pid)
    yield process
    process.kill()
    process.wait()


def test_create_is_idempotent_and_remove_too(cgroup: Cgroup) -> None:
    assert not cgroup.exists()
    cgroup.create(parse_resources(DENY_ALL))
    cgroup.create(parse_resources(DENY_ALL))
    assert cgroup.exists()
    cgroup.remove()
    cgroup.remove()
    assert not cgroup.exists()


def test_attach_freeze_thaw_kill(cgroup: Cgroup, sleeper: subprocess.Popen) -> None:
    assert cgroup.processes() == [sleeper.pid]
    cgroup.freeze()
    assert cgroup.is_frozen()
    cgroup.kill()
    assert sleeper.wait(10) == -9
    assert cgroup.processes() == []


def test_thaw(cgroup: Cgroup, sleeper: subprocess.Popen) -> None:
    cgroup.freeze()
    cgroup.thaw()
    assert not cgroup.is_frozen()
    cgroup.kill(15)
    assert sleeper.wait(10) == -15


def test_groups_below_are_removed_as_well(cgroup: Cgroup) -> None:
    cgroup.create(parse_resources({}))
    for path in cgroup.paths().values():
        os.makedirs(f"{path}/inner/most", exist_ok=True)
    cgroup.remove()
    assert not cgroup.exists()


def test_processes_of_groups_below_are_killed(cgroup: Cgroup, sleeper: subprocess.Popen) -> None:
    for path in set(cgroup.paths().values()):
        os.mkdir(f"{path}/inner")
        try:
            with open(f"{path}/inner/cgroup.procs", "w") as file:
                file.write(str(sleeper.pid))
        except OSError:
            continue  # a cpuset without CPUs
    assert cgroup.processes() == [sleeper.pid]
    cgroup.kill()
    assert sleeper.wait(10) == -9


def list_first(monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    """The next list of a group's processes is one that has become untrue."""
    stale = [[pid]]
    processes = Cgroup.processes
    monkeypatch.setattr(Cgroup, "processes", lambda self: stale.pop() if stale else processes(self))


def test_a_process_that_was_born_after_the_list_is_killed(
    cgroup: Cgroup, sleeper: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = subprocess.Popen(["true"])
    parent.wait()
    list_first(monkeypatch, parent.pid)
    cgroup.kill()
    assert sleeper.wait(10) == -9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stranger_that_got_a_dead_members_pid_is_left_alone(
    cgroup: Cgroup,
    sleeper: subprocess.Popen,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:
        list_first(monkeypatch, stranger.pid)
        cgroup.kill(number)
        assert stranger.communicate()[0] is None
    assert stranger.returncode == 0


def test_stats(cgroup: Cgroup, sleeper: subprocess.Popen) -> None:
    stats = cgroup.stats()
    assert stats.version in {1, 2}
    assert cgroup.oom_kills() == 0


def test_limits_of_this_machine() -> None:
    need_controllers("memory", "cpu", "cpuset", "pids")
    cgroup = open_cgroup(f"/wherry-tests/limits-{os.getpid()}")
    try:
        cgroup.create(
            parse_resources(
                {
                    "memory": {"limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20},
                    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
                    "pids": {"limit": 33},
                }
            )
        )
        assert cgroup.memory_limit() == 64 << 20
        assert cgroup.stats().pids_limit == 33
        cgroup.update(parse_resources({"memory": {"limit": 256 << 20, "swap": 512 << 20}}))
        assert cgroup.memory_limit() == 256 << 20
        cgroup.update(parse_resources({"memory": {"limit": 32 << 20, "swap": 32 << 20}}))
        assert cgroup.memory_limit() == 32 << 20
        cgroup.update(parse_resources({"pids": {"limit": -1}}))
        assert cgroup.stats().pids_limit == 0
    finally:
        cgroup.remove()


def test_values_of_version_2() -> None:
    resources = parse_resources(
        {
            "memory": {"limit": 100, "swap": 250, "reservation": 50},
            "cpu": {"shares": 1024, "quota": 150000, "period": 100000, "cpus": "0-1"},
            "pids": {"limit": -1},
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]},
        }
    )
    assert limits_of(resources) == [
        ("memory.swap.max", "150"),
        ("memory.max", "100"),
        ("memory.low", "50"),
        ("cpu.weight", "39"),
        ("cpu.max", "150000 100000"),
        ("cpuset.cpus", "0-1"),
        ("pids.max", "max"),
        ("io.max", "8:0 rbps=9"),
    ]
    assert [weight_of_shares(shares) for shares in (2, 262144, 1 << 30)] == [1, 10000, 10000]


def test_out_of_memory_is_counted(machine: Machine) -> None:
    need_controllers("memory")
    script = "x=; while :; do x=$x$x-0123456789abcdef; done"
    document = docker_spec(["sh", "-c", script])
    document["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    assert machine.run(document).code == -9
    assert machine.cgroup.oom_kills() >= 1


def test_pids_limit(machine: Machine) -> None:
    need_controllers("pids")
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; echo never"
    document = docker_spec(["sh", "-c", script])
    document["linux"]["resources"]["pids"] = {"limit": 5}
    result = machine.run(document)
    assert "never" not in result.output
    assert "fork" in result.errors


def test_launch_on_version_2_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = [item for item in hierarchies() if item.version == 2]
    if not mounted:
        pytest.skip("version 2 is not mounted")
    monkeypatch.setattr("wherry.runtime.cgroups.hierarchies", lambda: mounted)
    script = "tail -n1 /proc/self/cgroup; grep cgroup2 /proc/self/mountinfo; mknod /m c 1 1; cat /m"
    document = docker_spec(["sh", "-c", script])
    document["linux"]["namespaces"].append({"type": "cgroup"})
    result = machine.run(document)
    assert "0::/\n" in result.output
    assert " /sys/fs/cgroup ro" in result.output
    assert "Operation not permitted" in result.errors


def test_cgroup_namespace_on_version_1(machine: Machine) -> None:
    document = docker_spec(
        ["sh", "-c", "cat /proc/self/cgroup; grep /sys/fs/cgroup/ /proc/self/mountinfo"]
    )
    document["linux"]["namespaces"].append({"type": "cgroup"})
    output = machine.run(document).output
    assert {line.split(":")[2] for line in output.splitlines() if line[1:2] == ":"} == {"/"}
    assert all(line.split()[3] == "/" for line in output.splitlines() if "mountinfo" in line)


def let_grace_periods_pass() -> None:
    """Until nothing of what warmed the control groups is left."""
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(3):
        assert libc.syscall(SYS_MEMBARRIER, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0


def waits_of(act: Callable[[], None]) -> int:
    """How often this thread slept in it."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    act()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before


def test_a_warm_attach_waits_for_nothing() -> None:
    cgroup = open_cgroup(f"/wherry-tests/warm-{os.getpid()}")
    process = subprocess.Popen(["sleep", "100"])

    def warm_and_attach() -> int:
        let_grace_periods_pass()
        warm()
        return waits_of(lambda: cgroup.attach(process.pid))

    try:
        cgroup.create(parse_resources({}))
        # Others on the machine have the same locks: once is enough. A cold one waits each time.
        assert any(warm_and_attach() == 0 for _ in range(5))
    finally:
        process.kill()
        process.wait()
        cgroup.remove()
