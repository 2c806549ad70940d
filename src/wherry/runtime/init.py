"""From clone3 to exec: what runs in the new process, from memory alone.

After `lock_down` nothing can be imported: the next file system it sees belongs to an image, whose Python,
NSS or iconv files must never be run (pitfalls: "Python inside an untrusted root"). A failure is sent over
the report pipe as the record of `LaunchError`; a successful exec closes that pipe.
"""

from __future__ import annotations

import builtins
import fcntl
import gc
import os
import signal
import sys
from typing import NoReturn

from wherry.kernel import syscalls
from wherry.kernel.consts import CLONE, PR
from wherry.lib.jsonvalue import get_objects
from wherry.runtime.cgroups import Cgroup
from wherry.runtime.context import Context
from wherry.runtime.errors import LaunchError, StepError, describe_exception
from wherry.runtime.interface import decode_interface
from wherry.runtime.orders import READY, receive_order, take_descriptors
from wherry.runtime.plan import Plan, build_late
from wherry.runtime.rehearsal import rehearse
from wherry.runtime.root import EmptyRoot
from wherry.runtime.spec import parse_spec
from wherry.runtime.steps import Step
from wherry.runtime.steps.namespaces import BecomeRoot

# Of directories and files that are made for mounts; the process gets its own.
_UMASK = 0o022


def lock_down() -> None:
    """From here on every import raises, and no garbage collection touches the parent's pages."""
    gc.disable()
    # Kept, not freed: letting go of the finders and their listings writes to 200 pages of the parent's.
    _former.extend((sys.path, sys.meta_path, sys.path_hooks, sys.path_importer_cache))
    sys.path = []
    sys.meta_path = []
    sys.path_hooks = []
    sys.path_importer_cache = {}
    builtins.__import__ = _refuse_import  # type: ignore[assignment] # takes whatever it is given


_former: list[object] = []


def _refuse_import(name: str, *_: object) -> NoReturn:
    raise ImportError(f"import of {name} inside a container's root")


def run_init(context: Context, steps: tuple[Step, ...], cgroup: Cgroup) -> NoReturn:
    """The life of init before its program; never returns.

    With `context.orders` it is made ahead: after these steps it says so, and gets the rest as an order.
    """
    current = "init"
    try:
        lock_down()
        syscalls.prctl(PR.SET_DUMPABLE, 0)
        syscalls.prctl(PR.SET_PDEATHSIG, signal.SIGKILL)
        syscalls.keep_only(context.descriptors())
        os.umask(_UMASK)
        while True:
            for step in steps:
                current = step.name
                step.detach(context)
            for step in steps:
                current = step.name
                step.apply(context)
            steps = _await_rest(context, cgroup)
    except BaseException as error:  # noqa: BLE001 - the edge of this process: all becomes a record
        send_failure(context.report, current, error)
    os._exit(1)


def _await_rest(context: Context, cgroup: Cgroup) -> tuple[Step, ...]:
    """Of a start in two parts: the steps of the second, and in the context what they need. Blocking."""
    if context.orders is None:
        raise StepError("", "the plan has no program")
    if context.rehearses:
        rehearse()
    os.write(context.report, READY)
    os.close(context.report)
    context.report = -1
    order = receive_order(context.orders)
    if order is None:
        os._exit(0)  # not wanted any more
    document = order[0]
    interfaces = tuple(decode_interface(item) for item in get_objects(document, "interfaces"))
    # While the launching process opens what comes from the host.
    plan = build_late(parse_spec(document.get("oci")), EmptyRoot(), cgroup, interfaces)
    order = receive_order(context.orders)
    if order is None:
        os._exit(0)
    take_descriptors(context, *order)
    return plan.steps


def run_pid_joiner(
    context: Context, plan: Plan, cgroup: Cgroup, cgroup_fd: int, pids: int
) -> NoReturn:
    """Fork the init of a container that joins the pid namespace of another; never returns."""
    try:
        lock_down()
        syscalls.prctl(PR.SET_DUMPABLE, 0)
        _leave_streams(context)
        syscalls.keep_only([*context.descriptors(), cgroup_fd, pids])
        syscalls.setns(context.joins["pid"], CLONE.NEWPID)
        pid = syscalls.clone3(plan.clone_flags | CLONE.PARENT, exit_signal=0, cgroup_fd=cgroup_fd)
        if pid:
            os.write(pids, b"%d" % pid)
            os._exit(0)
    except BaseException as error:  # noqa: BLE001 - the edge of this process: all becomes a record
        send_failure(context.report, "namespace", error)
        os._exit(1)
    run_init(context, plan.steps, cgroup)


def run_joiner(
    context: Context, steps: tuple[Step, ...], pidfd: int, namespaces: int, pids: int
) -> NoReturn:
    """Enter a running container and fork the exec's process there; never returns.

    Not dumpable from the start, and without a descriptor of the host before the fork: the child can be
    traced by the container when that has CAP_SYS_PTRACE.
    """
    current = "namespace"
    try:
        lock_down()
        syscalls.prctl(PR.SET_DUMPABLE, 0)
        syscalls.prctl(PR.SET_PDEATHSIG, signal.SIGKILL)
        _leave_streams(context)
        syscalls.keep_only([*context.descriptors(), pidfd, pids])
        syscalls.setns(pidfd, namespaces)
        os.close(pidfd)
        # setns made "/" the root of the container's mount namespace, whatever its init did since.
        context.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if context.in_user_namespace:
            BecomeRoot().detach(context)
        syscalls.keep_only([*context.descriptors(), pids])
        pid = syscalls.clone3(CLONE.PARENT, exit_signal=0)
        if pid:
            os.write(pids, b"%d" % pid)
            os._exit(0)
        os.close(pids)
        syscalls.prctl(PR.SET_DUMPABLE, 0)
        for step in steps:
            current = step.name
            step.apply(context)
    except BaseException as error:  # noqa: BLE001 - the edge of this process: all becomes a record
        send_failure(context.report, current, error)
    os._exit(1)


def _leave_streams(context: Context) -> None:
    """Before a process that may be traced: until the program has its streams, 0 to 2 are the engine's log."""
    if context.stdio is not None:
        first, second, third = context.stdio
        context.stdio = (_raise(first), _raise(second), _raise(third))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)


def _raise(fd: int) -> int:
    """The same above the standard three."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def send_failure(report: int, step: str, error: BaseException) -> None:
    """Write the record; a reader that is gone changes nothing."""
    subject, number, message = describe_exception(error)
    if isinstance(error, StepError) and error.step:
        step = error.step
    try:
        os.write(report, LaunchError(step, subject, number, message).encode())
    except OSError:
        os._exit(1)
