"""The spawner: a small single-threaded process that forks shims, so that no start pays for an interpreter.

It has imported all that a shim needs (a shim imports nothing after its fork: an upgrade may have replaced
the files), stays in the host's namespaces, holds no secrets, and ends when the engine does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys

from wherry.kernel import syscalls
from wherry.kernel.consts import PR
from wherry.kernel.title import TitleRoom
from wherry.lib.jsonvalue import get_int, get_str
from wherry.runtime.cgroups.hierarchy import hierarchies
from wherry.runtime.errors import SpecError
from wherry.runtime.seccomp import DEFAULT_PROFILE, build_filter
from wherry.shim.protocol import Channel, Message, ProtocolError
from wherry.shim.shim import run_shim

_DEFAULT_CAPABILITIES = 0xA80425FB  # Docker's fourteen


def run_spawner(control_fd: int) -> None:
    """Serves the engine on its connection until that closes. Never returns in a shim."""
    # Shims need no reaping, nor do the orphans of one that was killed, whose parent this process becomes.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    syscalls.prctl(PR.SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_oom_score()
    channel = Channel(socket.socket(fileno=control_fd))
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    _fill_caches()
    title = TitleRoom()
    gc.collect()
    gc.freeze()
    while not channel.closed:
        poll.poll()
        try:
            while (message := channel.receive()) is not None:
                _serve(channel, message, title)
        except ProtocolError as error:
            sys.stderr.write(f"spawner: {error}\n")
            return


def _serve(channel: Channel, message: Message, title: TitleRoom) -> None:
    operation = get_str(message.body, "op")
    if operation == "hello":
        channel.send({"re": get_int(message.body, "re"), "pid": os.getpid()})
    elif operation == "fork" and len(message.fds) == 1 and os.fork() == 0:
        channel.close()
        run_shim(message.fds[0], title, get_str(message.body, "slot"))
    message.close()


def _fill_caches() -> None:
    """What every start would find out anew: where cgroups are, the filter of an ordinary container."""
    with contextlib.suppress(OSError, SpecError):
        hierarchies()
        build_filter(DEFAULT_PROFILE, _DEFAULT_CAPABILITIES)


def _raise_oom_score() -> None:
    """A shim goes before the engine and after containers of the default score, as containerd's does."""
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            score = int(file.read())
            file.seek(0)
            file.write(str(min(score + 1, 1000)))
