"""eBPF as far as a cgroup's device filter needs it: assemble, load, attach, query.

Knows nothing of containers; the program's meaning is decided in `wherry.runtime.cgroups.devices`.
See bpf(2), linux/bpf.h (BPF_PROG_TYPE_CGROUP_DEVICE).
"""

from __future__ import annotations

import ctypes
import os
import struct

from wherry.kernel import syscalls

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_DETACH = 9
BPF_PROG_QUERY = 16
BPF_PROG_GET_FD_BY_ID = 13

BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2

BPF_DEVCG_ACC_MKNOD = 1
BPF_DEVCG_ACC_READ = 2
BPF_DEVCG_ACC_WRITE = 4
BPF_DEVCG_DEV_BLOCK = 1
BPF_DEVCG_DEV_CHAR = 2


def instruction(
    code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0
) -> bytes:
    """One struct bpf_insn."""
    return struct.pack("<BBhi", code, dst | src << 4, offset, immediate)


def load_device_program(program: bytes) -> int:
    """BPF_PROG_LOAD of a cgroup-device program; returns its descriptor."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache")
    attributes = struct.pack(
        "=IIQQIIQII16s",
        BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
        0,
        b"wherry_devices",
    )
    return syscalls.bpf(BPF_PROG_LOAD, attributes)


def attach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """BPF_PROG_ATTACH beside what is attached already."""
    syscalls.bpf(
        BPF_PROG_ATTACH,
        struct.pack("=IIII", cgroup_fd, program_fd, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI),
    )


def detach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """BPF_PROG_DETACH."""
    syscalls.bpf(BPF_PROG_DETACH, struct.pack("=IIII", cgroup_fd, program_fd, BPF_CGROUP_DEVICE, 0))


def attached_device_programs(cgroup_fd: int) -> list[int]:
    """Descriptors of the device programs attached to a cgroup; the caller closes them."""
    ids = (ctypes.c_uint32 * 64)()
    attributes = ctypes.create_string_buffer(
        struct.pack("=IIIIQI", cgroup_fd, BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), len(ids)),
        32,
    )
    syscalls.bpf_inout(BPF_PROG_QUERY, attributes)
    number = struct.unpack_from("=I", attributes, 24)[0]
    descriptors: list[int] = []
    try:
        for index in range(number):
            request = struct.pack("=III", ids[index], 0, 0)
            descriptors.append(syscalls.bpf(BPF_PROG_GET_FD_BY_ID, request))
    except OSError:
        for fd in descriptors:
            os.close(fd)
        raise
    return descriptors
