"""The wrappers against the real kernel, each in namespaces of its own where it changes something."""

import errno
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.kernel import bpf, caps, syscalls, tty
from wherry.kernel.consts import (
    AT,
    AT_FDCWD,
    CLONE,
    DEVPTS_SUPER_MAGIC,
    FSCONFIG,
    MNT,
    MOUNT_ATTR,
    MOVE_MOUNT,
    MS,
    OPEN_TREE,
    PR,
    PROC_SUPER_MAGIC,
    RESOLVE,
    TMPFS_MAGIC,
)
from wherry.kernel.mountinfo import MountInfo, find_mount, read_mountinfo
from wherry.kernel.release import may_use, parse_release


def in_child(body: Callable[[], None], flags: int = CLONE.NEWNS) -> None:
    """Run `body` in a child with new namespaces; its exception fails the test."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = syscalls.clone3(flags, exit_signal=signal.SIGCHLD)
    if pid == 0:
        try:
            if flags & CLONE.NEWNS:
                syscalls.mount(None, b"/", None, MS.REC | MS.PRIVATE)
            body()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(write_end, repr(error).encode())
        os._exit(0)
    os.close(write_end)
    said = os.read(read_end, 65536).decode()
    os.close(read_end)
    os.waitpid(pid, 0)
    assert said == ""


def tmpfs() -> int:
    fs = syscalls.fsopen(b"tmpfs")
    syscalls.fsconfig(fs, FSCONFIG.SET_STRING, b"size", b"1m")
    syscalls.fsconfig(fs, FSCONFIG.CMD_CREATE)
    fd = syscalls.fsmount(fs, MOUNT_ATTR.NOSUID)
    os.close(fs)
    return fd


def test_errors_name_the_call_and_the_object() -> None:
    with pytest.raises(OSError, match="mount: No such file") as caught:
        syscalls.mount(b"x", b"/no/such", b"tmpfs", 0)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "/no/such")
    with pytest.raises(OSError, match="fsopen: No such device"):
        syscalls.fsopen(b"nosuchfs")


def test_a_detached_file_system_is_moved_by_descriptor(tmp_path: Path) -> None:
    def body() -> None:
        fd = tmpfs()
        target = os.open(tmp_path, os.O_PATH)
        syscalls.move_mount(fd, b"", target, b"", MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH)
        (tmp_path / "inside").touch()
        assert syscalls.fstatfs_type(fd) == TMPFS_MAGIC
        mount = find_mount(str(tmp_path), read_mountinfo())
        assert mount is not None
        assert mount.fstype == "tmpfs"
        assert "nosuid" in mount.options
        syscalls.umount2(os.fsencode(tmp_path), MNT.DETACH)

    in_child(body)
    assert list(tmp_path.iterdir()) == []


def test_a_clone_can_be_made_read_only_alone(tmp_path: Path) -> None:
    fd = syscalls.open_tree(AT_FDCWD, os.fsencode(tmp_path), OPEN_TREE.CLONE)
    syscalls.mount_setattr(fd, b"", AT.EMPTY_PATH, attr_set=MOUNT_ATTR.RDONLY)
    with pytest.raises(OSError, match="Read-only"):
        os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    (tmp_path / "x").touch()
    os.close(fd)


def test_openat2_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "up").symlink_to("../../../../../../etc/hostname")
    (tmp_path / "here").touch()
    root = os.open(tmp_path, os.O_PATH)
    with pytest.raises(FileNotFoundError):
        syscalls.openat2(root, b"up", os.O_PATH, resolve=RESOLVE.IN_ROOT)
    with pytest.raises(OSError, match="openat2") as caught:
        syscalls.openat2(root, b"../x", os.O_PATH, resolve=RESOLVE.BENEATH)
    assert caught.value.errno == errno.EXDEV
    fd = syscalls.openat2(root, b"/../here", os.O_PATH, resolve=RESOLVE.IN_ROOT)
    assert not os.get_inheritable(fd)
    os.close(fd)
    os.close(root)


def test_clone3_makes_the_first_process_of_a_pid_namespace() -> None:
    def body() -> None:
        assert os.getpid() == 1

    in_child(body, CLONE.NEWPID | CLONE.NEWNS)


def test_close_range_and_pidfd_getfd() -> None:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pidfd = os.pidfd_open(os.getpid())
    copy = syscalls.pidfd_getfd(pidfd, write_end)
    os.write(copy, b"x")
    assert os.read(read_end, 1) == b"x"
    for fd in (copy, pidfd, read_end, write_end):
        os.close(fd)

    def body() -> None:
        fds = [os.dup(0) for _ in range(5)]
        syscalls.close_range(fds[1], fds[3])
        os.fstat(fds[0])
        os.fstat(fds[4])
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fds[2])

    in_child(body)


def test_ids_and_capabilities_are_changed_for_good() -> None:
    def body() -> None:
        caps.own_sets()  # loads its codec while this user may read the library
        syscalls.prctl(PR.SET_KEEPCAPS, 1)
        syscalls.set_ids(1234, 2345, (3456,))
        wanted = caps.mask_of(["CAP_CHOWN", "CAP_KILL"])
        syscalls.capset(wanted, wanted, 0)
        assert os.getresuid() == (1234,) * 3
        assert os.getresgid() == (2345,) * 3
        assert os.getgroups() == [3456]
        assert caps.own_sets()["Eff"] == wanted
        with pytest.raises(PermissionError):
            syscalls.mount(b"x", b"/tmp", b"tmpfs", 0)

    in_child(body)


def test_a_pty_comes_from_its_own_devpts() -> None:
    fs = syscalls.fsopen(b"devpts")
    syscalls.fsconfig(fs, FSCONFIG.SET_STRING, b"ptmxmode", b"0666")
    syscalls.fsconfig(fs, FSCONFIG.CMD_CREATE)
    devpts = syscalls.fsmount(fs, 0)
    os.close(fs)
    assert syscalls.fstatfs_type(devpts) == DEVPTS_SUPER_MAGIC
    master, slave = tty.open_pty(devpts)
    tty.set_window_size(master, 40, 100)
    assert tty.get_window_size(slave) == (40, 100)
    os.write(master, b"hello\n")
    assert os.read(slave, 100) == b"hello\n"
    for fd in (master, slave, devpts):
        os.close(fd)


def test_what_is_no_devpts_gives_no_pty(tmp_path: Path) -> None:
    fake = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="not a devpts"):
        tty.open_pty(fake)
    os.close(fake)


def test_proc_is_known_by_descriptor() -> None:
    fd = os.open("/proc", os.O_PATH)
    assert syscalls.fstatfs_type(fd) == PROC_SUPER_MAGIC
    os.close(fd)


def test_device_programs_are_loaded_and_verified() -> None:
    program = bpf.instruction(0xB4, 0, immediate=1) + bpf.instruction(0x95)
    fd = bpf.load_device_program(program)
    assert stat.S_ISREG(os.fstat(fd).st_mode) or fd > 2
    os.close(fd)
    with pytest.raises(OSError, match="bpf"):
        bpf.load_device_program(bpf.instruction(0x95))  # r0 is never set


def test_mountinfo_lines() -> None:
    line = "36 35 98:0 /a\\040b /mnt\\011x rw,noatime shared:7 master:1 - ext3 /dev/root rw,errors=continue\n"
    mount = MountInfo(line)
    assert (mount.root, mount.mount_point, mount.source) == ("/a b", "/mnt\tx", "/dev/root")
    assert mount.is_shared()
    assert mount.is_slave()
    assert "errors=continue" in mount.super_options
    mounts = [
        MountInfo(f"{i} 0 0:{i} / {path} rw - tmpfs tmpfs rw")
        for i, path in enumerate(("/", "/a", "/a/b", "/a"))
    ]
    assert [find_mount(path, mounts).mount_id for path in ("/x", "/ab", "/a/c", "/a/b/c")] == [
        *(0, 0, 3, 2)
    ]


def test_kernel_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_release("6.18.44-cloud-amd64") == (6, 18)
    assert parse_release("7") == (7, 0)
    monkeypatch.setenv("WHERRY_ASSUME_KERNEL", "6.1")
    assert may_use(6, 1)
    assert not may_use(6, 8)
    monkeypatch.delenv("WHERRY_ASSUME_KERNEL")
    assert may_use(99, 0)
