"""What a container sees and may do: its own processes, mounts, names and network, with Docker's defences."""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path

import pytest
from tests.harness.engine import Engine, running_engine
from tests.images.make import default_folder, make_image

DOCKER_CAPABILITIES = "00000000a80425fb"


def status_of(engine: Engine, *arguments: str) -> dict[str, str]:
    """/proc/self/status as the container's program sees it."""
    text = engine.docker("run", "--rm", *arguments, "busybox:latest", "cat", "/proc/self/status")
    pairs = (line.partition(":") for line in text.splitlines())
    return {key: value.strip() for key, _, value in pairs}


@pytest.mark.usefixtures("busybox")
def test_capabilities_and_seccomp_are_dockers(engine: Engine) -> None:
    status = status_of(engine)
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == DOCKER_CAPABILITIES
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")
    assert status["SigIgn"] == status["SigBlk"] == "0" * 16
    unprivileged = status_of(engine, "-u", "65534")
    assert unprivileged["CapEff"] == "0" * 16
    assert unprivileged["CapBnd"] == DOCKER_CAPABILITIES
    assert status_of(engine, "--security-opt", "no-new-privileges")["NoNewPrivs"] == "1"
    dropped = status_of(engine, "--cap-drop", "ALL", "--cap-add", "NET_ADMIN")
    assert dropped["CapEff"] == f"{1 << 12:016x}"


def test_only_its_own_processes_names_and_network(engine: Engine, busybox: str) -> None:
    processes = engine.docker("run", "--rm", busybox, "ps", "-o", "pid,args").splitlines()
    assert [line.split()[0] for line in processes[1:]] == ["1"]
    assert engine.docker("run", "--rm", "-h", "here", busybox, "hostname") == "here"
    links = engine.docker("run", "--rm", busybox, "ls", "/sys/class/net").split()
    assert set(links) <= {"lo", "eth0", "bonding_masters"}
    assert {"lo", "eth0"} <= set(links)
    assert engine.docker(
        "run", "--rm", "--network", "none", busybox, "ls", "/sys/class/net"
    ).split() == ["lo"]


def test_no_trace_of_the_host_in_its_mounts(engine: Engine, busybox: str) -> None:
    table = engine.docker("run", "--rm", busybox, "cat", "/proc/self/mountinfo")
    for line in table.splitlines():
        assert line.split()[4] != "/old"
        assert " shared:" not in line
    points = [line.split()[4] for line in table.splitlines()]
    for expected in (
        "/",
        "/proc",
        "/dev",
        "/dev/pts",
        "/sys",
        "/dev/mqueue",
        "/dev/shm",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/proc/sys",
        "/sys/firmware",
    ):
        assert expected in points, expected


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs none /mnt",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "insmod /bin/busybox",
        "mknod /dev/sda b 8 0 && cat /dev/sda",
        "echo 1 > /sys/kernel/mm/ksm/run",
        "cat /proc/kcore | head -c 1 | grep .",
        "unshare -m true",
        "nc -l -p 80 & chroot / hwclock -w",
        "chroot /proc/1/root mount -o remount,rw /sys",
    ],
)
def test_what_a_container_may_not_do(engine: Engine, busybox: str, attempt: str) -> None:
    done = engine.run(
        "docker", "run", "--rm", busybox, "sh", "-c", f"mkdir -p /mnt; {attempt}", check=False
    )
    assert done.returncode != 0, done.stdout


def test_privileged_may(engine: Engine, busybox: str) -> None:
    engine.docker(
        "run",
        "--rm",
        "--privileged",
        busybox,
        "sh",
        "-c",
        "mkdir /m; mount -t tmpfs none /m; ls /dev/kmsg",
    )


def test_stdio_belongs_to_the_user(engine: Engine, busybox: str) -> None:
    assert (
        engine.docker(
            "run",
            "--rm",
            "-u",
            "101:102",
            busybox,
            "sh",
            "-c",
            "echo x > /dev/stdout; id -u; id -g",
        )
        == "x\n101\n102"
    )


def test_clean_slate(engine: Engine, busybox: str) -> None:
    listed = engine.docker(
        "run",
        "--rm",
        busybox,
        "sh",
        "-c",
        "umask; ls /proc/self/fd; cat /proc/self/oom_score_adj; yes | head -1",
    )
    lines = listed.splitlines()
    assert lines[0] == "0022"
    assert lines[1:5] == ["0", "1", "2", "3"]  # 3 is the listing itself
    assert lines[5:] == ["0", "y"]


def test_limits_reach_the_kernel(engine: Engine, busybox: str) -> None:
    engine.docker(
        "run",
        "-d",
        "--name",
        "c1",
        "-m",
        "64m",
        "--pids-limit",
        "17",
        "--cpus",
        "1.5",
        "--cpuset-cpus",
        "0",
        "--ulimit",
        "nofile=111:222",
        busybox,
        "sleep",
        "60",
    )
    assert engine.docker("exec", "c1", "sh", "-c", "ulimit -Sn; ulimit -Hn") == "111\n222"
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "c1"))
    membership = Path(f"/proc/{pid}/cgroup").read_text()
    identity = engine.docker("inspect", "-f", "{{.Id}}", "c1")
    assert f"{engine.cgroup_parent}/{identity}" in membership
    memory = Path("/sys/fs/cgroup/memory") / engine.cgroup_parent.strip("/") / identity
    if memory.exists():
        assert (memory / "memory.limit_in_bytes").read_text().strip() == str(64 << 20)
    assert os.sched_getaffinity(pid) == {0}
    engine.docker("rm", "-f", "c1")


def test_read_only_root_tmpfs_and_binds(engine: Engine, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("shared")
    refused = engine.run(
        "docker", "run", "--rm", "--read-only", busybox, "touch", "/x", check=False
    )
    assert "Read-only file system" in refused.stderr
    done = engine.run(
        "docker",
        "run",
        "--rm",
        "--read-only",
        "--tmpfs",
        "/run:size=1m,mode=700",
        "-v",
        f"{tmp_path}:/data:ro",
        busybox,
        "sh",
        "-c",
        "touch /run/x && stat -c %a /run && cat /data/file; touch /data/x",
        check=False,
    )
    assert done.stdout == "700\nshared"
    assert done.returncode == 1
    assert not (tmp_path / "x").exists()


def test_joined_namespaces(engine: Engine, busybox: str) -> None:
    engine.docker("run", "-d", "--name", "base", "-h", "basename", busybox, "sleep", "60")
    assert "sleep 60" in engine.docker("run", "--rm", "--pid", "container:base", busybox, "ps")
    addresses = "ip -4 -o addr show eth0"
    inside = engine.docker("exec", "base", "sh", "-c", addresses)
    assert (
        engine.docker("run", "--rm", "--network", "container:base", busybox, "sh", "-c", addresses)
        == inside
    )
    assert (
        engine.docker("run", "--rm", "--network", "host", busybox, "hostname")
        == os.uname().nodename
    )
    engine.docker("rm", "-f", "base")


def test_the_default_bridge(engine: Engine, busybox: str) -> None:
    engine.docker("run", "-d", "--name", "c1", busybox, "sleep", "60")
    settings = json.loads(
        engine.docker("inspect", "-f", "{{json .NetworkSettings.Networks.bridge}}", "c1")
    )
    assert settings["Gateway"] in engine.docker("exec", "c1", "ip", "route")
    assert f"{settings['IPAddress']}\t" in engine.docker("exec", "c1", "cat", "/etc/hosts")
    engine.docker("exec", "c1", "ping", "-c", "1", "-W", "2", settings["Gateway"])
    other = engine.run(
        "docker", "run", "--rm", busybox, "ping", "-c", "1", "-W", "2", settings["IPAddress"]
    )
    assert "1 packets received" in other.stdout
    engine.docker("rm", "-f", "c1")


def test_a_published_port_leads_into_the_container(engine: Engine, busybox: str) -> None:
    engine.docker(
        "run",
        "-d",
        "--name",
        "c1",
        "-p",
        "127.0.0.1::80",
        busybox,
        "sh",
        "-c",
        "mkdir /w; echo served > /w/index.html; httpd -f -p 80 -h /w",
    )
    port = engine.docker("port", "c1", "80/tcp").rpartition(":")[2]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
    connection.request("GET", "/index.html")
    assert connection.getresponse().read() == b"served\n"
    connection.close()
    engine.docker("rm", "-f", "c1")
    again = engine.run("docker", "run", "--rm", "-p", f"127.0.0.1:{port}:80", busybox, "true")
    assert again.returncode == 0


def test_an_engine_without_a_seccomp_profile() -> None:
    shown = ("busybox", "grep", "Seccomp:", "/proc/self/status")
    with running_engine(options=["--seccomp-profile=unconfined"]) as engine:
        engine.docker("load", "-q", "-i", str(make_image(default_folder(), "busybox")))
        assert "profile=unconfined" in engine.docker("info", "-f", "{{.SecurityOptions}}")
        assert engine.docker("run", "--rm", *shown).split() == ["Seccomp:", "0"]
        builtin = ("--security-opt", "seccomp=builtin")
        assert engine.docker("run", "--rm", *builtin, *shown).split() == ["Seccomp:", "2"]
