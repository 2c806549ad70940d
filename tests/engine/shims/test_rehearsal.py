"""What the spawner rehearses works as in a shim and leaves no trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, signal, sys
from wherry.runtime.rehearsal import rehearse
from wherry.shim.rehearsal import rehearse_shim
keep, _ = os.pipe()
before = signal.getsignal(signal.SIGCHLD)
rehearse(2)
rehearse_shim(sys.argv[1], keep, 3)
fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))
assert fds[:4] == [0, 1, 2, keep] and len(fds) == 5, fds  # the last is the listing's own
assert signal.getsignal(signal.SIGCHLD) == before
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""


def test_a_rehearsal_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    # A fault in one of the shim's callbacks would be reported on stderr.
    assert (done.returncode, done.stdout, done.stderr) == (0, "no child\n", "")
    assert list(tmp_path.iterdir()) == []
