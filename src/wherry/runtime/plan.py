"""The specification as an ordered tuple of steps: pure, so that it can be printed and tested without root.

`Plan.steps` is the whole story of a launch, in the order in which init applies it. What must come first has
its reason in the step's docstring; the groups below follow runc's order, which the specification describes.
"""

from __future__ import annotations

import os

from wherry.kernel import caps
from wherry.kernel.consts import IOPRIO_CLASS_SHIFT, IOPRIO_CLASSES, PERSONALITIES
from wherry.lib.jsonvalue import get_int, get_str
from wherry.runtime.cgroups import Cgroup
from wherry.runtime.errors import SpecError
from wherry.runtime.interface import Interface
from wherry.runtime.root import EmptyRoot, Root
from wherry.runtime.seccomp import Filter, build_filter
from wherry.runtime.spec import Mount, Process, Spec
from wherry.runtime.steps import Step
from wherry.runtime.steps.cgroup import CgroupMount
from wherry.runtime.steps.devices import Console, DeviceLinks, DeviceNodes, HostTerminals
from wherry.runtime.steps.identity import Domainname, Hostname, Sysctl
from wherry.runtime.steps.masks import MaskPaths, ReadonlyPaths
from wherry.runtime.steps.mounts import (
    STAGED_TREES,
    BindMount,
    FilesystemMount,
    PreparedMount,
    RemountOfRoot,
    RootPropagation,
)
from wherry.runtime.steps.namespaces import (
    FLAGS,
    AwaitParent,
    BecomeRoot,
    CgroupNamespace,
    JoinNamespace,
)
from wherry.runtime.steps.network import Network
from wherry.runtime.steps.options import PROPAGATION, MountOptions
from wherry.runtime.steps.process import (
    AppArmor,
    BoundingSet,
    ChangeUser,
    CleanSlate,
    CloseDescriptors,
    DieWithParent,
    Execute,
    Gate,
    Identify,
    NoNewPrivileges,
    OwnStandardStreams,
    Personality,
    Rlimits,
    Seccomp,
    StandardStreams,
    WorkingDirectory,
)
from wherry.runtime.steps.root import EnterRoot
from wherry.runtime.steps.staged import StagedTerminals, StagedTree


class Plan:
    """What clone3 is to make new, and the steps of init."""

    __slots__ = ("clone_flags", "seccomp", "steps")

    def __init__(
        self, clone_flags: int, steps: tuple[Step, ...], seccomp: Filter | None = None
    ) -> None:
        self.clone_flags = clone_flags
        self.steps = steps
        self.seccomp = seccomp

    def describe(self) -> list[str]:
        """One line per step."""
        return [step.describe() for step in self.steps]


def build_plan(
    spec: Spec,
    root: Root,
    cgroup: Cgroup,
    interfaces: tuple[Interface, ...] = (),
    *,
    gate: int = -1,
    outlive: bool = False,
    wait_early: bool = False,
) -> Plan:
    """The plan of a container's init; raises SpecError for what can never work."""
    _check(spec, interfaces)
    steps: list[Step] = []
    steps += [JoinNamespace(item) for item in spec.namespaces if item.path]
    if spec.is_new("user"):
        steps += [AwaitParent("user and group maps"), BecomeRoot()]
    elif wait_early:
        steps.append(AwaitParent("hooks"))
    steps.append(EnterRoot(root))
    steps += _mount_steps(spec, cgroup)
    if _owns_dev(spec):
        steps += [DeviceNodes(spec.devices), DeviceLinks()]
        if spec.process.terminal:
            steps.append(Console())
    elif spec.process.terminal and not any(isinstance(step, PreparedMount) for step in steps):
        steps.append(HostTerminals())
    if spec.hostname:
        steps.append(Hostname(spec.hostname))
    if spec.domainname:
        steps.append(Domainname(spec.domainname))
    steps.append(WorkingDirectory(spec.process.cwd, create=True))
    if spec.masked_paths:
        steps.append(MaskPaths(spec.masked_paths))
    if spec.readonly_paths:
        steps.append(ReadonlyPaths(spec.readonly_paths))
    if spec.root_readonly:
        steps.append(RemountOfRoot())
    if spec.personality:
        steps.append(Personality(spec.personality))
    if spec.rootfs_propagation:
        steps.append(RootPropagation(PROPAGATION[spec.rootfs_propagation]))
    steps += _early_steps(spec.process)
    # As late as can be: until here this process and its parent work at the same time.
    steps.append(AwaitParent("cgroups and network"))
    if spec.is_new("cgroup") and not any(isinstance(step, CgroupNamespace) for step in steps):
        steps.append(CgroupNamespace())
    if spec.is_new("network"):
        steps.append(Network(interfaces))
    if spec.sysctl:
        steps.append(Sysctl(spec.sysctl))
    seccomp = build_filter(spec.seccomp, _bounding(spec.process)) if spec.seccomp else None
    steps += _late_steps(spec.process, seccomp, gate=gate, outlive=outlive)
    return Plan(_clone_flags(spec), tuple(steps), seccomp)


def build_stage(spec: Spec, cgroup: Cgroup, interfaces: tuple[Interface, ...]) -> Plan:
    """The part of a plan that is made ahead, in an empty root, for any container of the class of `spec`."""
    plan = build_plan(spec, EmptyRoot(), cgroup, interfaces)
    return Plan(plan.clone_flags, tuple(step for step in plan.steps if step.ahead))


def build_late(spec: Spec, root: Root, cgroup: Cgroup, interfaces: tuple[Interface, ...]) -> Plan:
    """The rest, when the container is known."""
    plan = build_plan(spec, root, cgroup, interfaces)
    steps: list[Step] = []
    for step in plan.steps:
        if isinstance(step, FilesystemMount) and step.destination in STAGED_TREES:
            steps.append(StagedTree(step.destination, step.fstype))
            if step.destination == "/dev":
                steps.append(StagedTerminals(terminal=spec.process.terminal))
        elif step.late:
            steps.append(step)
    return Plan(plan.clone_flags, tuple(steps), plan.seccomp)


def process_steps(process: Process, seccomp: Filter | None, *, outlive: bool = False) -> list[Step]:
    """An exec: from a process inside the container's root to the user's program."""
    late = _late_steps(process, seccomp, gate=-1, outlive=outlive)
    return [*_early_steps(process), AwaitParent("cgroups"), *late]


def _early_steps(process: Process) -> list[Step]:
    """What a process becomes before it gives up anything that later steps of the container need."""
    steps: list[Step] = [
        Identify(process),
        CleanSlate(process.user.umask, _io_priority(process)),
        StandardStreams(terminal=process.terminal),
        OwnStandardStreams(),
    ]
    if process.apparmor_profile:
        steps.append(AppArmor(process.apparmor_profile))
    if process.no_new_privileges:
        steps.append(NoNewPrivileges())
    steps.append(BoundingSet(_bounding(process)))
    return steps


def _late_steps(
    process: Process, seccomp: Filter | None, *, gate: int, outlive: bool
) -> list[Step]:
    steps: list[Step] = [CloseDescriptors()]
    if process.rlimits:
        steps.append(Rlimits(process.rlimits))
    if seccomp is not None and not process.no_new_privileges:
        # Needs CAP_SYS_ADMIN, which the next step gives up.
        steps.append(Seccomp(*seccomp))
    steps += [ChangeUser(process.capabilities, process.cwd), DieWithParent(detached=outlive)]
    if gate >= 0:
        steps.append(Gate(process, gate))
    if seccomp is not None and process.no_new_privileges:
        steps.append(Seccomp(*seccomp))
    steps.append(Execute(process))
    return steps


def _mount_steps(spec: Spec, cgroup: Cgroup) -> list[Step]:
    steps: list[Step] = []
    for mount in spec.mounts:
        options = MountOptions(mount.options)
        if mount.type in {"cgroup", "cgroup2"}:
            in_namespace = spec.is_new("cgroup")
            if in_namespace and not cgroup.is_unified():
                # On version 2 init has been in its group from the start.
                steps.append(AwaitParent("cgroups"))
            if in_namespace:
                steps.append(CgroupNamespace())
            destination = _clean(mount.destination)
            steps.append(CgroupMount(destination, options, cgroup, in_namespace=in_namespace))
        else:
            steps.append(_mount_step(mount, options))
    return steps


def _mount_step(mount: Mount, options: MountOptions) -> Step:
    destination = _clean(mount.destination)
    if mount.type in {"bind", "rbind", "none"} or {"bind", "rbind"} & set(mount.options):
        return BindMount(destination, mount.source, options)
    if mount.type == "devpts" and destination == "/dev/pts":
        return PreparedMount(destination, options)
    return FilesystemMount(destination, mount.type, mount.source, options)


def _owns_dev(spec: Spec) -> bool:
    """Whether /dev is the container's: one that is bound belongs to somebody, and is taken as it is."""
    return not any(
        isinstance(_mount_step(mount, MountOptions(())), BindMount)
        for mount in spec.mounts
        if _clean(mount.destination) == "/dev"
    )


def _clone_flags(spec: Spec) -> int:
    flags = 0
    for namespace in spec.namespaces:
        # The cgroup namespace is made when the cgroups are attached.
        if not namespace.path and namespace.kind != "cgroup":
            flags |= FLAGS[namespace.kind]
    return flags


def _bounding(process: Process) -> int:
    if process.capabilities is None:
        return 0
    return caps.mask_of(process.capabilities.bounding)


def _check(spec: Spec, interfaces: tuple[Interface, ...]) -> None:
    mount = spec.namespace("mount")
    if mount is None or mount.path:
        raise SpecError("linux.namespaces", "a new mount namespace is needed")
    if spec.hostname and spec.namespace("uts") is None:
        raise SpecError("hostname", "unable to set hostname without a private UTS namespace")
    if interfaces and not spec.is_new("network"):
        raise SpecError("linux.namespaces", "interfaces need a new network namespace")
    if spec.rootfs_propagation and spec.rootfs_propagation not in PROPAGATION:
        raise SpecError("linux.rootfsPropagation", f"unknown value {spec.rootfs_propagation!r}")
    if spec.is_new("user") and not (spec.uid_mappings and spec.gid_mappings):
        raise SpecError("linux.uidMappings", "user namespaces need uid and gid mappings")
    if spec.personality and spec.personality not in PERSONALITIES:
        raise SpecError("linux.personality", f"unknown domain {spec.personality!r}")
    if spec.process.scheduler:
        raise SpecError("process.scheduler", "is not supported")
    for item in spec.mounts:
        if item.uid_mappings or item.gid_mappings or {"idmap", "ridmap"} & set(item.options):
            raise SpecError(f"mounts {item.destination}", "idmapped mounts are not supported")
    for name in spec.sysctl:
        _check_sysctl(spec, name)
    for limit in spec.process.rlimits:
        if not limit.kind.startswith("RLIMIT_"):
            raise SpecError("process.rlimits", f"unknown type {limit.kind!r}")


_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in [
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
        "msg_next_id",
        "sem_next_id",
        "shm_next_id",
        "auto_msgmni",
    ]
)


def _check_sysctl(spec: Spec, name: str) -> None:
    """A setting of the host may not be changed through a container that shares its namespace."""
    dotted = name.replace("/", ".") if "/" in name else name
    if dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        kind = "ipc"
    elif dotted.startswith("net."):
        kind = "network"
    elif dotted in {"kernel.domainname", "kernel.hostname"}:
        kind = "uts"
    elif dotted.startswith("user."):
        kind = "user"
    else:
        raise SpecError("linux.sysctl", f'sysctl "{name}" is not in a separate kernel namespace')
    namespace = spec.namespace(kind)
    if namespace is None:
        raise SpecError("linux.sysctl", f'sysctl "{name}" not allowed in host {kind} namespace')


def _io_priority(process: Process) -> int:
    wanted = process.io_priority
    if not wanted:
        return 0
    kind = IOPRIO_CLASSES.get(get_str(wanted, "class"))
    if kind is None:
        raise SpecError("process.ioPriority", f"unknown class {get_str(wanted, 'class')!r}")
    return kind << IOPRIO_CLASS_SHIFT | (get_int(wanted, "priority") & 7)


def _clean(path: str) -> str:
    return os.path.normpath("/" + path.lstrip("/"))
