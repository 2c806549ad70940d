"""Starting processes in containers: `launch` makes a container's init, `execute` joins a running one.

Both are called from a process with one thread (a shim, wherry-oci) in the host's mount namespace, and
return when the program has been exec'd. The parent keeps what must outlive init's set-up: a pidfd, the pty's
master, the root's mount (whose release syncs the upper file system, so later is better), and devpts.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import signal
from collections.abc import Callable

from wherry.kernel import syscalls, tty
from wherry.kernel.consts import CLONE
from wherry.runtime.cgroups import Cgroup
from wherry.runtime.context import Context
from wherry.runtime.errors import LaunchError, StepError, describe_exception
from wherry.runtime.init import run_init, run_joiner, run_pid_joiner
from wherry.runtime.interface import Interface
from wherry.runtime.orders import READY
from wherry.runtime.plan import Plan, build_plan, build_stage, process_steps
from wherry.runtime.resolver import open_resolver
from wherry.runtime.root import Root
from wherry.runtime.seccomp import Filter
from wherry.runtime.spec import IdMapping, Process, Spec
from wherry.runtime.steps import Step
from wherry.runtime.steps.cgroup import CgroupMount
from wherry.runtime.steps.namespaces import FLAGS
from wherry.runtime.steps.network import wire

Stdio = tuple[int, int, int]
RECORD_BYTES = 65536
NO_NAMESPACES = 0


class Launched:
    """A process that runs its program now; the descriptors are the caller's to close."""

    __slots__ = ("console", "devpts", "namespaces", "pid", "pidfd", "resolver", "root", "seccomp")

    def __init__(
        self,
        pid: int,
        pidfd: int,
        *,
        console: int = -1,
        root: int = -1,
        devpts: int = -1,
        namespaces: int = NO_NAMESPACES,
        seccomp: Filter | None = None,
        resolver: tuple[int, int] | None = None,
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console = console  # the pty's master, or -1
        self.root = root  # holds the root's mount; also the way to see the container's files
        self.devpts = devpts  # the container's devpts, or -1
        self.namespaces = namespaces  # those that are not the host's: what an exec joins
        self.resolver = resolver  # UDP and TCP sockets of 127.0.0.11
        self.seccomp = seccomp  # the container's filter: execs get the same


def launch(
    spec: Spec,
    *,
    root: Root,
    stdio: Stdio | None,
    cgroup: Cgroup,
    interfaces: tuple[Interface, ...] = (),
    with_resolver: bool = False,
    gate: int = -1,
    for_parent: bool = False,
    outlive: bool = False,
    before_root: Callable[[int], None] | None = None,
    preserve: int = 0,
    orders: _socket.socket | None = None,
    rehearses: bool = False,
) -> Launched:
    """Start a container; raises LaunchError, and then nothing of it is left, a cgroup made here included.

    `stdio` is None for a terminal (the pty comes from the container's devpts) and otherwise three
    descriptors that stay the caller's. The cgroup may have been made already. With `for_parent` the
    process is a child of the caller's parent, which reaps it and whose end it shares. `with_resolver` opens
    the sockets of `runtime.resolver` in its network namespace.

    For a runtime that is a command: with `gate`, a FIFO open both ways, it returns when everything but the
    exec is done, and that waits for a byte in it; `outlive` lets the process live on when its parent
    ends; `before_root` is called with its pid before it has a root; `preserve` descriptors from 3 on stay open.

    With `orders`, init's end of a connection, only what is made ahead is done (`runtime.staging`), and init
    `rehearses` the rest.
    """
    context = Context()
    context.stdio = stdio
    context.orders = orders
    context.rehearses = rehearses
    context.in_user_namespace = spec.namespace("user") is not None
    step = "plan"
    # Containers of a pod may share one: that of others is not ours to empty.
    is_new = not cgroup.exists()
    try:
        if orders is not None:
            plan = build_stage(spec, cgroup, interfaces)
        else:
            plan = build_plan(
                spec,
                root,
                cgroup,
                interfaces,
                gate=gate,
                outlive=outlive,
                wait_early=before_root is not None,
            )
        context.kept += range(3, 3 + preserve)
        created = False
        for item in plan.steps:
            if isinstance(item, CgroupMount) and not created:
                # Not sooner: a move of another process may be holding cgroups, and mounts need no wait.
                step, created = "cgroup", True
                cgroup.create(spec.resources)
            step = item.name
            item.prepare(context)
        if not created:
            step = "cgroup"
            cgroup.create(spec.resources)
        if spec.process.terminal:
            step = "console"
            open_console(context, spec.process, context.devpts)
            if spec.is_new("user"):
                os.fchown(context.terminal, _host_id(spec.uid_mappings), -1)
        return _start(
            spec,
            plan,
            context,
            cgroup,
            interfaces,
            with_resolver=with_resolver,
            for_parent=for_parent,
            before_root=before_root,
        )
    except BaseException as error:
        context.close()
        if is_new:
            forget(cgroup)
        if isinstance(error, (OSError, StepError, ValueError)):
            raise LaunchError(step, *describe_exception(error)) from error
        raise


def _start(
    spec: Spec,
    plan: Plan,
    context: Context,
    cgroup: Cgroup,
    interfaces: tuple[Interface, ...],
    *,
    with_resolver: bool,
    for_parent: bool,
    before_root: Callable[[int], None] | None,
) -> Launched:
    report, context.report = os.pipe2(os.O_CLOEXEC)
    context.go, go = os.pipe2(os.O_CLOEXEC)
    pid = pidfd = cgroup_fd = -1
    resolver: tuple[int, int] | None = None
    step = "clone"
    try:
        cgroup_fd = cgroup.open_for_clone()
        pid = _clone(plan, context, cgroup, cgroup_fd, report, for_parent=for_parent)
        step = "init"
        os.close(context.report)
        context.report = -1
        pidfd = os.pidfd_open(pid)
        step = "network"
        wire(interfaces, pid)
        if with_resolver:
            resolver = open_resolver(pidfd)
        step = "cgroup"
        if cgroup_fd < 0:
            # Last, as it may wait for a grace period of the kernel.
            cgroup.attach(pid)
        step = "user namespace"
        if spec.is_new("user"):
            write_maps(pid, spec.uid_mappings, spec.gid_mappings)
        step = "priority"
        reset_priority(pid)
        step = "oom score"
        if spec.process.oom_score_adj is not None:
            set_oom_score(pid, spec.process.oom_score_adj)
        if before_root is not None:
            before_root(pid)
        try:
            os.write(go, b"g")
        except BrokenPipeError:
            pass  # init has failed already: its record says why
        await_exec(report)
    except BaseException as error:
        if pid > 0:
            end_process(pid)
        for fd in (pidfd, *(resolver or ())):
            if fd >= 0:
                os.close(fd)
        if isinstance(error, OSError):
            if pid > 0 and context.report < 0:
                # When init has failed meanwhile, that is the cause, and what we met its consequence.
                await_exec(report)
            raise LaunchError(step, *describe_exception(error)) from error
        raise
    finally:
        for fd in (go, report, cgroup_fd):
            if fd >= 0:
                os.close(fd)
    context.close_private()
    return Launched(
        pid,
        pidfd,
        console=context.console,
        root=context.root,
        devpts=context.devpts,
        namespaces=namespaces_of(spec),
        seccomp=plan.seccomp,
        resolver=resolver,
    )


def execute(
    target: Launched,
    process: Process,
    *,
    cgroup: Cgroup,
    stdio: Stdio | None,
    for_parent: bool = False,
    outlive: bool = False,
    preserve: int = 0,
) -> Launched:
    """Start another process in a running container; raises LaunchError.

    The container's pidfd leads into its namespaces, its filter is loaded, its cgroups are joined first. The
    new process is a child of the caller, made by a joiner that has closed every descriptor of the host
    before it forks into the container's pid namespace; with `for_parent` both are children of its parent.
    """
    context = Context()
    context.stdio = stdio
    context.in_user_namespace = bool(target.namespaces & CLONE.NEWUSER)
    try:
        if process.terminal:
            open_console(context, process, target.devpts)
            if context.in_user_namespace:
                os.fchown(context.terminal, _root_of(target.pid), -1)
        context.kept += range(3, 3 + preserve)
        steps = tuple(process_steps(process, target.seccomp, outlive=outlive))
        return _join(target, process, steps, context, cgroup, for_parent=for_parent)
    except BaseException as error:
        context.close()
        if isinstance(error, (OSError, StepError, ValueError)):
            raise LaunchError("exec", *describe_exception(error)) from error
        raise


def _join(
    target: Launched,
    process: Process,
    steps: tuple[Step, ...],
    context: Context,
    cgroup: Cgroup,
    *,
    for_parent: bool,
) -> Launched:
    report, context.report = os.pipe2(os.O_CLOEXEC)
    context.go, go = os.pipe2(os.O_CLOEXEC)
    pids, pids_end = os.pipe2(os.O_CLOEXEC)
    pid = -1
    try:
        cgroup_fd = cgroup.open_for_clone()
        try:
            joiner = _clone_process(0, cgroup_fd, for_parent=for_parent)
            if joiner == 0:
                run_joiner(context, steps, target.pidfd, target.namespaces, pids_end)
        finally:
            if cgroup_fd >= 0:
                os.close(cgroup_fd)
        os.close(context.report)
        context.report = -1
        os.close(pids_end)
        pids_end = -1
        answer = os.read(pids, 32)
        if not for_parent:
            os.waitpid(joiner, 0)
        pid = int(answer) if answer else -1
        if pid > 0:
            # While it finds out who it is.
            try:
                if cgroup_fd < 0:
                    cgroup.attach(pid)
                reset_priority(pid)
                if process.oom_score_adj is not None:
                    set_oom_score(pid, process.oom_score_adj)
                os.write(go, b"g")
            except OSError:
                # When it has failed meanwhile, that is the cause, and what we met its consequence.
                end_process(pid)
                await_exec(report)
                raise
        await_exec(report)
        if pid < 0:
            # Version 2 kills what is cloned into a group that was killed: with its container, mostly.
            if _has_ended(target.pidfd):
                raise LaunchError("namespace", "", errno.ESRCH, "the container has ended")
            raise LaunchError("exec", "", 0, "the joining process died")
        pidfd = os.pidfd_open(pid)
    except BaseException:
        if pid > 0:
            end_process(pid)
        raise
    finally:
        for fd in (go, report, pids, pids_end):
            if fd >= 0:
                os.close(fd)
    context.close_private()
    return Launched(pid, pidfd, console=context.console, namespaces=target.namespaces)


def namespaces_of(spec: Spec) -> int:
    """The namespaces that a container does not share with the host."""
    flags = 0
    for namespace in spec.namespaces:
        flags |= FLAGS[namespace.kind]
    return flags


def _clone(
    plan: Plan, context: Context, cgroup: Cgroup, cgroup_fd: int, report: int, *, for_parent: bool
) -> int:
    """Make the new init, which does not come back; returns its pid."""
    if "pid" not in context.joins:
        pid = _clone_process(plan.clone_flags, cgroup_fd, for_parent=for_parent)
        if pid == 0:
            run_init(context, plan.steps, cgroup)
        return pid
    # What lives in that pid namespace may trace init from its first moment: as for an exec, a joiner
    # without a descriptor of the host makes it.
    pids, pids_end = os.pipe2(os.O_CLOEXEC)
    try:
        joiner = _clone_process(0, -1, for_parent=for_parent)
        if joiner == 0:
            run_pid_joiner(context, plan, cgroup, cgroup_fd, pids_end)
        os.close(pids_end)
        pids_end = -1
        answer = os.read(pids, 32)
        if not for_parent:
            os.waitpid(joiner, 0)
        if answer:
            return int(answer)
        os.close(context.report)
        context.report = -1
        await_exec(report)
        raise StepError("pid", "the joining process died")
    finally:
        for fd in (pids, pids_end):
            if fd >= 0:
                os.close(fd)


def _clone_process(flags: int, cgroup_fd: int, *, for_parent: bool) -> int:
    if for_parent:
        # The exit signal is then the caller's own; clone3 refuses another.
        return syscalls.clone3(flags | CLONE.PARENT, exit_signal=0, cgroup_fd=cgroup_fd)
    return syscalls.clone3(flags, exit_signal=signal.SIGCHLD, cgroup_fd=cgroup_fd)


def await_exec(report: int) -> None:
    """Read the report pipe to its end; raises what init recorded."""
    record = b""
    while chunk := os.read(report, RECORD_BYTES):
        record += chunk
        if record == READY:
            return
    if record:
        raise LaunchError.decode(record)


def end_process(pid: int) -> None:
    """Kill a process that this one or its parent has cloned, wait for its end, and reap it if it is ours."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll()
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    finally:
        os.close(pidfd)


def write_maps(pid: int, uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...]) -> None:
    """The id maps of a new user namespace, as its parent's root."""
    for file, mappings in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings)
        fd = os.open(f"/proc/{pid}/{file}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def reset_priority(pid: int) -> None:
    """Policy and niceness of a child are the default ones, as far as the kernel lets us."""
    try:
        if os.sched_getscheduler(pid) != os.SCHED_OTHER:
            os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
        if os.getpriority(os.PRIO_PROCESS, pid) != 0:
            os.setpriority(os.PRIO_PROCESS, pid, 0)
    except PermissionError:
        pass  # without CAP_SYS_NICE it stays as nice as the engine


def set_oom_score(pid: int, score: int) -> None:
    """oom_score_adj of a child; below our own only as far as the kernel lets us."""
    fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        current = int(os.read(fd, 16))
        # Without CAP_SYS_RESOURCE the floor is the lowest that was ever set with it: mostly 0.
        for candidate in (score, 0):
            if candidate == current or (candidate > current and candidate != score):
                return
            try:
                os.write(fd, b"%d" % candidate)
            except PermissionError:
                if score > current:
                    raise
            else:
                return
    finally:
        os.close(fd)


def open_console(context: Context, process: Process, devpts: int) -> None:
    """A pty of the container's own, of the size that was asked for."""
    if devpts < 0:
        raise StepError("/dev/pts", "a terminal needs a devpts mount at /dev/pts", errno.ENODEV)
    context.console, context.terminal = tty.open_pty(devpts)
    if process.rows and process.columns:
        tty.set_window_size(context.console, process.rows, process.columns)


def _host_id(mappings: tuple[IdMapping, ...]) -> int:
    for mapping in mappings:
        if mapping.container_id == 0:
            return mapping.host_id
    return -1


def _root_of(pid: int) -> int:
    """The id that a process's user namespace calls 0."""
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        for line in file:
            inside, outside, _ = line.split()
            if inside == "0":
                return int(outside)
    return -1


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def forget(cgroup: Cgroup) -> None:
    """Removes the groups of a launch that has failed."""
    try:
        cgroup.remove()
    except OSError:
        pass  # the launch's own error says more; a later remove of the container tries again
