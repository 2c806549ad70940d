"""Netlink's wire format: message headers and attributes (linux/netlink.h, RFC 3549).

Pure: bytes in, bytes out. Every structure is aligned to four bytes and in host byte order, but for
the addresses inside, which are in network order, and nftables' integers, which are big-endian.
"""

import struct
from collections.abc import Iterator

NLMSG_ERROR = 2
NLMSG_DONE = 3

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

NLMSGHDR = struct.Struct("=IHHII")
NLATTR = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_NLMSGERR = struct.Struct("=i")


def encode_attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = NLATTR.size + len(payload)
    return NLATTR.pack(length, kind) + payload + b"\0" * (-length & 3)


def encode_string(kind: int, text: str) -> bytes:
    """An attribute that holds a zero-terminated string."""
    return encode_attribute(kind, text.encode() + b"\0")


def encode_u32(kind: int, value: int) -> bytes:
    """An attribute that holds an unsigned integer of 32 bits in host order."""
    return encode_attribute(kind, _U32.pack(value))


def encode_message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One message with its header."""
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), kind, flags, sequence, 0) + body


def decode_attributes(payload: bytes) -> dict[int, bytes]:
    """The attributes of a payload by type; the last one wins. Torn attributes end the walk."""
    return dict(iterate_attributes(payload))


def iterate_attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a payload in order, repeated types included."""
    offset = 0
    while offset + NLATTR.size <= len(payload):
        length, kind = NLATTR.unpack_from(payload, offset)
        if length < NLATTR.size or offset + length > len(payload):
            return
        yield kind & NLA_TYPE_MASK, payload[offset + NLATTR.size : offset + length]
        offset += (length + 3) & ~3


def decode_messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each message in one datagram."""
    offset = 0
    while offset + NLMSGHDR.size <= len(datagram):
        length, kind, flags, sequence, _ = NLMSGHDR.unpack_from(datagram, offset)
        if length < NLMSGHDR.size:
            return
        yield kind, flags, sequence, datagram[offset + NLMSGHDR.size : offset + length]
        offset += (length + 3) & ~3


def decode_error(flags: int, body: bytes) -> tuple[int, str]:
    """(errno, the kernel's own sentence or "") of an NLMSG_ERROR; errno 0 is an acknowledgement."""
    (code,) = _NLMSGERR.unpack_from(body)
    sentence = ""
    if flags & NLM_F_ACK_TLVS:
        (echoed,) = _U32.unpack_from(body, 4)
        start = 20 if flags & NLM_F_CAPPED else 4 + ((echoed + 3) & ~3)
        text = decode_attributes(body[start:]).get(1, b"")  # NLMSGERR_ATTR_MSG
        sentence = text.rstrip(b"\0").decode(errors="replace")
    return -code, sentence
