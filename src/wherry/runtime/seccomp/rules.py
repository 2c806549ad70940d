"""A seccomp profile, in OCI's or Docker's format, reduced to what counts for one process on one machine.

Docker's format is OCI's with conditions (`includes`, `excludes`: capabilities, architectures, kernels) and an
`archMap`. The result is a `Policy`: per architecture a table from number to verdict.
"""

from __future__ import annotations

import errno
import os

from wherry.kernel import caps
from wherry.kernel.release import parse_release
from wherry.lib.jsonvalue import (
    JsonError,
    JsonObject,
    get_int,
    get_object,
    get_objects,
    get_str,
    get_strings,
)
from wherry.runtime.errors import SpecError
from wherry.runtime.seccomp.numbers import numbers

KILL_THREAD = 0x00000000
KILL_PROCESS = 0x80000000
TRAP = 0x00030000
ERRNO = 0x00050000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000

ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
OPERATORS = frozenset(
    f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
)

# SCMP name: (our table, AUDIT_ARCH_*, Go's name of the architecture)
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": ("x86_64", 0xC000003E, "amd64"),
    "SCMP_ARCH_X32": ("x32", 0xC000003E, "x32"),
    "SCMP_ARCH_X86": ("x86", 0x40000003, "x86"),
    "SCMP_ARCH_AARCH64": ("aarch64", 0xC00000B7, "arm64"),
    "SCMP_ARCH_ARM": ("arm", 0x40000028, "arm"),
    "SCMP_ARCH_RISCV64": ("riscv64", 0xC00000F3, "riscv64"),
    "SCMP_ARCH_S390X": ("s390x", 0x80000016, "s390x"),
    "SCMP_ARCH_S390": ("s390", 0x00000016, "s390"),
    "SCMP_ARCH_PPC64LE": ("ppc64le", 0xC0000015, "ppc64le"),
}
_NATIVE = {
    "x86_64": "SCMP_ARCH_X86_64",
    "aarch64": "SCMP_ARCH_AARCH64",
    "armv7l": "SCMP_ARCH_ARM",
    "riscv64": "SCMP_ARCH_RISCV64",
    "s390x": "SCMP_ARCH_S390X",
    "ppc64le": "SCMP_ARCH_PPC64LE",
}

Condition = tuple[int, str, int, int]  # argument, operator, value, second value


class Verdict:
    """What happens to one call: conditional answers in order, then the last word."""

    __slots__ = ("conditional", "otherwise")

    def __init__(self, otherwise: int) -> None:
        self.otherwise = otherwise
        self.conditional: list[tuple[tuple[Condition, ...], int]] = []

    def key(self) -> tuple[int, tuple[tuple[tuple[Condition, ...], int], ...]]:
        """Equal for verdicts that mean the same."""
        return self.otherwise, tuple(self.conditional)


class Policy:
    """The whole decision: by AUDIT_ARCH and number; `flags` are seccomp(2)'s."""

    __slots__ = ("architectures", "default", "flags", "tables")

    def __init__(self, default: int, flags: int, architectures: tuple[str, ...]) -> None:
        self.default = default
        self.flags = flags
        self.architectures = architectures
        self.tables: dict[str, dict[int, Verdict]] = {name: {} for name in architectures}


def build_policy(
    document: JsonObject, capabilities: int, machine: str, release: str | None = None
) -> Policy:
    """Reduce a profile for these capabilities (a bit mask) and this machine; raises SpecError."""
    native = _NATIVE.get(machine)
    if native is None:
        raise SpecError("linux.seccomp", f"no system call table for {machine}")
    try:
        return _build(document, capabilities, native, release or os.uname().release)
    except JsonError as error:
        raise SpecError("linux.seccomp", str(error)) from error


def _build(document: JsonObject, capabilities: int, native: str, release: str) -> Policy:
    default = _action(
        get_str(document, "defaultAction"), get_int(document, "defaultErrnoRet", errno.EPERM)
    )
    words = get_strings(document, "flags")
    unknown = [word for word in words if word not in FLAGS]
    if unknown:
        raise SpecError("linux.seccomp.flags", f"unknown flag {unknown[0]}")
    # As runc: without flags of its own a filter does not switch speculation off.
    flags = sum({FLAGS[word] for word in words}) if "flags" in document else 4
    policy = Policy(default, flags, _architectures(document, native))
    go_name = ARCHITECTURES[native][2]
    for rule in get_objects(document, "syscalls"):
        if _applies(rule, capabilities, go_name, release):
            _add(policy, rule)
    return policy


def _architectures(document: JsonObject, native: str) -> tuple[str, ...]:
    wanted = [native]
    for entry in get_objects(document, "archMap"):
        if get_str(entry, "architecture") == native:
            wanted += get_strings(entry, "subArchitectures")
    wanted += get_strings(document, "architectures")
    return tuple(dict.fromkeys(name for name in wanted if name in ARCHITECTURES))


def _applies(rule: JsonObject, capabilities: int, go_name: str, release: str) -> bool:
    includes, excludes = get_object(rule, "includes"), get_object(rule, "excludes")
    arches = get_strings(includes, "arches")
    if arches and go_name not in arches:
        return False
    needed = get_strings(includes, "caps")
    if needed and any(not capabilities & caps.mask_of((name,)) for name in needed):
        return False
    minimum = get_str(includes, "minKernel")
    if minimum and not _kernel_at_least(release, minimum):
        return False
    if go_name in get_strings(excludes, "arches"):
        return False
    if any(capabilities & caps.mask_of((name,)) for name in get_strings(excludes, "caps")):
        return False
    minimum = get_str(excludes, "minKernel")
    return not (minimum and _kernel_at_least(release, minimum))


def _add(policy: Policy, rule: JsonObject) -> None:
    action = _action(get_str(rule, "action"), get_int(rule, "errnoRet", errno.EPERM))
    names = list(get_strings(rule, "names"))
    if get_str(rule, "name"):
        names.append(get_str(rule, "name"))
    conditions = tuple(_condition(item) for item in get_objects(rule, "args"))
    if action == policy.default and not conditions:
        return
    for architecture in policy.architectures:
        known = numbers(ARCHITECTURES[architecture][0])
        table = policy.tables[architecture]
        for name in names:
            number = known.get(name)
            if number is None:
                continue
            verdict = table.get(number)
            if not conditions:
                # As with libseccomp the broader rule wins, wherever it stands.
                if verdict is None or verdict.conditional:
                    table[number] = Verdict(action)
            elif verdict is None or verdict.conditional:
                verdict = verdict or Verdict(policy.default)
                # The same argument tested twice in one rule means "or" to runc, not "and".
                for alternative in _alternatives(conditions):
                    verdict.conditional.append((alternative, action))
                table[number] = verdict


def _alternatives(conditions: tuple[Condition, ...]) -> list[tuple[Condition, ...]]:
    arguments = [condition[0] for condition in conditions]
    if len(set(arguments)) == len(arguments):
        return [conditions]
    return [(condition,) for condition in conditions]


def _condition(item: JsonObject) -> Condition:
    index, operator = get_int(item, "index"), get_str(item, "op")
    if not 0 <= index <= 5 or operator not in OPERATORS:
        raise SpecError("linux.seccomp.syscalls.args", f"bad index {index} or op {operator!r}")
    mask = (1 << 64) - 1
    return index, operator, get_int(item, "value") & mask, get_int(item, "valueTwo") & mask


def _action(name: str, number: int) -> int:
    if name not in ACTIONS:
        raise SpecError("linux.seccomp", f"action {name!r} is not supported")
    action = ACTIONS[name]
    return action | (number & 0xFFFF) if action in {ERRNO, TRACE} else action


def _kernel_at_least(release: str, minimum: str) -> bool:
    return parse_release(release) >= parse_release(minimum)
