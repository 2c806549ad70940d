"""The spawner: a small single-threaded process that forks shims, so that no start pays for an interpreter.

It has imported all that a shim needs (a shim imports nothing after its fork: an upgrade may have replaced
the files), stays in the host's namespaces, holds no secrets, and ends when the engine does. A request of the
engine is a byte, the kind of shim, and the descriptor from which that takes orders. The spawner itself says only
`READY`, once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys

from wherry.kernel import syscalls
from wherry.kernel.consts import PR
from wherry.kernel.title import TitleRoom
from wherry.runtime.cgroups.hierarchy import hierarchies
from wherry.runtime.errors import SpecError
from wherry.runtime.rehearsal import rehearse
from wherry.runtime.seccomp import DEFAULT_PROFILE, build_filter
from wherry.shim.protocol import FORK_BRIEF, MSG_CMSG_CLOEXEC
from wherry.shim.rehearsal import rehearse_shim
from wherry.shim.shim import run_shim

READY = b"ready"
_RIGHTS_SPACE = socket.CMSG_SPACE(4)
_REHEARSALS = 16  # CPython 3.11 specialises in the eighth run
_DEFAULT_CAPABILITIES = 0xA80425FB  # Docker's fourteen


def run_spawner(run_dir: str, control_fd: int) -> None:
    """Serves the engine on its connection until that closes. Never returns in a shim."""
    # The end of the engine's connection ends this process; shims inherit what is ignored here.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # Shims need no reaping, nor do the orphans of one that was killed, whose parent this process becomes.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    syscalls.prctl(PR.SET_CHILD_SUBREAPER, 1)
    _raise_oom_score()
    _prepare(run_dir, control_fd)
    control = socket.socket(fileno=control_fd)
    title = TitleRoom()
    gc.collect()
    gc.freeze()
    try:
        control.send(READY)
    except BrokenPipeError:
        return  # that engine is gone
    while True:
        kind, rights, _, _ = control.recvmsg(1, _RIGHTS_SPACE, MSG_CMSG_CLOEXEC)
        if not rights:
            return
        shim_fd = int.from_bytes(rights[0][2], sys.byteorder)
        if os.fork() == 0:
            control.close()
            run_shim(shim_fd, title, is_brief=kind == FORK_BRIEF)
        os.close(shim_fd)


def _prepare(run_dir: str, control_fd: int) -> None:
    """What every start would find out anew: where cgroups are, the filter of an ordinary container, its own ways."""
    with contextlib.suppress(OSError, SpecError):
        hierarchies()
        build_filter(DEFAULT_PROFILE, _DEFAULT_CAPABILITIES)
        rehearse(_REHEARSALS)
        rehearse_shim(run_dir, control_fd, _REHEARSALS)


def _raise_oom_score() -> None:
    """A shim goes before the engine and after containers of the default score, as containerd's does."""
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            score = int(file.read())
            file.seek(0)
            file.write(str(min(score + 1, 1000)))
