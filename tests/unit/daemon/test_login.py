"""Which cgroups an engine leaves that a person's command has started."""

from __future__ import annotations

from wherry.daemon.login import find_targets
from wherry.kernel.mountinfo import MountInfo

MOUNTS = [
    MountInfo("31 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"),
    MountInfo("32 23 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd"),
    MountInfo("33 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"),
    MountInfo("34 23 0:29 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"),
]


def test_a_login_session_is_left_in_every_hierarchy() -> None:
    memberships = (
        "3:cpu,cpuacct:/user.slice\n2:memory:/user.slice/user-0.slice\n"
        "1:name=systemd:/user.slice/user-0.slice/session-3.scope\n"
        "0::/user.slice/user-0.slice/session-3.scope\n"
    )
    assert list(find_targets(memberships, MOUNTS)) == [
        "/sys/fs/cgroup/systemd/wherry-engine",
        "/sys/fs/cgroup/unified/wherry-engine",
    ]


def test_units_and_containers_stay_where_they_are() -> None:
    assert not list(find_targets("0::/system.slice/wherryd.service\n", MOUNTS))
    assert not list(find_targets("1:name=systemd:/\n0::/\n", MOUNTS))
