"""Starts in two parts: an init that is made ahead and waits, and the container that it becomes.

Theory of operation. `stage` makes namespaces, cgroups, /proc, /dev and /sys with their masks, and a network
interface without an address, in an empty tmpfs as root: all that is the same for every container of a class.
`launch_staged` gives that init the specification, which it reads while this process opens what comes from
the host (the root's overlay, the sources of binds), then the descriptors. The steps are those of any other
start, each done once, in one of the two parts (`Step.ahead`, `Step.late`), so that the result is the same.

Which specifications are of one class is the caller's to know (`wherry.shim.slots`).
"""

from __future__ import annotations

import _socket
import contextlib
import os

from wherry.lib.jsonvalue import JsonObject, JsonValue, get_bool, get_objects
from wherry.runtime.cgroups import Cgroup
from wherry.runtime.context import Context
from wherry.runtime.errors import LaunchError, StepError, describe_exception
from wherry.runtime.interface import decode_interface
from wherry.runtime.launch import (
    Launched,
    Stdio,
    await_exec,
    end_process,
    forget,
    launch,
    namespaces_of,
    open_console,
    set_oom_score,
)
from wherry.runtime.orders import pack_descriptors, receive_order, send_order
from wherry.runtime.plan import build_late
from wherry.runtime.rehearsal import rehearse
from wherry.runtime.root import EmptyRoot, Root
from wherry.runtime.spec import parse_spec


class StageLost(Exception):
    """The init that waited was killed by somebody: nothing has happened, a start without it may be tried."""


class Stage:
    """An init that waits for its container."""

    __slots__ = ("cgroup", "orders", "pid", "pidfd")

    def __init__(self, launched: Launched, cgroup: Cgroup, orders: _socket.socket) -> None:
        self.pid = launched.pid
        self.pidfd = launched.pidfd
        self.cgroup = cgroup
        self.orders = orders
        for fd in (launched.root, launched.devpts):
            os.close(fd)


def stage(document: JsonObject, cgroup: Cgroup, *, for_parent: bool) -> Stage:
    """Makes an init, a child of the caller or of its parent; raises LaunchError, and then nothing of it is left.

    `document` has `oci`, the class's part of a specification, `interfaces`, and whether there is time to `rehearse`.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    rehearses = get_bool(document, "rehearse")
    try:
        launched = launch(
            parse_spec(document.get("oci")),
            root=EmptyRoot(),
            stdio=None,
            cgroup=cgroup,
            interfaces=tuple(
                decode_interface(item) for item in get_objects(document, "interfaces")
            ),
            for_parent=for_parent,
            orders=theirs,
            rehearses=rehearses,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    if rehearses:
        rehearse()
    return Stage(launched, cgroup, ours)


def launch_staged(
    waiting: Stage, oci: JsonValue, interfaces: JsonValue, *, root: Root, stdio: Stdio | None
) -> Launched:
    """As `launch`, in a waiting init, which is used up; its groups are the container's from the start.

    Raises StageLost too.
    """
    context = Context()
    context.stdio = stdio
    step = "order"
    report = -1
    try:
        send_order(waiting.orders, {"oci": oci, "interfaces": interfaces}, [])
        step = "plan"
        spec = parse_spec(oci)
        wired = get_objects({"interfaces": interfaces}, "interfaces")
        decoded = tuple(decode_interface(item) for item in wired)
        plan = build_late(spec, root, waiting.cgroup, decoded)
        for item in plan.steps:
            step = item.name
            item.prepare(context)
        step = "cgroup"
        waiting.cgroup.limit(spec.resources)
        step = "oom score"
        if spec.process.oom_score_adj is not None:
            set_oom_score(waiting.pid, spec.process.oom_score_adj)
        step = "init"
        report, context.report = os.pipe2(os.O_CLOEXEC)
        send_order(waiting.orders, *pack_descriptors(context))
        os.close(context.report)
        context.report = -1
        try:
            answer = receive_order(waiting.orders)
        except ConnectionResetError:
            answer = None
        if answer is not None:
            context.devpts = answer[1].pop()
            if spec.process.terminal:
                step = "console"
                open_console(context, spec.process, context.devpts)
                with contextlib.suppress(BrokenPipeError):  # its record says more
                    send_order(waiting.orders, {}, [context.terminal])
        await_exec(report)
        if answer is None:
            raise StageLost
    except BaseException as error:
        end_process(waiting.pid)
        context.close()
        forget(waiting.cgroup)
        if step in {"order", "init"} and isinstance(error, BrokenPipeError):
            raise StageLost from error
        if isinstance(error, (OSError, StepError, ValueError)):
            raise LaunchError(step, *describe_exception(error)) from error
        raise
    finally:
        waiting.orders.close()
        if report >= 0:
            os.close(report)
    context.close_private()
    return Launched(
        waiting.pid,
        waiting.pidfd,
        console=context.console,
        root=context.root,
        devpts=context.devpts,
        namespaces=namespaces_of(spec),
        seccomp=plan.seccomp,
    )
