"""Joining a running container."""

import os

import pytest

from tests.runtime.bundle import Machine, Running, docker_spec
from wherry.runtime.errors import LaunchError


@pytest.fixture
def running(machine: Machine) -> Running:
    container = machine.start(docker_spec(["sh", "-c", "echo up; exec sleep 100"]))
    assert container.read_line() == "up\n"
    return container


def process(*args: str, **changes: object) -> dict:
    return docker_spec(list(args))["process"] | changes


def finish(machine: Machine, running: Running) -> None:
    machine.cgroup.kill()
    assert running.wait().code == -9


def test_same_defences_and_namespaces(machine: Machine, running: Running) -> None:
    script = "ls -l /proc/self/ns; grep -E '^(Cap|Sec)' /proc/self/status; ls /proc/$$/fd; :"
    inside = machine.execute(running, process("sh", "-c", script)).wait()
    outside = f"/proc/{running.launched.pid}"
    for kind in ("mnt", "pid", "net", "uts", "ipc"):
        assert os.readlink(f"{outside}/ns/{kind}") in inside.output
    with open(f"{outside}/status") as file:
        for line in file:
            if line.startswith(("CapEff", "CapBnd", "Seccomp")):
                assert line.strip() in inside.output
    assert inside.output.split()[-3:] == ["0", "1", "2"]
    assert machine.cgroup.processes() == [running.launched.pid]
    finish(machine, running)


def test_cgroups_are_the_containers(machine: Machine, running: Running) -> None:
    inside = machine.execute(running, process("cat", "/proc/self/cgroup")).wait()
    with open(f"/proc/{running.launched.pid}/cgroup") as file:
        assert inside.output == file.read()
    finish(machine, running)


def test_exit_codes_users_and_directories(machine: Machine, running: Running) -> None:
    result = machine.execute(
        running,
        process("sh", "-c", "id -u; pwd; exit 9", user={"username": "app"}, cwd="/tmp"),
    ).wait()
    assert (result.output.split(), result.code) == (["1000", "/tmp"], 9)
    finish(machine, running)


def test_terminal_from_the_containers_devpts(machine: Machine, running: Running) -> None:
    document = process("sh", "-c", "tty; stty size; stat -c %u /dev/pts/0", terminal=True)
    document |= {"consoleSize": {"height": 33, "width": 99}, "user": {"username": "app"}}
    result = machine.execute(running, document).wait()
    assert result.output.split() == ["/dev/pts/0", "33", "99", "1000"]
    finish(machine, running)


@pytest.mark.parametrize(
    ("document", "step", "message"),
    [
        (process("nope"), "exec", 'exec: "nope": executable file not found in $PATH'),
        (
            process("true", cwd="/nope"),
            "cwd",
            'chdir to cwd ("/nope") set in config.json failed: no such file or directory',
        ),
        (
            process("true", user={"username": "ghost"}),
            "user",
            "unable to find user ghost: no matching entries in passwd file",
        ),
    ],
)
def test_failures(
    machine: Machine, running: Running, document: dict, step: str, message: str
) -> None:
    with pytest.raises(LaunchError) as caught:
        machine.execute(running, document)
    assert (caught.value.step, caught.value.message) == (step, message)
    assert machine.cgroup.processes() == [running.launched.pid]
    finish(machine, running)


def test_a_container_that_has_ended(machine: Machine, running: Running) -> None:
    machine.cgroup.kill()
    with pytest.raises(LaunchError) as caught:
        machine.execute(running, process("true"))
    assert caught.value.step == "namespace"
    running.wait()
