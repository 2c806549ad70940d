"""Mounts of every kind, as mountinfo shows them from inside."""

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.runtime.bundle import Machine, docker_spec
from wherry.runtime.errors import LaunchError


def with_mount(script: str, destination: str, kind: str, source: object, *options: str) -> dict:
    document = docker_spec(["sh", "-c", script])
    document["mounts"].append(
        {"destination": destination, "type": kind, "source": str(source), "options": [*options]}
    )
    return document


def test_bind_read_write(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    document = with_mount("echo hi > /data/f", "/data", "bind", tmp_path / "src", "rbind")
    assert machine.run(document).code == 0
    assert (tmp_path / "src/f").read_text() == "hi\n"


def test_bind_of_a_file_onto_a_missing_path(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("file")
    document = with_mount("cat /a/b/f", "/a/b/f", "bind", tmp_path / "f", "rbind", "ro")
    assert machine.run(document).output == "file"


@pytest.mark.parametrize(("word", "inner"), [("ro", 0), ("rro", 1)])
def test_read_only_and_recursively(machine: Machine, tmp_path: Path, word: str, inner: int) -> None:
    source = tmp_path / "src"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "t", source / "below"], check=True)
    try:
        script = "touch /data/x 2>/dev/null; echo $?; touch /data/below/x 2>/dev/null; echo $?"
        document = with_mount(script, "/data", "bind", source, "rbind", word)
        assert machine.run(document).output.split() == ["1", str(inner)]
        # The host's own mount must not have become read-only.
        (source / "below/host").touch()
    finally:
        subprocess.run(["umount", source / "below"], check=True)


def test_bind_without_what_is_below(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "t", source / "below"], check=True)
    try:
        (source / "below/x").touch()
        document = with_mount("ls /data/below", "/data", "bind", source, "bind")
        assert machine.run(document).output == ""
    finally:
        subprocess.run(["umount", source / "below"], check=True)


@pytest.fixture
def shared(tmp_path: Path):
    source = tmp_path / "shared"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "t", source], check=True)
    subprocess.run(["mount", "--make-shared", source], check=True)
    (source / "sub").mkdir()
    yield source
    subprocess.run(["umount", "-R", source], check=True)


PROPAGATES = "grep ' /data ' /proc/self/mountinfo; echo ready; read x; ls /data/sub"


@pytest.mark.parametrize(
    ("options", "tag", "sees"),
    [
        (("rbind",), "", False),
        (("rbind", "rprivate"), "", False),
        (("rbind", "rslave"), "master:", True),
        (("rbind", "rshared"), "shared:", True),
    ],
)
def test_propagation(
    machine: Machine, shared: Path, options: tuple[str, ...], tag: str, sees: bool
) -> None:
    # The container waits on a FIFO in the bind for the host to have mounted something below it.
    os.mkfifo(shared / "go")
    script = "grep ' /data ' /proc/self/mountinfo; echo ready; read x < /data/go; ls /data/sub"
    container = machine.start(with_mount(script, "/data", "bind", shared, *options))
    line = container.read_line()
    assert ("shared:" in line, "master:" in line) == (tag == "shared:", tag == "master:")
    assert container.read_line() == "ready\n"
    subprocess.run(["mount", "-t", "tmpfs", "t", shared / "sub"], check=True)
    (shared / "sub/seen").touch()
    (shared / "go").write_text("x\n")
    assert ("seen" in container.wait().output) == sees


@pytest.mark.parametrize(
    ("word", "kind"), [("rshared", "a shared"), ("rslave", "a shared or slave")]
)
def test_propagation_of_a_private_source_is_refused(
    machine: Machine, tmp_path: Path, word: str, kind: str
) -> None:
    source = tmp_path / "private"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "t", source], check=True)
    subprocess.run(["mount", "--make-private", source], check=True)
    try:
        with pytest.raises(LaunchError) as caught:
            machine.start(with_mount("true", "/data", "bind", source, "rbind", word))
        sentence = f"path {source} is mounted on {source} but it is not {kind} mount"
        assert caught.value.message == sentence
    finally:
        subprocess.run(["umount", source], check=True)


def test_tmpfs_size_mode_and_owner(machine: Machine) -> None:
    document = with_mount(
        "stat -c '%a %u %g' /t; df -k /t | grep /t; grep ' /t ' /proc/self/mountinfo",
        "/t",
        "tmpfs",
        "tmpfs",
        *["noexec", "nosuid", "nodev", "size=4m", "mode=1770", "uid=1000", "gid=1001", "rprivate"],
    )
    output = machine.run(document).output
    assert output.startswith("1770 1000 1001\n")
    assert " 4096 " in output
    assert "rw,nosuid,nodev,noexec" in output


def test_tmpfs_takes_the_mode_of_what_it_covers(machine: Machine) -> None:
    (machine.lower / "tmp").chmod(0o1777)
    document = with_mount("stat -c %a /tmp", "/tmp", "tmpfs", "tmpfs", "nosuid")
    assert machine.run(document).output == "1777\n"


def test_tmpfs_on_a_new_directory_is_everybodys(machine: Machine) -> None:
    document = with_mount("stat -c %a /new", "/new", "tmpfs", "tmpfs", "nosuid")
    assert machine.run(document).output == "1777\n"


def test_tmpfs_with_a_copy_of_what_it_covers(machine: Machine) -> None:
    folder = machine.lower / "data/inner"
    folder.mkdir(parents=True)
    (folder / "file").write_text("content")
    (folder / "file").chmod(0o640)
    os.chown(folder / "file", 7, 8)
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    script = "cat /data/inner/file; stat -c '%a %u %g' /data/inner/file; readlink /data/inner/link; ls /data/inner"
    document = with_mount(script, "/data", "tmpfs", "tmpfs", "size=1m", "tmpcopyup")
    assert machine.run(document).output.split() == [
        *("content640", "7", "8", "/etc/passwd", "file", "link"),
    ]


def test_a_copy_larger_than_its_tmpfs(machine: Machine) -> None:
    (machine.lower / "data").mkdir()
    (machine.lower / "data/big").write_bytes(bytes(1 << 21))
    document = with_mount("true", "/data", "tmpfs", "tmpfs", "size=64k", "tmpcopyup")
    with pytest.raises(LaunchError) as caught:
        machine.start(document)
    assert (caught.value.step, caught.value.errno) == ("mount", errno.ENOSPC)


def test_read_only_root(machine: Machine) -> None:
    document = docker_spec(["sh", "-c", "touch /x; touch /dev/shm/x && echo shm"])
    document["root"]["readonly"] = True
    result = machine.run(document)
    assert result.output == "shm\n"
    assert "Read-only file system" in result.errors


def test_targets_below_links_stay_inside(machine: Machine, tmp_path: Path) -> None:
    (machine.lower / "etc/hosts").symlink_to("../../../../elsewhere/hosts")
    (machine.lower / "link").symlink_to("/made/by/link")
    (tmp_path / "hosts").write_text("bound\n")
    document = with_mount("cat /elsewhere/hosts", "/etc/hosts", "bind", tmp_path / "hosts", "rbind")
    document["mounts"].append(
        {"destination": "/link/x", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]}
    )
    document["process"]["args"][2] += (
        "; grep -q ' /made/by/link/x ' /proc/self/mountinfo && echo inside"
    )
    assert machine.run(document).output == "bound\ninside\n"
    assert not Path("/elsewhere").exists()
    assert not Path("/made").exists()


def test_nothing_is_bound_inside_proc(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(LaunchError) as caught:
        machine.start(with_mount("true", "/proc/sys/kernel/x", "bind", tmp_path / "f", "rbind"))
    assert caught.value.step == "mount"
    document = with_mount("cat /proc/uptime", "/proc/uptime", "bind", tmp_path / "f", "rbind")
    assert machine.run(document).output == ""


def test_three_hundred_binds(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    document = docker_spec(["sh", "-c", "grep -c ' /b/' /proc/self/mountinfo"])
    document["mounts"] += [
        {"destination": f"/b/{i}", "type": "bind", "source": f"{tmp_path}/f", "options": ["rbind"]}
        for i in range(300)
    ]
    assert machine.run(document).output == "300\n"


def test_devices(machine: Machine) -> None:
    document = docker_spec(["sh", "-c", "stat -c '%t:%T %a %u %F' /dev/net/tun; head -c1 /dev/mem"])
    document["linux"]["devices"] = [
        {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 438, "uid": 7},
        {"path": "/dev/mem", "type": "c", "major": 1, "minor": 1, "fileMode": 438},
    ]
    result = machine.run(document)
    assert result.output.startswith("a:c8 666 7 character special file")
    assert "Operation not permitted" in result.errors


def test_a_bound_dev_is_left_as_it_is(machine: Machine, tmp_path: Path) -> None:
    """`-v /dev:/dev` must not replace the machine's own ptmx, or make nodes there."""
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "pts").mkdir()
    os.mknod(dev / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(dev / "ptmx", 0o666 | stat.S_IFCHR, os.makedev(5, 2))
    document = docker_spec(["sh", "-c", "tty; ls -l /dev"])
    document["process"]["terminal"] = True
    document["mounts"] = [m for m in document["mounts"] if m["destination"] != "/dev"]
    bind = {"destination": "/dev", "type": "bind", "source": str(dev), "options": ["rbind"]}
    document["mounts"].insert(1, bind)
    document["linux"]["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    result = machine.run(document)
    assert result.code == 0
    assert stat.S_ISCHR((dev / "ptmx").lstat().st_mode)
    assert {path.name for path in dev.iterdir()} == {"null", "ptmx", "pts", "shm", "mqueue"}


def test_the_machines_dev_with_a_terminal(machine: Machine) -> None:
    document = docker_spec(["sh", "-c", "tty; ls -l /dev/ptmx"])
    document["process"]["terminal"] = True
    document["mounts"] = [m for m in document["mounts"] if not m["destination"].startswith("/dev")]
    document["mounts"].append(
        {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}
    )
    before = os.lstat("/dev/ptmx")
    result = machine.run(document)
    assert result.output.startswith("/dev/pts/")
    assert os.lstat("/dev/ptmx") == before


def test_sysctls_with_the_machines_proc(machine: Machine) -> None:
    document = docker_spec(["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"])
    document["mounts"][0] = {
        "destination": "/proc",
        "type": "bind",
        "source": "/proc",
        "options": ["rbind"],
    }
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        before = file.read()
    assert machine.run(document).output == "0\n"
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        assert file.read() == before
