"""Hooks: programs of the host at moments of a container's life; the state is on their standard input."""

from __future__ import annotations

import json
import os
import select
import signal
import time

from wherry.runtime.oci.state import ContainerState, RuntimeFailure
from wherry.runtime.spec import Hook

SUPPORTED = ("prestart", "createRuntime", "poststart", "poststop")
_OUTPUT_BYTES = 4096


def run_hooks(state: ContainerState, moment: str, status: str) -> None:
    """Run every hook of a moment in order; raises RuntimeFailure at the first that fails."""
    document = json.dumps(state.document(status)).encode()
    for index, hook in enumerate(state.spec().hooks.get(moment, ())):
        failure = _run(hook, document)
        if failure:
            raise RuntimeFailure(f"error running {moment} hook #{index}: {failure}")


def _run(hook: Hook, document: bytes) -> str:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    output, output_end = os.pipe2(os.O_CLOEXEC)
    actions = [
        (os.POSIX_SPAWN_DUP2, read_end, 0),
        (os.POSIX_SPAWN_DUP2, output_end, 1),
        (os.POSIX_SPAWN_DUP2, output_end, 2),
    ]
    environment = dict(item.split("=", 1) for item in hook.env if "=" in item)
    try:
        pid = os.posix_spawn(
            hook.path,
            list(hook.args) or [hook.path],
            environment,
            file_actions=actions,
            setsigdef=range(1, 32),
        )
    except OSError as error:
        os.close(write_end)
        os.close(output)
        return f"{hook.path}: {os.strerror(error.errno or 0).lower()}"
    finally:
        os.close(read_end)
        os.close(output_end)
    try:
        return _watch(pid, hook, document, write_end, output)
    finally:
        os.close(output)


def _watch(pid: int, hook: Hook, document: bytes, write_end: int, output: int) -> str:
    try:
        os.write(write_end, document)
    except BrokenPipeError:
        pass  # it did not care for the state
    finally:
        os.close(write_end)
    pidfd = os.pidfd_open(pid)
    deadline = time.monotonic() + hook.timeout_s if hook.timeout_s else None
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(output, select.POLLIN)
    said = b""
    timed_out = False
    running = True
    while running:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        events = poller.poll(left)
        if not events:
            timed_out = True
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            break
        for fd, _ in events:
            if fd == pidfd:
                running = False
            else:
                chunk = os.read(output, _OUTPUT_BYTES)
                said = (said + chunk)[-_OUTPUT_BYTES:]
                if not chunk:
                    poller.unregister(output)
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    if timed_out:
        return f"{hook.path}: timed out after {hook.timeout_s}s"
    code = os.waitstatus_to_exitcode(status)
    if code:
        return f"{hook.path}: exit status {code}, output: {said.decode(errors='replace').strip()}"
    return ""
