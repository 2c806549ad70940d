"""What a default container sees and may do: as with Docker."""

from pathlib import Path

from tests.runtime.bundle import CAPABILITIES, Machine, docker_spec
from wherry.kernel import caps


def fields(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_status_of_a_default_container(machine: Machine) -> None:
    status = fields(machine.run(docker_spec(["cat", "/proc/self/status"])).output)
    wanted = f"{caps.mask_of(CAPABILITIES):016x}"
    assert (status["CapEff"], status["CapPrm"], status["CapBnd"]) == (wanted,) * 3
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")
    assert status["SigBlk"] == status["SigIgn"] == status["SigCgt"] == "0" * 16
    assert status["Umask"] == "0022"


def test_own_processes_host_name_and_network(machine: Machine) -> None:
    result = machine.shell("hostname; ps | wc -l; ls /proc | grep -c '^[0-9]'; ip -o addr")
    lines = result.output.splitlines()
    assert lines[0] == "box"
    assert int(lines[1]) <= 4
    assert [line.split()[1] for line in lines[3:]] == ["lo", "lo"]
    assert result.code == 0


def test_only_the_standard_streams_are_open(machine: Machine) -> None:
    assert machine.shell("ls /proc/$$/fd; :").output.split() == ["0", "1", "2"]


def test_mountinfo_has_no_trace_of_the_host(machine: Machine) -> None:
    result = machine.shell("cat /proc/self/mountinfo")
    points = [line.split()[4] for line in result.output.splitlines()]
    assert points.count("/") == 1
    hierarchies = {point for point in points if point.startswith("/sys/fs/cgroup/")}
    masked = {"/proc/acpi", "/proc/interrupts", "/proc/keys", "/proc/timer_list", "/sys/firmware"}
    readonly = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"}
    rest = set(points) - hierarchies - masked - readonly - {"/proc/scsi", "/proc/sysrq-trigger"}
    rest -= {"/proc/kcore", "/proc/asound", "/proc/sched_debug", "/proc/latency_stats"}
    assert rest - {"/sys/devices/virtual/powercap"} == {
        "/",
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
    }


def test_masked_and_read_only_paths(machine: Machine) -> None:
    result = machine.shell(
        "for f in /proc/interrupts /proc/keys /proc/timer_list; do"
        " test -e $f && cat $f; done; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v :;"
        " echo 1 > /proc/sys/kernel/domainname; mkdir /sys/x"
    )
    assert result.output.strip() == ""
    assert result.errors.count("Read-only file system") == 2


def test_cannot_mount_unshare_or_chroot_out(machine: Machine) -> None:
    result = machine.shell(
        "mount -t tmpfs x /tmp; unshare -m true; unshare -U true; umount /proc;"
        " mknod /sda b 8 0 && head -c1 /sda"
    )
    assert result.errors.lower().count("permi") >= 4
    assert result.output == ""


def test_dev_is_dockers(machine: Machine) -> None:
    result = machine.shell("ls -1 /dev; stat -c '%n %t:%T %a' /dev/null /dev/tty /dev/zero")
    names = result.output.split("\n/dev/null", 1)[0].split()
    wanted = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert [name for name in names if name != "core"] == wanted.split()
    assert "/dev/null 1:3 666" in result.output


def test_environment(machine: Machine) -> None:
    result = machine.run(docker_spec(["env"]))
    assert set(result.output.split()) == {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=box",
        "HOME=/root",
    }


def test_no_new_privileges(machine: Machine) -> None:
    document = docker_spec(["cat", "/proc/self/status"])
    document["process"]["noNewPrivileges"] = True
    status = fields(machine.run(document).output)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_rlimits_and_oom_score(machine: Machine) -> None:
    document = docker_spec(["sh", "-c", "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj"])
    document["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]
    document["process"]["oomScoreAdj"] = 500
    assert machine.run(document).output.split() == ["77", "99", "500"]


def test_limits_above_our_own_are_clamped(machine: Machine) -> None:
    document = docker_spec(["sh", "-c", "ulimit -Hn"])
    document["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 1 << 30, "hard": 1 << 30},
    ]
    document["process"]["oomScoreAdj"] = -1000
    assert int(machine.run(document).output) >= 1024


def test_an_oom_score_below_ours_becomes_the_lowest_there_is(machine: Machine) -> None:
    document = docker_spec(["cat", "/proc/self/oom_score_adj"])
    document["process"]["oomScoreAdj"] = -500
    assert int(machine.run(document).output) <= 0


def test_privileged(machine: Machine) -> None:
    everything = list(caps.NAMES)
    document = docker_spec(
        ["sh", "-c", "mount -t tmpfs x /tmp && mkdir /sys/fs/cgroup/pids/x; cat /proc/self/status"]
    )
    document["process"]["capabilities"] = {
        "bounding": everything,
        "effective": everything,
        "permitted": everything,
    }
    linux = document["linux"]
    linux.pop("seccomp")
    linux.update(maskedPaths=[], readonlyPaths=[])
    linux["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    for mount in document["mounts"]:
        mount["options"] = [word for word in mount["options"] if word != "ro"]
    result = machine.run(document)
    status = fields(result.output)
    assert status["Seccomp"] == "0"
    own = caps.own_sets()["Bnd"]
    assert int(status["CapEff"], 16) == own & caps.mask_of(everything)


def test_two_containers_do_not_see_each_others_writes(machine: Machine) -> None:
    assert machine.shell("echo 1 > /mine").code == 0
    assert machine.shell("cat /mine").code == 1
    assert not (machine.lower / "mine").exists()


def test_the_host_keeps_its_mounts_and_directories(machine: Machine) -> None:
    before = sorted(Path("/").iterdir())
    machine.shell("rm -rf /bin /etc 2>/dev/null")
    assert sorted(Path("/").iterdir()) == before
    assert (machine.lower / "etc/passwd").exists()
