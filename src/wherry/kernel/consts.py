"""The kernel's flags and numbers, by the names of its headers: `CLONE.NEWNS` is CLONE_NEWNS.

Plain numbers: an operation on an enum's members is ten calls of Python, and a start has hundreds of them.
Only values; which of them to use is decided by the layers above. System call numbers that libc has no
symbol for are here too: those from 424 on are the same on every architecture.
"""

from __future__ import annotations

import os


class CLONE:
    """clone(2), unshare(2), setns(2)."""

    NEWTIME = 0x00000080
    PIDFD = 0x00001000
    PARENT = 0x00008000
    NEWNS = 0x00020000
    NEWCGROUP = 0x02000000
    NEWUTS = 0x04000000
    NEWIPC = 0x08000000
    NEWUSER = 0x10000000
    NEWPID = 0x20000000
    NEWNET = 0x40000000
    INTO_CGROUP = 0x200000000


class MS:
    """mount(2)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    MANDLOCK = 64
    DIRSYNC = 128
    NOSYMFOLLOW = 256
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    MOVE = 8192
    REC = 16384
    SILENT = 32768
    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    STRICTATIME = 1 << 24
    LAZYTIME = 1 << 25


class MNT:
    """umount2(2)."""

    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8  # UMOUNT_NOFOLLOW


class MOUNT_ATTR:
    """mount_setattr(2), fsmount(2)."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    NOATIME = 0x10
    STRICTATIME = 0x20
    ATIME = 0x70  # MOUNT_ATTR__ATIME, the mask of the atime mode; the mode relatime is 0
    NODIRATIME = 0x80
    IDMAP = 0x100000
    NOSYMFOLLOW = 0x200000


class IN:
    """inotify(7)."""

    MODIFY = 0x2
    MOVED_TO = 0x80
    CREATE = 0x100


class OPEN_TREE:
    """open_tree(2)."""

    CLONE = 1
    CLOEXEC = os.O_CLOEXEC


class MOVE_MOUNT:
    """move_mount(2)."""

    F_SYMLINKS = 0x1
    F_EMPTY_PATH = 0x4
    T_SYMLINKS = 0x10
    T_EMPTY_PATH = 0x40


class FSOPEN:
    """fsopen(2)."""

    CLOEXEC = 1


class FSMOUNT:
    """fsmount(2)."""

    CLOEXEC = 1


class FSCONFIG:
    """fsconfig(2) commands."""

    SET_FLAG = 0
    SET_STRING = 1
    SET_PATH_EMPTY = 4
    SET_FD = 5
    CMD_CREATE = 6
    CMD_RECONFIGURE = 7


class AT:
    """The *at family."""

    SYMLINK_NOFOLLOW = 0x100
    EMPTY_PATH = 0x1000
    RECURSIVE = 0x8000


AT_FDCWD = -100


class RESOLVE:
    """openat2(2)."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10


class PR:
    """prctl(2)."""

    SET_PDEATHSIG = 1
    SET_DUMPABLE = 4
    SET_KEEPCAPS = 8
    SET_NAME = 15
    CAPBSET_READ = 23
    CAPBSET_DROP = 24
    SET_SECUREBITS = 28
    SET_CHILD_SUBREAPER = 36
    SET_NO_NEW_PRIVS = 38
    CAP_AMBIENT = 47


PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

KEYCTL_JOIN_SESSION_KEYRING = 1

SECCOMP_SET_MODE_FILTER = 1

IOPRIO_WHO_PROCESS = 1
IOPRIO_CLASS_SHIFT = 13
IOPRIO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}

# Values of statfs.f_type that tell a file system by descriptor.
PROC_SUPER_MAGIC = 0x9FA0
DEVPTS_SUPER_MAGIC = 0x1CD1
OVERLAYFS_SUPER_MAGIC = 0x794C7630
TMPFS_MAGIC = 0x01021994
NSFS_MAGIC = 0x6E736673

TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441

# From 424 on the numbers are the same on every architecture.
NR_open_tree = 428
NR_move_mount = 429
NR_fsopen = 430
NR_fsconfig = 431
NR_fsmount = 432
NR_clone3 = 435
NR_close_range = 436
NR_openat2 = 437
NR_pidfd_getfd = 438
NR_mount_setattr = 442

_MACHINE = os.uname().machine
_OLD_CALLS = (
    "pivot_root",
    "keyctl",
    "seccomp",
    "bpf",
    "ioprio_set",
    "capset",
    "rt_sigaction",
    "setresuid",
    "setresgid",
    "setgroups",
)
_GENERIC = (41, 219, 277, 280, 30, 91, 134, 147, 149, 159)
_OLD_NUMBERS = {
    "x86_64": (155, 250, 317, 321, 251, 126, 13, 117, 119, 116),
    "s390x": (217, 280, 348, 351, 282, 185, 174, 208, 210, 206),
    "ppc64le": (203, 271, 358, 361, 273, 184, 173, 164, 169, 81),
}
_NUMBERS = dict(zip(_OLD_CALLS, _OLD_NUMBERS.get(_MACHINE, _GENERIC), strict=True))
NR_pivot_root = _NUMBERS["pivot_root"]
NR_keyctl = _NUMBERS["keyctl"]
NR_seccomp = _NUMBERS["seccomp"]
NR_bpf = _NUMBERS["bpf"]
NR_ioprio_set = _NUMBERS["ioprio_set"]
NR_capset = _NUMBERS["capset"]
NR_rt_sigaction = _NUMBERS["rt_sigaction"]
NR_setresuid = _NUMBERS["setresuid"]
NR_setresgid = _NUMBERS["setresgid"]
NR_setgroups = _NUMBERS["setgroups"]
