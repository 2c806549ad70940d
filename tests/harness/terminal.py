"""A program on a pseudo-terminal, driven as a person would: type, and wait for what must appear."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

DEADLINE_S = 60.0


class Terminal:
    """Starts `argv` with the pty as its controlling terminal and stdio."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        rows: int = 24,
        columns: int = 80,
    ) -> None:
        self.master, slave = os.openpty()
        self.resize(rows, columns, notify=False)
        self.output = ""
        self._seen = 0
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)

    def resize(self, rows: int, columns: int, *, notify: bool = True) -> None:
        """A new window size; the kernel sends SIGWINCH to the foreground group."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if notify:
            self.process.send_signal(signal.SIGWINCH)

    def send(self, text: str) -> None:
        """Types."""
        os.write(self.master, text.encode())

    def send_line(self, text: str) -> None:
        """Types a line and Enter."""
        self.send(text + "\r")

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            chunk = os.read(self.master, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self.output += chunk.decode(errors="replace")
        return bool(chunk)

    def expect(self, pattern: str, *, deadline_s: float = DEADLINE_S) -> re.Match[str]:
        """Waits for a pattern in what came after the last match; fails with the whole output."""
        deadline = time.monotonic() + deadline_s
        while True:
            match = re.compile(pattern).search(self.output, self._seen)
            if match:
                self._seen = match.end()
                return match
            if not self._read(deadline):
                raise AssertionError(f"no {pattern!r} after {self._seen} in {self.output!r}")

    def sees(self, pattern: str, *, within_s: float) -> bool:
        """Whether the pattern comes in time."""
        try:
            self.expect(pattern, deadline_s=within_s)
        except AssertionError:
            return False
        return True

    def wait(self, *, deadline_s: float = DEADLINE_S) -> int:
        """Reads to the end; the exit code."""
        deadline = time.monotonic() + deadline_s
        while self._read(deadline):
            continue
        return self.process.wait(max(1.0, deadline - time.monotonic()))
