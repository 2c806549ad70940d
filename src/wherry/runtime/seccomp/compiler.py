"""From a `Policy` to classic BPF: one binary search over ranges of call numbers per architecture.

Docker's profile becomes some 200 instructions of which a call runs about twelve; a linear program has
three times as many and runs half of them. See seccomp(2) and linux/bpf_common.h.
"""

from __future__ import annotations

import errno
import struct

from wherry.runtime.seccomp.rules import (
    ALLOW,
    ARCHITECTURES,
    ERRNO,
    KILL_THREAD,
    LOG,
    Condition,
    Policy,
    Verdict,
)

LD_W_ABS = 0x20
JMP_JA = 0x05
JMP_JEQ_K = 0x15
JMP_JGT_K = 0x25
JMP_JGE_K = 0x35
ALU_AND_K = 0x54
RET_K = 0x06

OFFSET_NUMBER = 0
OFFSET_ARCHITECTURE = 4
OFFSET_ARGUMENTS = 16
X32_BIT = 0x40000000
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

Instruction = tuple[int, int, int, int]  # code, jt, jf, k
Segment = tuple[int, Verdict]  # from this number on


def compile_policy(policy: Policy) -> bytes:
    """struct sock_filter after struct sock_filter; raises ValueError when it is too long."""
    by_token: dict[int, list[str]] = {}
    for name in policy.architectures:
        by_token.setdefault(ARCHITECTURES[name][1], []).append(name)
    code: list[Instruction] = [(LD_W_ABS, 0, 0, OFFSET_ARCHITECTURE)]
    for token, names in by_token.items():
        body = _architecture(policy, names)
        # A jump of more than 255 instructions needs an unconditional one.
        code += [(JMP_JEQ_K, 1, 0, token), (JMP_JA, 0, 0, len(body)), *body]
    # An architecture that the profile does not name: libseccomp's answer.
    code.append((RET_K, 0, 0, KILL_THREAD))
    if len(code) > MAX_INSTRUCTIONS:
        raise ValueError(f"seccomp filter of {len(code)} instructions")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _architecture(policy: Policy, names: list[str]) -> list[Instruction]:
    load: Instruction = (LD_W_ABS, 0, 0, OFFSET_NUMBER)
    if names == ["SCMP_ARCH_X86_64"] or set(names) == {"SCMP_ARCH_X86_64", "SCMP_ARCH_X32"}:
        normal = _tree(_segments(policy, "SCMP_ARCH_X86_64", 0))
        x32 = (
            _tree(_segments(policy, "SCMP_ARCH_X32", X32_BIT))
            if "SCMP_ARCH_X32" in names
            else [(RET_K, 0, 0, KILL_THREAD)]
        )
        split: list[Instruction] = [(JMP_JGE_K, 0, 1, X32_BIT), (JMP_JA, 0, 0, len(normal))]
        return [load, *split, *normal, *x32]
    offset = X32_BIT if names[0] == "SCMP_ARCH_X32" else 0
    return [load, *_tree(_segments(policy, names[0], offset))]


def _segments(policy: Policy, architecture: str, offset: int) -> list[Segment]:
    """Ranges of numbers that share a verdict."""
    table = policy.tables[architecture]
    default = Verdict(policy.default)
    last = max(table, default=-1)
    segments: list[Segment] = []
    for number in range(last + 1):
        verdict = table.get(number, default)
        if not segments or segments[-1][1].key() != verdict.key():
            segments.append((number + offset if segments else 0, verdict))
    # Calls newer than the profile "do not exist" (as with runc), so that libc falls back.
    beyond = policy.default if policy.default in {ALLOW, LOG} else ERRNO | errno.ENOSYS
    if not segments or segments[-1][1].key() != Verdict(beyond).key():
        segments.append((last + 1 + offset if segments else 0, Verdict(beyond)))
    return segments


def _tree(segments: list[Segment]) -> list[Instruction]:
    if len(segments) == 1:
        return _leaf(segments[0][1])
    middle = len(segments) // 2
    left, right = _tree(segments[:middle]), _tree(segments[middle:])
    start = segments[middle][0]
    if len(left) <= 255:
        return [(JMP_JGE_K, len(left), 0, start), *left, *right]
    return [(JMP_JGE_K, 0, 1, start), (JMP_JA, 0, 0, len(left)), *left, *right]


def _leaf(verdict: Verdict) -> list[Instruction]:
    code: list[Instruction] = []
    for conditions, action in verdict.conditional:
        code += _rule(conditions, action)
    return [*code, (RET_K, 0, 0, verdict.otherwise)]


def _rule(conditions: tuple[Condition, ...], action: int) -> list[Instruction]:
    """All conditions hold: return the action; else fall through behind the block."""
    parts = [_test(condition) for condition in conditions]
    total = sum(len(part) for part in parts) + 1
    code: list[Instruction] = []
    for part in parts:
        start = len(code)
        for index, (opcode, on_true, on_false, value) in enumerate(part):
            here = start + index + 1
            code.append(
                (
                    opcode,
                    _target(on_true, here, start + len(part), total),
                    _target(on_false, here, start + len(part), total),
                    value,
                )
            )
    return [*code, (RET_K, 0, 0, action)]


# Targets inside a test: go on with the next instruction, leave with success, leave with failure.
_NEXT, _HOLDS, _FAILS = 0, -1, -2


def _target(target: int, here: int, end_of_test: int, end_of_rule: int) -> int:
    if target == _HOLDS:
        return end_of_test - here
    if target == _FAILS:
        return end_of_rule - here
    return target


def _test(condition: Condition) -> list[Instruction]:
    """One 64-bit comparison, high word first (all supported machines but s390 are little-endian)."""
    index, operator, value, second = condition
    low_at, high_at = OFFSET_ARGUMENTS + 8 * index, OFFSET_ARGUMENTS + 8 * index + 4
    if _BIG_ENDIAN:
        low_at, high_at = high_at, low_at
    low, high = value & 0xFFFFFFFF, value >> 32
    load_low: Instruction = (LD_W_ABS, 0, 0, low_at)
    load_high: Instruction = (LD_W_ABS, 0, 0, high_at)
    if operator == "SCMP_CMP_MASKED_EQ":
        return [
            load_high,
            (ALU_AND_K, 0, 0, high),
            (JMP_JEQ_K, _NEXT, _FAILS, second >> 32),
            load_low,
            (ALU_AND_K, 0, 0, low),
            (JMP_JEQ_K, _HOLDS, _FAILS, second & 0xFFFFFFFF),
        ]
    if operator == "SCMP_CMP_EQ":
        return [
            load_high,
            (JMP_JEQ_K, _NEXT, _FAILS, high),
            load_low,
            (JMP_JEQ_K, _HOLDS, _FAILS, low),
        ]
    if operator == "SCMP_CMP_NE":
        return [
            load_high,
            (JMP_JEQ_K, _NEXT, _HOLDS, high),
            load_low,
            (JMP_JEQ_K, _FAILS, _HOLDS, low),
        ]
    compare = JMP_JGT_K if operator in {"SCMP_CMP_GT", "SCMP_CMP_LE"} else JMP_JGE_K
    above, not_above = (
        (_HOLDS, _FAILS) if operator in {"SCMP_CMP_GT", "SCMP_CMP_GE"} else (_FAILS, _HOLDS)
    )
    return [
        load_high,
        (JMP_JGT_K, above, _NEXT, high),
        (JMP_JEQ_K, _NEXT, not_above, high),
        load_low,
        (compare, above, not_above, low),
    ]


_BIG_ENDIAN = struct.pack("=H", 1) == b"\0\1"
