"""System calls that Python's os module lacks, each a few lines; the only file that loads libc.

Every call raises OSError(errno, "call: strerror", object) and opens with close-on-exec. Prototypes are set
once, at import: nothing here may be loaded or resolved after a process has entered an untrusted root. Each
wrapper of `syscall(2)` has a function object of its own, because ctypes keeps argument types per object.
"""

from __future__ import annotations

import ctypes
import errno as _errno
import os
import stat
import struct
from collections.abc import Iterable, Sequence
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_ulong, c_void_p

from wherry.kernel.consts import (
    CLONE,
    FSMOUNT,
    FSOPEN,
    IOPRIO_WHO_PROCESS,
    KEYCTL_JOIN_SESSION_KEYRING,
    OPEN_TREE,
    SECCOMP_SET_MODE_FILTER,
    NR_bpf,
    NR_capset,
    NR_clone3,
    NR_close_range,
    NR_fsconfig,
    NR_fsmount,
    NR_fsopen,
    NR_ioprio_set,
    NR_keyctl,
    NR_mount_setattr,
    NR_move_mount,
    NR_open_tree,
    NR_openat2,
    NR_pidfd_getfd,
    NR_pivot_root,
    NR_rt_sigaction,
    NR_seccomp,
    NR_setgroups,
    NR_setresgid,
    NR_setresuid,
)

_libc = ctypes.CDLL(None, use_errno=True)
# PyDLL keeps the interpreter lock: clone3 must not let another thread run between fork's hooks.
_libc_locked = ctypes.PyDLL(None, use_errno=True)


def _name(path: bytes | str | int | None) -> str | int | None:
    return os.fsdecode(path) if isinstance(path, bytes) else path


def _fail(call: str, path: bytes | str | int | None = None) -> OSError:
    number = ctypes.get_errno()
    why = os.strerror(number)
    if number == _errno.ENOSYS:
        why += " (this kernel is too old, or a seccomp filter hides the call)"
    text = f"{call}: {why}"
    return OSError(number, text, _name(path)) if path is not None else OSError(number, text)


# Structures are packed as bytes: a pointer to them is what the kernel reads.
_MOUNT_ATTR = struct.Struct("=QQQQ")  # attr_set, attr_clr, propagation, userns_fd
_OPEN_HOW = struct.Struct("=QQQ")  # flags, mode, resolve
# flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup
_CLONE_ARGS = struct.Struct("=11Q")
_LONG = struct.Struct("@l")
_DEFAULT_ACTION = bytes(32)  # struct kernel_sigaction: SIG_DFL, no flags, empty mask
_SOCK_FPROG = struct.Struct("@HP")  # len, filter
_CAP_HEADER = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, own thread
_CAP_DATA = struct.Struct("=6I")  # effective, permitted, inheritable: low words, then high words

_mount = _libc.mount
_mount.argtypes = [c_char_p, c_char_p, c_char_p, c_ulong, c_char_p]
_umount2 = _libc.umount2
_umount2.argtypes = [c_char_p, c_int]
_setns = _libc.setns
_setns.argtypes = [c_int, c_int]
_unshare = _libc.unshare
_unshare.argtypes = [c_int]
_prctl = _libc.prctl
_prctl.argtypes = [c_int, c_ulong, c_ulong, c_ulong, c_ulong]
_setdomainname = _libc.setdomainname
_setdomainname.argtypes = [c_char_p, c_size_t]
_personality = _libc.personality
_personality.argtypes = [c_ulong]
_fstatfs = _libc.fstatfs
_fstatfs.argtypes = [c_int, c_char_p]
_syncfs = _libc.syncfs
_syncfs.argtypes = [c_int]
_ioctl = _libc.ioctl
_ioctl.argtypes = [c_int, c_ulong, c_long]
_inotify_init1 = _libc.inotify_init1
_inotify_init1.argtypes = [c_int]
_inotify_add_watch = _libc.inotify_add_watch
_inotify_add_watch.argtypes = [c_int, c_char_p, c_uint]


def _prototype(*argtypes: type) -> ctypes._FuncPointer:
    function = _libc["syscall"]
    function.restype = c_long
    function.argtypes = [c_long, *argtypes]
    return function


_open_tree = _prototype(c_int, c_char_p, c_uint)
_move_mount = _prototype(c_int, c_char_p, c_int, c_char_p, c_uint)
_fsopen = _prototype(c_char_p, c_uint)
_fsconfig = _prototype(c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = _prototype(c_int, c_uint, c_uint)
_close_range = _prototype(c_uint, c_uint, c_uint)
_openat2 = _prototype(c_int, c_char_p, c_char_p, c_size_t)
_mount_setattr = _prototype(c_int, c_char_p, c_uint, c_char_p, c_size_t)
_pidfd_getfd = _prototype(c_int, c_int, c_uint)
_pivot_root = _prototype(c_char_p, c_char_p)
_keyctl = _prototype(c_int, c_char_p)
_seccomp = _prototype(c_uint, c_uint, c_char_p)
_bpf = _prototype(c_int, c_void_p, c_uint)
_ioprio_set = _prototype(c_int, c_int, c_int)
_rt_sigaction = _prototype(c_int, c_char_p, c_void_p, c_size_t)
_setresuid = _prototype(c_uint, c_uint, c_uint)
_setresgid = _prototype(c_uint, c_uint, c_uint)
_setgroups = _prototype(c_size_t, c_char_p)
_capset = _prototype(c_char_p, c_char_p)
_clone3 = _libc_locked["syscall"]
_clone3.restype = c_long
_clone3.argtypes = [c_long, c_char_p, c_size_t]
_before_fork = ctypes.pythonapi.PyOS_BeforeFork
_after_fork_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
_after_fork_child = ctypes.pythonapi.PyOS_AfterFork_Child
for _hook in (_before_fork, _after_fork_parent, _after_fork_child):
    _hook.argtypes = []
    _hook.restype = None


def mount(
    source: bytes | None, target: bytes, fstype: bytes | None, flags: int, data: bytes | None = None
) -> None:
    """mount(2)."""
    if _mount(source, target, fstype, flags, data) < 0:
        raise _fail("mount", target)


def umount2(target: bytes, flags: int) -> None:
    """umount2(2)."""
    if _umount2(target, flags) < 0:
        raise _fail("umount2", target)


def pivot_root(new_root: bytes, put_old: bytes) -> None:
    """pivot_root(2)."""
    if _pivot_root(NR_pivot_root, new_root, put_old) < 0:
        raise _fail("pivot_root", new_root)


def setns(fd: int, flags: int) -> None:
    """setns(2); `fd` may be a namespace or a pidfd."""
    if _setns(fd, flags) < 0:
        raise _fail("setns")


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _unshare(flags) < 0:
        raise _fail("unshare")


def prctl(option: int, arg2: int = 0, arg3: int = 0) -> int:
    """prctl(2)."""
    result: int = _prctl(option, arg2, arg3, 0, 0)
    if result < 0:
        raise _fail(f"prctl {option}")
    return result


def setdomainname(name: bytes) -> None:
    """setdomainname(2)."""
    if _setdomainname(name, len(name)) < 0:
        raise _fail("setdomainname", name)


def personality(persona: int) -> None:
    """personality(2)."""
    if _personality(persona) < 0:
        raise _fail("personality")


def fstatfs_type(fd: int) -> int:
    """The f_type of fstatfs(2): which kind of file system a descriptor is on."""
    buffer = ctypes.create_string_buffer(256)
    if _fstatfs(fd, buffer) < 0:
        raise _fail("fstatfs")
    kind: int = _LONG.unpack_from(buffer)[0]
    return kind & 0xFFFFFFFF


def syncfs(fd: int) -> None:
    """syncfs(2): writes the whole file system of a descriptor to disk."""
    if _syncfs(fd) < 0:
        raise _fail("syncfs")


def ioctl(fd: int, request: int, argument: int = 0) -> int:
    """ioctl(2) with an integer argument."""
    result: int = _ioctl(fd, request, argument)
    if result < 0:
        raise _fail("ioctl")
    return result


def inotify_init1(flags: int) -> int:
    """inotify_init1(2)."""
    fd: int = _inotify_init1(flags)
    if fd < 0:
        raise _fail("inotify_init1")
    return fd


def inotify_add_watch(fd: int, path: bytes, mask: int) -> int:
    """inotify_add_watch(2)."""
    watch: int = _inotify_add_watch(fd, path, mask)
    if watch < 0:
        raise _fail("inotify_add_watch", path)
    return watch


def open_tree(dir_fd: int, path: bytes, flags: int) -> int:
    """open_tree(2)."""
    fd: int = _open_tree(NR_open_tree, dir_fd, path, flags | OPEN_TREE.CLOEXEC)
    if fd < 0:
        raise _fail("open_tree", path)
    return fd


def move_mount(from_fd: int, from_path: bytes, to_fd: int, to_path: bytes, flags: int) -> None:
    """move_mount(2)."""
    if _move_mount(NR_move_mount, from_fd, from_path, to_fd, to_path, flags) < 0:
        raise _fail("move_mount", to_path)


def fsopen(fstype: bytes) -> int:
    """fsopen(2)."""
    fd: int = _fsopen(NR_fsopen, fstype, FSOPEN.CLOEXEC)
    if fd < 0:
        raise _fail("fsopen", fstype)
    return fd


def fsconfig(
    fs_fd: int,
    command: int,
    key: bytes | None = None,
    value: bytes | None = None,
    aux: int = 0,
) -> None:
    """fsconfig(2)."""
    if _fsconfig(NR_fsconfig, fs_fd, command, key, value, aux) < 0:
        raise _fail("fsconfig", key)


def fsmount(fs_fd: int, attributes: int) -> int:
    """fsmount(2)."""
    fd: int = _fsmount(NR_fsmount, fs_fd, FSMOUNT.CLOEXEC, attributes)
    if fd < 0:
        raise _fail("fsmount")
    return fd


def mount_setattr(
    dir_fd: int,
    path: bytes,
    flags: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2)."""
    attr = _MOUNT_ATTR.pack(attr_set, attr_clr, propagation, userns_fd)
    if _mount_setattr(NR_mount_setattr, dir_fd, path, flags, attr, len(attr)) < 0:
        raise _fail("mount_setattr", path)


def openat2(dir_fd: int, path: bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), always with O_CLOEXEC; EAGAIN (a rename raced with `..`) is tried again."""
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(128):
        fd: int = _openat2(NR_openat2, dir_fd, path, how, len(how))
        if fd >= 0:
            return fd
        if ctypes.get_errno() != _errno.EAGAIN:
            break
    raise _fail("openat2", path)


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """close_range(2)."""
    if first <= last and _close_range(NR_close_range, first, last, 0) < 0:
        raise _fail("close_range")


def keep_only(descriptors: Iterable[int]) -> None:
    """Close every descriptor above 2 that is not named."""
    first = 3
    for fd in sorted({fd for fd in descriptors if fd > 2}):
        close_range(first, fd - 1)
        first = fd + 1
    close_range(first)


def chmod_beneath(dir_fd: int, name: bytes | str, mode: int) -> None:
    """chmod of a name that is not followed: os.chmod with a descriptor follows what was swapped in for it.

    fchmodat2 with AT_SYMLINK_NOFOLLOW came with Linux 6.6. Needs the machine's /proc.
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(_errno.ELOOP, "chmod: " + os.strerror(_errno.ELOOP), name)
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def keyctl_join_session_keyring(name: bytes | None) -> int:
    """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING: a new session keyring."""
    serial: int = _keyctl(NR_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name)
    if serial < 0:
        raise _fail("keyctl join_session_keyring")
    return serial


def set_ids(uid: int, gid: int, groups: Sequence[int] | None) -> None:
    """setgroups(2) (None: leave them), setresgid(2), setresuid(2) of the calling thread.

    libc's own versions tell every thread it knows of and wait for each: after clone3 those are threads of
    the parent, which do not exist here.
    """
    if groups is not None:
        packed = struct.pack(f"={len(groups)}I", *groups)
        if _setgroups(NR_setgroups, len(groups), packed) < 0:
            raise _fail("setgroups")
    if _setresgid(NR_setresgid, gid, gid, gid) < 0:
        raise _fail("setresgid")
    if _setresuid(NR_setresuid, uid, uid, uid) < 0:
        raise _fail("setresuid")


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of the calling thread; sets are bit masks."""
    sets = (effective, permitted, inheritable)
    data = _CAP_DATA.pack(*(mask & 0xFFFFFFFF for mask in sets), *(mask >> 32 for mask in sets))
    if _capset(NR_capset, _CAP_HEADER, data) < 0:
        raise _fail("capset")


def seccomp_set_mode_filter(program: bytes, flags: int = 0) -> None:
    """seccomp(2), SECCOMP_SET_MODE_FILTER; `program` holds struct sock_filter after struct sock_filter."""
    buffer = ctypes.create_string_buffer(program, len(program))
    argument = _SOCK_FPROG.pack(len(program) // 8, ctypes.addressof(buffer))
    if _seccomp(NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, argument) < 0:
        raise _fail("seccomp")


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2); `attributes` is union bpf_attr, pointers in it must stay alive during the call."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = _bpf(NR_bpf, command, ctypes.addressof(buffer), len(attributes))
    if result < 0:
        raise _fail("bpf")
    return result


def bpf_inout(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    """bpf(2) with a union bpf_attr that the kernel writes to."""
    result: int = _bpf(NR_bpf, command, ctypes.addressof(attributes), len(attributes))
    if result < 0:
        raise _fail("bpf")
    return result


def pidfd_getfd(pidfd: int, target_fd: int) -> int:
    """pidfd_getfd(2): a duplicate of another process's descriptor."""
    fd: int = _pidfd_getfd(NR_pidfd_getfd, pidfd, target_fd, 0)
    if fd < 0:
        raise _fail("pidfd_getfd")
    return fd


def reset_signal(number: int) -> None:
    """rt_sigaction(2) to SIG_DFL. libc's own function refuses the two signals that libc keeps for itself,
    which its posix_spawn leaves ignored in children."""
    if _rt_sigaction(NR_rt_sigaction, number, _DEFAULT_ACTION, None, 8) < 0:
        raise _fail("rt_sigaction", number)


def ioprio_set_self(priority: int) -> None:
    """ioprio_set(2) of the calling thread."""
    if _ioprio_set(NR_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) < 0:
        raise _fail("ioprio_set")


def clone3(flags: int, *, exit_signal: int, cgroup_fd: int = -1) -> int:
    """clone3(2) like fork: 0 in the child, its pid in the parent.

    Only for a process with one thread. Python's own fork hooks run around the call (no frame is shared:
    the child has a copy of everything), so that both sides may go on as after os.fork().
    """
    into = CLONE.INTO_CGROUP if cgroup_fd >= 0 else 0
    arguments = _CLONE_ARGS.pack(
        flags | into, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, max(cgroup_fd, 0)
    )
    _before_fork()
    pid: int = _clone3(NR_clone3, arguments, len(arguments))
    if pid == 0:
        _after_fork_child()
        return 0
    number = ctypes.get_errno()
    _after_fork_parent()
    if pid < 0:
        ctypes.set_errno(number)
        raise _fail("clone3")
    return pid
