"""The process itself, from a copy of the launching interpreter to the user's program with a clean slate.

Order matters: what needs privilege comes first; without no_new_privs the seccomp filter is loaded while
CAP_SYS_ADMIN is still held, with it, last; the parent-death signal is set after the last change of ids,
which clears it. After `Identify` the steps use only what is already imported.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import stat

from wherry.kernel import caps, syscalls, tty
from wherry.kernel.consts import (
    PERSONALITIES,
    PR,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PROC_SUPER_MAGIC,
)
from wherry.runtime import users
from wherry.runtime.context import Context
from wherry.runtime.errors import StepError, reason
from wherry.runtime.spec import Capabilities, Process, Rlimit
from wherry.runtime.steps import Step
from wherry.runtime.steps.paths import ensure_in_root, open_beneath, open_in_root

_LIMITS = {
    name: number
    for name, number in vars(resource).items()
    if name.startswith("RLIMIT_") and isinstance(number, int)
}
_LIMITS.setdefault("RLIMIT_LOCKS", 10)
_LIMITS.setdefault("RLIMIT_RTTIME", 15)
_UNLIMITED = (1 << 64) - 1
_ALL_CPUS = range(1024)


class CleanSlate(Step):
    """Affinity, umask, session and keyring of its own: nothing of the engine is inherited.

    Nor are policy and niceness, which the launcher resets: a user namespace has no say in them.
    """

    __slots__ = ("io_priority", "umask")
    name = "session"

    def __init__(self, umask: int, io_priority: int = 0) -> None:
        self.umask = umask
        self.io_priority = io_priority

    def describe(self) -> str:
        return "start a session with default affinity and umask"

    def apply(self, context: Context) -> None:  # noqa: ARG002 - the interface's
        os.umask(self.umask)
        syscalls.ioprio_set_self(self.io_priority)
        if len(os.sched_getaffinity(0)) != os.cpu_count():
            os.sched_setaffinity(0, _ALL_CPUS)
        try:
            # Without a name: by name it would join that of another container.
            syscalls.keyctl_join_session_keyring(None)
        except OSError as error:
            # Kernels without keys, or a quota that is used up: runc goes on as well.
            if error.errno not in {errno.ENOSYS, errno.EDQUOT, errno.EPERM, errno.EACCES}:
                raise
        if os.getsid(0) != os.getpid():
            os.setsid()


class Rlimits(Step):
    """process.rlimits; a hard limit above our own is clamped where CAP_SYS_RESOURCE is missing."""

    __slots__ = ("limits",)
    name = "rlimit"

    def __init__(self, limits: tuple[Rlimit, ...]) -> None:
        self.limits = limits

    def describe(self) -> str:
        return "set " + ", ".join(limit.kind for limit in self.limits)

    def apply(self, context: Context) -> None:  # noqa: ARG002 - the interface's
        for limit in self.limits:
            kind = _LIMITS.get(limit.kind)
            if kind is None:
                raise StepError(limit.kind, f"invalid rlimit type: {limit.kind}", errno.EINVAL)
            soft, hard = _unsigned(limit.soft), _unsigned(limit.hard)
            if hard != -1 and (soft == -1 or soft > hard):
                raise StepError(limit.kind, "soft limit is above the hard limit", errno.EINVAL)
            try:
                resource.setrlimit(kind, (soft, hard))
            except (OSError, ValueError):
                ceiling = resource.getrlimit(kind)[1]
                hard = _lower(hard, ceiling)
                resource.setrlimit(kind, (_lower(soft, hard), hard))


class StandardStreams(Step):
    """Descriptors 0, 1 and 2: the pty's slave as controlling terminal, or the pipes given."""

    __slots__ = ("terminal",)
    name = "stdio"

    def __init__(self, *, terminal: bool) -> None:
        self.terminal = terminal

    def describe(self) -> str:
        return "take the terminal" if self.terminal else "take the standard streams"

    def apply(self, context: Context) -> None:
        if self.terminal:
            tty.set_controlling_terminal(context.terminal)
            streams = (context.terminal,) * 3
        elif context.stdio is None:
            raise StepError("stdio", "neither a terminal nor streams were given", errno.EINVAL)
        else:
            streams = context.stdio
        # Out of the way first: one of them may have a number that another is to get.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in streams]
        for number, fd in enumerate(high):
            os.dup2(fd, number, inheritable=True)
            os.close(fd)


class WorkingDirectory(Step):
    """process.cwd, made if it is missing (as root, before the user is known to be able to enter it)."""

    __slots__ = ("create", "path")
    name = "cwd"

    def __init__(self, path: str, *, create: bool) -> None:
        self.path = path
        self.create = create

    def describe(self) -> str:
        return f"{'make' if self.create else 'find'} the working directory {self.path}"

    def apply(self, context: Context) -> None:
        if not self.create or self.path == "/":
            return
        try:
            fd, _ = ensure_in_root(context.root, self.path, directory=True)
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
            os.close(fd)
            if not is_directory:
                # moby's sentence (container.SetupWorkingDirectory), which comes without runc's frame.
                text = f"Cannot mkdir: {self.path} is not a directory"
                raise StepError(self.path, text, errno.ENOTDIR, step="workdir")
        except OSError as error:
            why = reason(error.errno or 0)
            raise StepError(self.path, f"mkdir {self.path}: {why}", error.errno or 0) from error


class Identify(Step):
    """Find out who the process will be, from the root's own passwd and group."""

    __slots__ = ("process",)
    name = "user"

    def __init__(self, process: Process) -> None:
        self.process = process

    def describe(self) -> str:
        user = self.process.user
        return f"resolve user {user.username if user.username is not None else user.uid!r}"

    def apply(self, context: Context) -> None:
        user = self.process.user
        passwd = users.parse_passwd(users.read_file(context.root, b"/etc/passwd"))
        context.passwd = passwd
        if user.username is None:
            home = users.home_of(user.uid, passwd)
            context.identity = users.Identity(user.uid, user.gid, user.additional_gids, home)
            return
        group = users.parse_group(users.read_file(context.root, b"/etc/group"))
        found = users.resolve_user(user.username, user.additional_groups, passwd, group)
        groups = tuple(dict.fromkeys((*found.groups, *user.additional_gids)))
        # The home directory is by uid, as runc looks it up, not by the name that was given.
        home = users.home_of(found.uid, passwd)
        context.identity = users.Identity(found.uid, found.gid, groups, home)


class OwnStandardStreams(Step):
    """fchown of pipes and terminal to the user, so that /dev/stdout can be opened again by name."""

    __slots__ = ()
    name = "stdio"

    def describe(self) -> str:
        return "give the standard streams to the user"

    def apply(self, context: Context) -> None:
        uid = context.identity.uid
        for number in (0, 1, 2):
            found = os.fstat(number)
            if found.st_uid == uid or stat.S_ISREG(found.st_mode):
                continue
            if stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == 1:
                continue  # the null device is everybody's
            try:
                os.fchown(number, uid, -1)
            except OSError as error:
                if error.errno not in {errno.EINVAL, errno.EPERM, errno.EROFS}:
                    raise


class NoNewPrivileges(Step):
    """process.noNewPrivileges."""

    __slots__ = ()
    name = "no_new_privs"

    def describe(self) -> str:
        return "set no_new_privs"

    def apply(self, context: Context) -> None:  # noqa: ARG002 - the interface's
        syscalls.prctl(PR.SET_NO_NEW_PRIVS, 1)


class Seccomp(Step):
    """The compiled filter."""

    __slots__ = ("flags", "program")
    name = "seccomp"

    def __init__(self, program: bytes, flags: int) -> None:
        self.program = program
        self.flags = flags

    def describe(self) -> str:
        return f"load a seccomp filter of {len(self.program) // 8} instructions"

    def apply(self, context: Context) -> None:  # noqa: ARG002 - the interface's
        syscalls.seccomp_set_mode_filter(self.program, self.flags)


class AppArmor(Step):
    """process.apparmorProfile, in force from exec on."""

    __slots__ = ("profile",)
    name = "apparmor"

    def __init__(self, profile: str) -> None:
        self.profile = profile

    def describe(self) -> str:
        return f"use AppArmor profile {self.profile}"

    def apply(self, context: Context) -> None:
        proc = open_in_root(context.root, "/proc")
        try:
            if syscalls.fstatfs_type(proc) != PROC_SUPER_MAGIC:
                raise StepError(self.profile, "AppArmor needs a proc file system at /proc")
            for name in ("apparmor/exec", "exec"):
                if self._write(proc, f"{os.getpid()}/attr/{name}"):
                    return
            raise StepError(self.profile, "apparmor is not supported by this kernel")
        finally:
            os.close(proc)

    def _write(self, proc: int, path: str) -> bool:
        try:
            fd = open_beneath(proc, path, os.O_WRONLY)
        except FileNotFoundError:
            return False
        try:
            os.write(fd, os.fsencode(f"exec {self.profile}"))
        except OSError as error:
            text = f"apparmor failed to apply profile: {reason(error.errno or 0)}"
            raise StepError(self.profile, text, error.errno or 0) from error
        finally:
            os.close(fd)
        return True


class Personality(Step):
    """linux.personality."""

    __slots__ = ("domain",)
    name = "personality"

    def __init__(self, domain: str) -> None:
        self.domain = domain

    def describe(self) -> str:
        return f"set personality {self.domain}"

    def apply(self, context: Context) -> None:  # noqa: ARG002 - the interface's
        syscalls.personality(PERSONALITIES[self.domain])


class BoundingSet(Step):
    """Drop what process.capabilities.bounding does not name."""

    __slots__ = ("keep",)
    name = "capabilities"

    def __init__(self, keep: int) -> None:
        self.keep = keep

    def describe(self) -> str:
        return f"limit the bounding set to {self.keep:#x}"

    def apply(self, context: Context) -> None:  # noqa: ARG002 - the interface's
        for number in range(64):
            if self.keep >> number & 1:
                continue
            try:
                syscalls.prctl(PR.CAPBSET_DROP, number)
            except OSError as error:
                if error.errno == errno.EINVAL:  # above the kernel's last capability
                    return
                raise


class CloseDescriptors(Step):
    """Everything above 2 but the report pipe, and what the caller wants kept.

    Before the working directory is entered: "/proc/self/fd/N" must not lead below a mask, into the
    namespaces of others, or to what else the steps before have held.
    """

    __slots__ = ()
    name = "descriptors"

    def describe(self) -> str:
        return "close every descriptor that is not the program's"

    def apply(self, context: Context) -> None:
        syscalls.keep_only((context.report, *context.kept))


class ChangeUser(Step):
    """Groups, ids and the remaining capability sets; afterwards the process is the user's."""

    __slots__ = ("capabilities", "cwd")
    name = "ids"

    def __init__(self, capabilities: Capabilities | None, cwd: str) -> None:
        self.capabilities = capabilities
        self.cwd = cwd

    def describe(self) -> str:
        return "change ids and capabilities"

    def apply(self, context: Context) -> None:
        denied = self._enter()
        syscalls.prctl(PR.SET_KEEPCAPS, 1)
        identity = context.identity
        # Where setgroups is denied (rootless maps) none are asked for.
        keep = context.in_user_namespace and not identity.groups
        syscalls.set_ids(identity.uid, identity.gid, None if keep else identity.groups)
        if denied is not None:
            # A directory that only the user may enter (NFS with root_squash, FUSE).
            denied = self._enter()
            if denied is not None:
                why = reason(denied.errno or 0)
                raise StepError(
                    self.cwd,
                    f'chdir to cwd ("{self.cwd}") set in config.json failed: {why}',
                    denied.errno or 0,
                    step="cwd",
                )
        syscalls.prctl(PR.SET_KEEPCAPS, 0)
        sets = self.capabilities
        known = (1 << (_last_cap + 1)) - 1
        if not context.in_user_namespace:
            # Where the engine itself lacks one (a restricted machine), nobody can have it.
            known &= _own_permitted
        if sets is None:
            # As runc: no capabilities in the specification means none.
            syscalls.capset(0, 0, 0)
            return
        syscalls.capset(
            caps.mask_of(sets.effective) & known,
            caps.mask_of(sets.permitted) & known,
            caps.mask_of(sets.inheritable) & known,
        )
        ambient = caps.mask_of(sets.ambient) & known
        if ambient:
            _set_ambient(ambient)

    def _enter(self) -> OSError | None:
        try:
            os.chdir(self.cwd)
        except OSError as error:
            if error.errno == errno.EACCES:
                return error
            why = reason(error.errno or 0)
            raise StepError(
                self.cwd,
                f'chdir to cwd ("{self.cwd}") set in config.json failed: {why}',
                error.errno or 0,
                step="cwd",
            ) from error
        if not os.getcwd().startswith("/"):
            # CVE-2024-21626: a directory outside the root, by way of a leaked descriptor.
            raise StepError(
                self.cwd, "current working directory is outside of the root", step="cwd"
            )
        return None


class DieWithParent(Step):
    """PDEATHSIG last (changing ids clears it), then a look whether the parent is still there."""

    __slots__ = ("detached",)
    name = "parent"

    def __init__(self, *, detached: bool = False) -> None:
        self.detached = detached

    def describe(self) -> str:
        return f"{'outlive' if self.detached else 'die with'} the launching process"

    def apply(self, context: Context) -> None:
        if self.detached:
            syscalls.prctl(PR.SET_PDEATHSIG, 0)
            return
        syscalls.prctl(PR.SET_PDEATHSIG, signal.SIGKILL)
        # The other end of the report pipe is the parent's alone: closed means gone.
        if _poll_error(context.report):
            os._exit(128 + signal.SIGKILL)


class Gate(Step):
    """Between create and start: tell the creator that all is done, then wait for a reader of a FIFO.

    The program is looked for first, so that create fails when it is not there.
    """

    __slots__ = ("fd", "process")
    name = "exec"

    def __init__(self, process: Process, fd: int) -> None:
        self.process = process
        self.fd = fd

    def describe(self) -> str:
        return "wait for start"

    def prepare(self, context: Context) -> None:
        context.kept.append(self.fd)

    def apply(self, context: Context) -> None:
        environment = build_environment(self.process, context.identity.home)
        find_program(self.process.args[0], environment.get(b"PATH", b""))
        os.write(context.report, b"\1ready")
        os.close(context.report)
        context.report = -1
        # Held open for reading and writing, so that this waits for a writer's byte.
        os.read(self.fd, 1)


class Execute(Step):
    """Find the program as the user, in the container's PATH, and become it."""

    __slots__ = ("process",)
    name = "exec"

    def __init__(self, process: Process) -> None:
        self.process = process

    def describe(self) -> str:
        return f"exec {' '.join(self.process.args)}"

    def apply(self, context: Context) -> None:
        environment = build_environment(self.process, context.identity.home)
        name = self.process.args[0]
        path = find_program(name, environment.get(b"PATH", b""))
        arguments = [os.fsencode(argument) for argument in self.process.args]
        for number in range(1, signal.NSIG):
            if number not in {signal.SIGKILL, signal.SIGSTOP}:
                syscalls.reset_signal(number)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        try:
            os.execve(path, arguments, environment)  # noqa: S606 - there is no shell
        except OSError as error:
            # As with Docker the container has started by now: its program's first and last words.
            os.write(2, os.fsencode(f"exec {os.fsdecode(path)}: {reason(error.errno or 0)}\n"))
            os._exit(255)


def build_environment(process: Process, home: str) -> dict[bytes, bytes]:
    """process.env, later entries first; HOME when it is missing or empty, TERM for a terminal."""
    environment: dict[bytes, bytes] = {}
    for item in process.env:
        key, equals, value = item.partition("=")
        if not equals or not key or "\0" in item:
            continue
        environment[os.fsencode(key)] = os.fsencode(value)
    if not environment.get(b"HOME"):
        environment[b"HOME"] = os.fsencode(home or "/")
    if process.terminal:
        environment.setdefault(b"TERM", b"xterm")
    return environment


def find_program(name: str, search: bytes) -> bytes:
    """Go's exec.LookPath, with its sentences (the official client looks for them)."""
    wanted = os.fsencode(name)
    if "/" in name:
        number = _executable(wanted)
        if number:
            why = f"stat {name}: {reason(number)}" if number not in _PLAIN else reason(number)
            raise StepError(name, f'exec: "{name}": {why}', number)
        return wanted
    for folder in search.split(b":"):
        path = (folder or b".") + b"/" + wanted
        if wanted and _executable(path) == 0:
            if not path.startswith(b"/"):
                why = "cannot run executable found relative to current directory"
                raise StepError(name, f'exec: "{name}": {why}', errno.ENOENT)
            return path
    raise StepError(name, f'exec: "{name}": executable file not found in $PATH', errno.ENOENT)


_PLAIN = {errno.EACCES, errno.EISDIR}
_last_cap = caps.last_cap()
_own_permitted = caps.own_sets().get("Prm", (1 << 64) - 1)


def _executable(path: bytes) -> int:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.errno or errno.ENOENT
    if stat.S_ISDIR(mode):
        return errno.EISDIR
    return 0 if os.access(path, os.X_OK, effective_ids=True) else errno.EACCES


def _set_ambient(wanted: int) -> None:
    syscalls.prctl(PR.CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(_last_cap + 1):
        if wanted >> number & 1:
            syscalls.prctl(PR.CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def _unsigned(value: int) -> int:
    return -1 if value == -1 or value >= _UNLIMITED else value


def _lower(value: int, ceiling: int) -> int:
    if ceiling == -1:
        return value
    return ceiling if value == -1 else min(value, ceiling)


def _poll_error(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, 0)
    return bool(poller.poll(0))
