"""Device rules: folded to a default and its exceptions, then written for version 1 or compiled for version 2.

The folding follows the kernel's v1 controller (device_cgroup.c): a rule for all devices sets the default
and clears the exceptions; any other either adds to them or takes away from the one that is spelled the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from wherry.kernel import bpf
from wherry.lib.jsonvalue import JsonObject
from wherry.runtime.spec import DeviceRule

Key = tuple[str, int, int]

# What runc allows beside the specification's list: making any node, the default devices, ptys, tun.
_ALWAYS: tuple[JsonObject, ...] = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 8, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 7, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 9, "access": "rwm"},
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},
    {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rwm"},
)
DEFAULT_RULES = tuple(DeviceRule(rule) for rule in _ALWAYS)
_ACCESS = {
    "r": bpf.BPF_DEVCG_ACC_READ,
    "w": bpf.BPF_DEVCG_ACC_WRITE,
    "m": bpf.BPF_DEVCG_ACC_MKNOD,
}
_TYPES = {"b": bpf.BPF_DEVCG_DEV_BLOCK, "c": bpf.BPF_DEVCG_DEV_CHAR}


class DevicePolicy:
    """The folded rules: what happens by default, and the exceptions from it."""

    __slots__ = ("allow_by_default", "exceptions")

    def __init__(self, rules: Iterable[DeviceRule]) -> None:
        self.allow_by_default = True
        self.exceptions: dict[Key, frozenset[str]] = {}
        for rule in rules:
            self._apply(rule)

    def _apply(self, rule: DeviceRule) -> None:
        if rule.kind == "a":
            self.allow_by_default = rule.allow
            self.exceptions.clear()
            return
        key = (rule.kind, rule.major, rule.minor)
        access = frozenset(rule.access) & frozenset("rwm")
        known = self.exceptions.get(key, frozenset())
        changed = known | access if rule.allow != self.allow_by_default else known - access
        if changed:
            self.exceptions[key] = changed
        else:
            self.exceptions.pop(key, None)

    def lines(self) -> list[tuple[str, str]]:
        """Version 1: (file, line) pairs for a cgroup, whatever was written there before."""
        first = ("devices.allow" if self.allow_by_default else "devices.deny", "a")
        file = "devices.deny" if self.allow_by_default else "devices.allow"
        return [first] + [(file, _line(key, access)) for key, access in self.exceptions.items()]

    def program(self) -> bytes:
        """Version 2: a BPF_PROG_TYPE_CGROUP_DEVICE program; returns 1 = allowed, 0 = EPERM."""
        # r2 = type, r3 = access wanted, r4 = major, r5 = minor, from struct bpf_cgroup_dev_ctx.
        code = [
            bpf.instruction(0x61, 2, 1, 0),  # r2 = *(u32 *)(r1 + 0)
            bpf.instruction(0xBC, 3, 2),  # w3 = w2
            bpf.instruction(0x54, 2, immediate=0xFFFF),  # w2 &= 0xffff
            bpf.instruction(0x74, 3, immediate=16),  # w3 >>= 16
            bpf.instruction(0x61, 4, 1, 4),
            bpf.instruction(0x61, 5, 1, 8),
        ]
        for key, access in self.exceptions.items():
            code += self._block(key, access)
        code += [bpf.instruction(0xB4, 0, immediate=int(self.allow_by_default)), _EXIT]
        return b"".join(code)

    def _block(self, key: Key, access: frozenset[str]) -> list[bytes]:
        kind, major, minor = key
        mask = sum(_ACCESS[letter] for letter in access)
        tests: list[tuple[int, int, int]] = []  # jump opcode, register, immediate
        body: list[bytes] = []
        if kind in _TYPES:
            tests.append((0x56, 2, _TYPES[kind]))  # if w2 != type: next block
        if major >= 0:
            tests.append((0x56, 4, major))
        if minor >= 0:
            tests.append((0x56, 5, minor))
        if self.allow_by_default:
            # A denied kind of access among those wanted: no.
            body.append(bpf.instruction(0xBC, 1, 3))
            body.append(bpf.instruction(0x54, 1, immediate=mask))
            miss = (0x16, 1, 0)  # if (w3 & mask) == 0: next block
        else:
            # Everything wanted is allowed here: yes.
            body.append(bpf.instruction(0xBC, 1, 3))
            body.append(bpf.instruction(0x54, 1, immediate=0x7 & ~mask))
            miss = (0x56, 1, 0)  # if (w3 & ~mask) != 0: next block
        verdict = [bpf.instruction(0xB4, 0, immediate=int(not self.allow_by_default)), _EXIT]
        total = len(tests) + len(body) + 1 + len(verdict)
        block = [
            bpf.instruction(code, register, 0, total - index - 1, immediate)
            for index, (code, register, immediate) in enumerate(tests)
        ]
        block += body
        block.append(bpf.instruction(miss[0], miss[1], 0, len(verdict), miss[2]))
        return block + verdict


_EXIT = bpf.instruction(0x95)


def _line(key: Key, access: frozenset[str]) -> str:
    kind, major, minor = key
    numbers = ":".join("*" if number < 0 else str(number) for number in (major, minor))
    return f"{kind} {numbers} {''.join(letter for letter in 'rwm' if letter in access)}"
