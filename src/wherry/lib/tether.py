"""A program that ends with who asked for it: `python -I -S tether.py DESCRIPTOR PROGRAM [ARGUMENT…]`.

The descriptor is the read end of a pipe of which the other process alone has the write end: when that closes before
the program has ended, all of the process group is killed. A parent-death signal would reach the program alone, not
what it has started. Ends as the program did; a signal is 128 + n, as in a shell.
"""

from __future__ import annotations

import os
import select
import signal
import sys


def main() -> None:
    """Runs the program."""
    lifeline, path = int(sys.argv[1]), sys.argv[2]
    kept_back = [(os.POSIX_SPAWN_CLOSE, lifeline)]
    pid = os.posix_spawn(path, sys.argv[2:], os.environ, file_actions=kept_back)
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    poll.register(ended, select.POLLIN)
    if ended not in {fd for fd, _ in poll.poll()}:
        os.killpg(0, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
