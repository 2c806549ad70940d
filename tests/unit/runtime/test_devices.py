"""Device rules folded, written for version 1, and compiled for version 2 (run by a simulator)."""

import struct

import pytest

from wherry.runtime.cgroups.devices import DEFAULT_RULES, DevicePolicy
from wherry.runtime.spec import DeviceRule

READ, WRITE, MKNOD = 2, 4, 1
BLOCK, CHAR = 1, 2


def rule(allow: bool, kind: str = "a", major: int = -1, minor: int = -1, access: str = "rwm"):
    return DeviceRule(
        {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}
    )


def run(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """The verdict of a device program: the subset of eBPF that it uses."""
    registers = [0] * 11
    context = struct.pack("=III", access << 16 | kind, major, minor)
    code = list(struct.iter_unpack("<BBhi", program))
    counter = 0
    while True:
        opcode, pair, offset, immediate = code[counter]
        target, source = pair & 15, pair >> 4
        counter += 1
        if opcode == 0x61:
            registers[target] = struct.unpack_from("=I", context, offset)[0]
        elif opcode == 0xBC:
            registers[target] = registers[source]
        elif opcode == 0xB4:
            registers[target] = immediate
        elif opcode == 0x54:
            registers[target] &= immediate
        elif opcode == 0x74:
            registers[target] >>= immediate
        elif opcode == 0x56:
            counter += offset if registers[target] != immediate else 0
        elif opcode == 0x16:
            counter += offset if registers[target] == immediate else 0
        elif opcode == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"opcode {opcode:#x}")


DOCKER = DevicePolicy((rule(False), *DEFAULT_RULES))


@pytest.mark.parametrize(
    ("kind", "access", "major", "minor", "allowed"),
    [
        (CHAR, READ | WRITE, 1, 3, 1),
        (CHAR, MKNOD, 10, 229, 1),
        (CHAR, READ, 10, 229, 0),
        (CHAR, READ | MKNOD, 10, 229, 0),
        (BLOCK, MKNOD, 8, 0, 1),
        (BLOCK, READ, 8, 0, 0),
        (BLOCK, READ, 1, 3, 0),
        (CHAR, READ | WRITE, 136, 77, 1),
        (CHAR, READ | WRITE, 137, 77, 0),
    ],
)
def test_dockers_default(kind: int, access: int, major: int, minor: int, allowed: int) -> None:
    assert run(DOCKER.program(), kind, access, major, minor) == allowed


def test_exceptions_of_an_open_policy() -> None:
    policy = DevicePolicy((rule(True), rule(False, "b", 8, -1, "w")))
    assert policy.allow_by_default
    assert run(policy.program(), BLOCK, WRITE, 8, 1) == 0
    assert run(policy.program(), BLOCK, READ, 8, 1) == 1
    assert run(policy.program(), BLOCK, READ | WRITE, 8, 1) == 0
    assert run(policy.program(), BLOCK, WRITE, 9, 1) == 1


def test_a_later_rule_takes_back() -> None:
    policy = DevicePolicy((rule(False), rule(True, "c", 5, 1), rule(False, "c", 5, 1, "w")))
    assert policy.lines() == [("devices.deny", "a"), ("devices.allow", "c 5:1 rm")]


def test_lines_of_version_1() -> None:
    lines = DOCKER.lines()
    assert lines[0] == ("devices.deny", "a")
    assert ("devices.allow", "c *:* m") in lines
    assert ("devices.allow", "c 136:* rwm") in lines
    assert DevicePolicy((rule(True),)).lines() == [("devices.allow", "a")]
