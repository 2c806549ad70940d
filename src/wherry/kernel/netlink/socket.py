"""A netlink socket: batches of requests with their acknowledgements, and dumps.

A batch is one send and as few receives as the kernel needs: three requests of a container's start cost
0.1 ms this way, where a library that waits for each costs ten times that. The socket belongs to the
network namespace in which it was opened and stays there.
"""

import _socket
import os
from types import TracebackType
from typing import Self

from wherry.kernel.netlink.codec import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    decode_error,
    decode_messages,
    encode_message,
)

AF_NETLINK = 16
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12
RECEIVE_BYTES = 1 << 18


class NetlinkSocket:
    """One socket of a netlink family (NETLINK_ROUTE = 0, NETLINK_NETFILTER = 12)."""

    def __init__(self, family: int) -> None:
        """Opens in the calling thread's network namespace. Raises OSError."""
        self._socket = _socket.socket(AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, family)
        self._socket.bind((0, 0))
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                continue  # only makes messages longer or errors wordless
        self._sequence = 1
        self._pending: list[bytes] = []
        self._objects: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket; queued requests are dropped."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def queue(self, kind: int, flags: int, body: bytes, what: str, *, ack: bool = True) -> None:
        """Adds one request to the batch; `what` names its object in an error."""
        self._sequence += 1
        if ack:
            flags |= NLM_F_ACK
            self._objects[self._sequence] = what
        self._pending.append(encode_message(kind, flags | NLM_F_REQUEST, self._sequence, body))

    def flush(self) -> None:
        """Sends the batch and waits for every acknowledgement.

        Raises OSError(errno, sentence, what) of the first request that failed; later ones of the
        same batch were tried all the same (rtnetlink) or undone (nf_tables batches).
        """
        pending, self._pending = self._pending, []
        waiting, self._objects = self._objects, {}
        self._socket.send(b"".join(pending))
        failure: OSError | None = None
        while waiting:
            for kind, flags, sequence, body in decode_messages(self._socket.recv(RECEIVE_BYTES)):
                if kind != NLMSG_ERROR:
                    continue
                code, sentence = decode_error(flags, body)
                what = waiting.pop(sequence, None)
                if code and failure is None:
                    text = sentence or os.strerror(code)
                    failure = OSError(code, f"netlink: {text}", what)
                    if what is None:  # an error of the batch as a whole: nothing else will come
                        waiting.clear()
        if failure is not None:
            raise failure

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all answers to a dump request. Raises OSError; EINTR dumps are retried."""
        while True:
            self._sequence += 1
            self._socket.send(
                encode_message(kind, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, body)
            )
            answers: list[bytes] = []
            interrupted = False
            done = False
            while not done:
                for answer, flags, sequence, content in decode_messages(
                    self._socket.recv(RECEIVE_BYTES)
                ):
                    if sequence != self._sequence:
                        continue
                    interrupted |= bool(flags & 0x10)  # NLM_F_DUMP_INTR
                    if answer == NLMSG_DONE:
                        done = True
                    elif answer == NLMSG_ERROR:
                        code, sentence = decode_error(flags, content)
                        raise OSError(code, f"netlink: {sentence or os.strerror(code)}")
                    else:
                        answers.append(content)
            if not interrupted:
                return answers
