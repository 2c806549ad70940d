"""What becomes of a container when the process that launched it is killed."""

import os
import select
import signal

import pytest

from tests.runtime.bundle import DEADLINE_S, Machine, docker_spec
from wherry.runtime.launch import launch
from wherry.runtime.spec import parse_spec


@pytest.mark.parametrize("user", ["", "app"])
@pytest.mark.parametrize("outlive", [False, True])
def test_init_ends_with_its_parent_whoever_it_runs_as(
    machine: Machine, user: str, outlive: bool
) -> None:
    """Changing ids clears the parent-death signal: it must have been set again after that."""
    document = docker_spec(["sleep", "100"])
    document["process"]["user"]["username"] = user
    root, cgroup = machine.overlay(), machine.new_cgroup()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    parent = os.fork()
    if parent == 0:
        null = os.open("/dev/null", os.O_RDWR)
        stdio = (null, null, null)
        launched = launch(
            parse_spec(document), root=root, stdio=stdio, cgroup=cgroup, outlive=outlive
        )
        os.write(write_end, b"%d" % launched.pid)
        signal.pause()
    os.close(write_end)
    pid = int(os.read(read_end, 32))
    os.close(read_end)
    pidfd = os.pidfd_open(pid)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    ended = bool(poller.poll(100 if outlive else DEADLINE_S * 1000))
    assert ended != outlive
    os.close(pidfd)
    cgroup.kill()
