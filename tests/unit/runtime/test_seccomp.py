"""The seccomp compiler: programs are run by a small simulator and compared with the profile's own words."""

import itertools
import struct

import pytest

from wherry.kernel import caps
from wherry.runtime.errors import SpecError
from wherry.runtime.seccomp import DEFAULT_PROFILE, build_filter
from wherry.runtime.seccomp.compiler import compile_policy
from wherry.runtime.seccomp.default import build_profile
from wherry.runtime.seccomp.numbers import numbers
from wherry.runtime.seccomp.rules import ALLOW, ERRNO, KILL_THREAD, LOG, build_policy

X86_64, I386 = 0xC000003E, 0x40000003
EPERM, ENOSYS = ERRNO | 1, ERRNO | 38
DOCKER = caps.mask_of(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
)


def simulate(program: bytes, number: int, *arguments: int, arch: int = X86_64) -> int:
    """What the kernel would answer."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=IIQ6Q", number, arch, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, counter = 0, 0
    while True:
        opcode, on_true, on_false, value = code[counter]
        counter += 1
        if opcode == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif opcode == 0x54:
            accumulator &= value
        elif opcode == 0x05:
            counter += value
        elif opcode == 0x06:
            return int(value)
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
            }[opcode]
            counter += on_true if holds else on_false


def default_program(capabilities: int = DOCKER) -> bytes:
    return compile_policy(build_policy(build_profile(), capabilities, "x86_64", "6.18.0"))


def expected(name: str, profile_allows: set[str]) -> int:
    if name == "clone3":
        return ENOSYS
    return ALLOW if name in profile_allows else EPERM


def test_every_unconditional_call_of_the_default_profile() -> None:
    program = default_program()
    policy = build_policy(build_profile(), DOCKER, "x86_64", "6.18.0")
    table = policy.tables["SCMP_ARCH_X86_64"]
    for name, number in numbers("x86_64").items():
        verdict = table.get(number)
        if verdict is None or verdict.conditional:
            continue
        assert simulate(program, number) == verdict.otherwise, name
    for name in ("read", "execve", "chroot", "ptrace", "openat2", "clone", "mseal"):
        assert simulate(program, numbers("x86_64")[name]) == ALLOW, name
    for name in ("mount", "bpf", "unshare", "setns", "keyctl", "reboot", "kexec_load", "acct"):
        assert simulate(program, numbers("x86_64")[name]) == EPERM, name


def test_clone_may_make_no_namespace_and_clone3_does_not_exist() -> None:
    program, clone = default_program(), numbers("x86_64")["clone"]
    assert simulate(program, clone, 0x11) == ALLOW
    for flag in (0x20000, 0x02000000, 0x04000000, 0x10000000, 0x40000000):
        assert simulate(program, clone, 0x11 | flag) == EPERM
    assert simulate(program, numbers("x86_64")["clone3"]) == ENOSYS


def test_capabilities_open_their_calls() -> None:
    program = default_program(DOCKER | caps.mask_of(["CAP_SYS_ADMIN"]))
    for name in ("mount", "setns", "clone3", "bpf"):
        assert simulate(program, numbers("x86_64")[name], 0x10000000) == ALLOW, name
    assert simulate(program, numbers("x86_64")["clone"], 0x10000000) == ALLOW
    assert simulate(program, numbers("x86_64")["reboot"]) == EPERM


@pytest.mark.parametrize(
    ("family", "answer"),
    [(1, ALLOW), (2, ALLOW), (37, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (41, ALLOW)],
)
def test_socket_families(family: int, answer: int) -> None:
    assert simulate(default_program(), numbers("x86_64")["socket"], family) == answer
    assert simulate(default_program(), numbers("x86")["socket"], family, arch=I386) == answer


def test_personalities_are_compared_with_all_64_bits() -> None:
    program, personality = default_program(), numbers("x86_64")["personality"]
    assert simulate(program, personality, 0xFFFFFFFF) == ALLOW
    assert simulate(program, personality, 0x20008) == ALLOW
    assert simulate(program, personality, 0x20009) == EPERM
    assert simulate(program, personality, (1 << 32) | 0x8) == EPERM


def test_other_architectures_have_their_own_numbers() -> None:
    program = default_program()
    assert simulate(program, numbers("x86")["mount"], arch=I386) == EPERM
    assert simulate(program, numbers("x86")["socketcall"], arch=I386) == ALLOW
    assert simulate(program, 0x40000000 | numbers("x32")["execve"]) == ALLOW
    assert simulate(program, 0x40000000 | numbers("x32")["mount"]) == EPERM
    assert simulate(program, numbers("aarch64")["read"], arch=0xC00000B7) == KILL_THREAD


def test_calls_newer_than_the_profile_do_not_exist() -> None:
    program = default_program()
    assert simulate(program, 2000) == ENOSYS
    assert simulate(program, 2000, arch=I386) == ENOSYS
    assert simulate(program, 0x40000000 + 2000) == ENOSYS


def test_the_default_profile_is_small() -> None:
    program, flags = build_filter(DEFAULT_PROFILE, DOCKER)
    assert len(program) // 8 < 900
    assert flags == 4
    assert build_filter(DEFAULT_PROFILE, DOCKER)[0] is program


_VALUES = (0, 1, 5, 6, 7, 1 << 32, (1 << 32) + 6, (1 << 64) - 1)
_MEANING = {
    "SCMP_CMP_EQ": lambda a, v: a == v,
    "SCMP_CMP_NE": lambda a, v: a != v,
    "SCMP_CMP_LT": lambda a, v: a < v,
    "SCMP_CMP_LE": lambda a, v: a <= v,
    "SCMP_CMP_GT": lambda a, v: a > v,
    "SCMP_CMP_GE": lambda a, v: a >= v,
}


@pytest.mark.parametrize("operator", sorted(_MEANING))
def test_comparisons_of_64_bits(operator: str) -> None:
    for value, actual in itertools.product(_VALUES, _VALUES):
        profile = {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {
                    "names": ["close"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 2, "value": value, "op": operator}],
                }
            ],
        }
        program = compile_policy(build_policy(profile, 0, "x86_64"))
        answer = simulate(program, numbers("x86_64")["close"], 0, 0, actual)
        wanted = ALLOW if _MEANING[operator](actual, value) else EPERM
        assert answer == wanted, (operator, value, actual)


def test_conditions_of_one_rule_are_and_several_rules_or() -> None:
    def rule(*args: tuple[int, int]) -> dict[str, object]:
        return {
            "names": ["dup2"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": i, "value": v, "op": "SCMP_CMP_EQ"} for i, v in args],
        }

    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 7,
        "syscalls": [rule((0, 1), (1, 2)), rule((0, 9))],
    }
    program = compile_policy(build_policy(profile, 0, "x86_64"))
    dup2 = numbers("x86_64")["dup2"]
    assert simulate(program, dup2, 1, 2) == ALLOW
    assert simulate(program, dup2, 1, 3) == ERRNO | 7
    assert simulate(program, dup2, 9, 3) == ALLOW


def test_a_profile_that_denies_what_it_names() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"name": "mkdir", "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
            {"names": ["rmdir"], "action": "SCMP_ACT_LOG"},
            {"names": ["not_a_call_at_all"], "action": "SCMP_ACT_KILL"},
        ],
    }
    program = compile_policy(build_policy(profile, 0, "x86_64"))
    assert simulate(program, numbers("x86_64")["mkdir"]) == ERRNO | 13
    assert simulate(program, numbers("x86_64")["rmdir"]) == LOG
    assert simulate(program, numbers("x86_64")["mount"]) == ALLOW
    assert simulate(program, 5000) == ALLOW


@pytest.mark.parametrize(
    "profile",
    [
        {"defaultAction": "SCMP_ACT_NOPE"},
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        {"profile": "unknown"},
        {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": "all"},
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "op": "x"}]}
            ],
        },
    ],
)
def test_bad_profiles_are_refused(profile: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        build_filter(profile, 0)  # type: ignore[arg-type]
