"""Limits: Docker's `Resources` checked with Docker's sentences, and as an OCI `linux.resources` object. Pure,
apart from what the machine's processors are, which the caller tells.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from wherry.engine.containers.failure import unsupported
from wherry.lib.jsonvalue import JsonObject, JsonValue
from wherry.lib.words import words
from wherry.model.container import HostConfig, Resources, ThrottleDevice, Ulimit
from wherry.model.errors import Internal, InvalidArgument

MINIMUM_MEMORY = 6 << 20
_CPU_PERIOD = 100_000
_BLOCK_WEIGHT_FILES = (
    "/sys/fs/cgroup/blkio/blkio.weight",
    "/sys/fs/cgroup/blkio/blkio.bfq.weight",
    "/sys/fs/cgroup/init.scope/io.weight",
    "/sys/fs/cgroup/system.slice/io.weight",
)
_CPUSET = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*,?\Z")
_DEVICE_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})\Z")

# Docker's rlimit names (docker/go-units ulimit.go).
RLIMITS = frozenset(
    words(
        "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime",
        "sigpending stack",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine has: processors, memory nodes, controls of block devices."""

    processors: int
    cpus: str  # "0-1"
    mems: str
    has_block_weight: bool = True


def read_machine() -> Machine:
    """As the kernel says now."""
    return Machine(
        processors=os.cpu_count() or 1,
        cpus=_read_line("/sys/devices/system/cpu/online") or f"0-{(os.cpu_count() or 1) - 1}",
        mems=_read_line("/sys/devices/system/node/online") or "0",
        has_block_weight=any(map(os.path.exists, _BLOCK_WEIGHT_FILES)),
    )


def _read_line(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.readline().strip()
    except OSError:
        return ""


def check_resources(
    resources: Resources, machine: Machine, *, update: bool = False
) -> tuple[Resources, list[str]]:
    """What will be set and the warnings. Raises InvalidArgument (moby daemon/daemon_unix.go)."""
    warnings: list[str] = []
    _check_memory(resources, update=update)
    _check_cpu(resources, machine)
    if (resources.blkio_weight or resources.blkio_weight_device) and not machine.has_block_weight:
        for given, what in (
            (resources.blkio_weight, "weight"),
            (resources.blkio_weight_device, "weight_device"),
        ):
            if given:
                warnings.append(
                    f"Your kernel does not support Block I/O {what} or the cgroup is not mounted. "
                    f"{what.capitalize().replace('_', '-')} discarded."
                )
        resources = replace(resources, blkio_weight=0, blkio_weight_device=())
    if resources.blkio_weight and not 10 <= resources.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    if resources.oom_kill_disable and resources.memory == 0:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    pids = resources.pids_limit
    if pids is not None and pids <= 0:
        resources = replace(resources, pids_limit=0 if update else None)
    return resources, warnings


def _check_memory(resources: Resources, *, update: bool) -> None:
    memory, swap = resources.memory, resources.memory_swap
    if memory != 0 and memory < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if memory > 0 and 0 < swap < memory:
        raise InvalidArgument(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if memory == 0 and swap > 0 and not update:
        raise InvalidArgument(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    swappiness = resources.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidArgument(
            f"Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )
    reservation = resources.memory_reservation
    if 0 < reservation < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if memory > 0 and reservation > 0 and memory < reservation:
        raise InvalidArgument(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )


def _check_cpu(resources: Resources, machine: Machine) -> None:
    if resources.cpu_shares < 0:
        raise InvalidArgument(
            f"invalid CPU shares ({resources.cpu_shares}): value must be a positive integer"
        )
    nano = resources.nano_cpus
    if nano > 0 and resources.cpu_period > 0:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if nano > 0 and resources.cpu_quota > 0:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if nano < 0 or nano > machine.processors * 1_000_000_000:
        raise InvalidArgument(
            f"range of CPUs is from 0.01 to {machine.processors}.00, "
            f"as there are only {machine.processors} CPUs available"
        )
    if resources.cpu_period and not 1_000 <= resources.cpu_period <= 1_000_000:
        raise InvalidArgument(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < resources.cpu_quota < 1_000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    _check_set("cpuset cpus", "CPUs", resources.cpuset_cpus, machine.cpus)
    _check_set("cpuset mems", "memory nodes", resources.cpuset_mems, machine.mems)


def _check_set(option: str, what: str, wanted: str, available: str) -> None:
    if not wanted:
        return
    if not _CPUSET.match(wanted):
        raise InvalidArgument(f"Invalid value {wanted} for {option}: invalid format: {wanted}")
    if not parse_set(wanted) <= parse_set(available):
        raise InvalidArgument(
            f"Requested {what} are not available - requested {wanted}, available: {available}"
        )


def parse_set(text: str) -> frozenset[int]:
    """The numbers of "0-2,5"; text that passed the grammar only."""
    numbers: set[int] = set()
    for part in text.strip(",").split(","):
        first, _, last = part.partition("-")
        if int(last or first) > 1 << 16:
            return frozenset({-1})
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def parse_device_rule(rule: str) -> JsonObject:
    """A `--device-cgroup-rule` as OCI. Raises Internal (Docker's status is 500)."""
    match = _DEVICE_RULE.match(rule)
    if match is None:
        raise Internal(f"invalid device cgroup rule format: '{rule}'")
    kind, major, minor, access = match.groups()
    return {
        "allow": True,
        "type": kind,
        "major": -1 if major == "*" else int(major),
        "minor": -1 if minor == "*" else int(minor),
        "access": access,
    }


def merge_ulimits(asked: Sequence[Ulimit], defaults: Iterable[Ulimit]) -> tuple[Ulimit, ...]:
    """What was asked for, and the engine's defaults for the rest."""
    names = {ulimit.name for ulimit in asked}
    return (*asked, *(ulimit for ulimit in defaults if ulimit.name not in names))


def build_rlimits(ulimits: Iterable[Ulimit]) -> list[JsonValue]:
    """OCI `process.rlimits`; -1 is RLIM_INFINITY. Raises StartFailed for a name that does not exist."""
    infinity = (1 << 64) - 1
    ulimits = tuple(ulimits)
    for ulimit in ulimits:
        if ulimit.name.lower() not in RLIMITS:
            raise unsupported(f"wrong rlimit value: RLIMIT_{ulimit.name.upper()}")
    return [
        {
            "type": f"RLIMIT_{ulimit.name.upper()}",
            "soft": infinity if ulimit.soft < 0 else ulimit.soft,
            "hard": infinity if ulimit.hard < 0 else ulimit.hard,
        }
        for ulimit in ulimits
    ]


def build_resources(resources: Resources, device_rules: Sequence[JsonValue]) -> JsonObject:
    """OCI `linux.resources`."""
    document: dict[str, JsonValue] = {}
    if device_rules:
        document["devices"] = device_rules
    memory = _build_memory(resources)
    if memory:
        document["memory"] = memory
    cpu = _build_cpu(resources)
    if cpu:
        document["cpu"] = cpu
    if resources.pids_limit is not None:
        document["pids"] = {"limit": resources.pids_limit if resources.pids_limit > 0 else -1}
    block = _build_block(resources)
    if block:
        document["blockIO"] = block
    return document


def _build_memory(resources: Resources) -> JsonObject:
    memory: dict[str, JsonValue] = {}
    if resources.memory > 0:
        memory["limit"] = resources.memory
    if resources.memory_reservation > 0:
        memory["reservation"] = resources.memory_reservation
    if resources.memory_swap != 0:
        memory["swap"] = resources.memory_swap
    swappiness = resources.memory_swappiness
    if swappiness is not None and swappiness >= 0:
        memory["swappiness"] = swappiness
    if resources.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _build_cpu(resources: Resources) -> JsonObject:
    cpu: dict[str, JsonValue] = {}
    if resources.cpu_shares:
        cpu["shares"] = max(2, resources.cpu_shares)
    if resources.nano_cpus > 0:
        cpu["period"] = _CPU_PERIOD
        cpu["quota"] = resources.nano_cpus * _CPU_PERIOD // 1_000_000_000
    if resources.cpu_period:
        cpu["period"] = resources.cpu_period
    if resources.cpu_quota:
        cpu["quota"] = resources.cpu_quota
    if resources.cpuset_cpus:
        cpu["cpus"] = resources.cpuset_cpus
    if resources.cpuset_mems:
        cpu["mems"] = resources.cpuset_mems
    if resources.cpu_realtime_period:
        cpu["realtimePeriod"] = resources.cpu_realtime_period
    if resources.cpu_realtime_runtime:
        cpu["realtimeRuntime"] = resources.cpu_realtime_runtime
    return cpu


def _build_block(resources: Resources) -> JsonObject:
    block: dict[str, JsonValue] = {}
    if resources.blkio_weight:
        block["weight"] = resources.blkio_weight
    if resources.blkio_weight_device:
        block["weightDevice"] = [
            {**_block_device(device.path), "weight": device.weight}
            for device in resources.blkio_weight_device
        ]
    throttles = (
        ("throttleReadBpsDevice", resources.blkio_device_read_bps),
        ("throttleWriteBpsDevice", resources.blkio_device_write_bps),
        ("throttleReadIOPSDevice", resources.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", resources.blkio_device_write_iops),
    )
    for key, devices in throttles:
        if devices:
            block[key] = [_throttle(device) for device in devices]
    return block


def _throttle(device: ThrottleDevice) -> JsonObject:
    return {**_block_device(device.path), "rate": device.rate}


def _block_device(path: str) -> dict[str, JsonValue]:
    try:
        number = os.stat(path).st_rdev
    except OSError as exc:
        raise Internal(f"stat {path}: {(exc.strerror or '').lower()}") from exc
    return {"major": os.major(number), "minor": os.minor(number)}


def set_swap_default(host_config: HostConfig) -> HostConfig:
    """Docker's default: as much swap as memory (moby adaptContainerSettings)."""
    if host_config.memory <= 0 or host_config.memory_swap != 0:
        return host_config
    return replace(host_config, memory_swap=min(host_config.memory * 2, (1 << 63) - 1))
