"""Starts the engine when none answers at the default address.

Two commands at once give one engine: the second waits for the lock, then finds the engine. The
engine is detached: a session of its own, its output in a log file that is named once.
"""

from __future__ import annotations

import os
import sys

from wherry.cli.output import line_error

RUN_DIR = "/run/wherry"
LOG_DIR = "/var/log"
READY_DEADLINE_S = 30.0


def start_engine() -> bool:
    """Starts wherryd and returns when it is ready; False if this user may not start one."""
    if os.geteuid() != 0:
        return False
    import fcntl
    import select

    os.makedirs(RUN_DIR, mode=0o711, exist_ok=True)
    lock = os.open(
        os.path.join(RUN_DIR, "start.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _answers():
            return True
        log_path = os.path.join(LOG_DIR, "wherryd.log")
        ready, ready_child = os.pipe()
        line_error(f"Starting the wherry daemon; its log is {log_path}")
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        _keep_descriptors_private()
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, *_engine_command(), "--ready-fd", "3"],
            _engine_environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, ready_child, 3),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
            setsigmask=[],
        )
        os.close(ready_child)
        os.close(log)
        poller = select.poll()
        poller.register(ready, select.POLLIN | select.POLLHUP)
        poller.poll(READY_DEADLINE_S * 1000)
        os.set_blocking(ready, False)
        try:
            is_ready = os.read(ready, 1) != b""
        except BlockingIOError:
            is_ready = False
        os.close(ready)
        if is_ready:
            return True
        _explain(pid, log_path)
        return False
    finally:
        os.close(lock)


def _keep_descriptors_private() -> None:
    """Nothing that this command inherited may stay open in the engine: a pipe's reader would wait."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)  # noqa: FBT003 - os's own signature
            except OSError:
                continue


def _engine_command() -> list[str]:
    """How to run wherryd with the interpreter that runs this; -I needs its own way to the package."""
    code = (
        f"import sys; sys.path.insert(0, {package_root()!r}); sys.argv[0] = 'wherryd'; "
        "from wherry.daemon.main import main; sys.exit(main())"
    )
    return ["-I", "-c", code]


def package_root() -> str:
    """The folder that holds the package."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _engine_environment() -> dict[str, str]:
    # The engine outlives this session: only what it may need of the environment goes along.
    kept = (
        "PATH",
        "LANG",
        "TZ",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    )
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    environment.update(
        {name: value for name, value in os.environ.items() if name.startswith("WHERRY_")}
    )
    return environment


def _answers() -> bool:
    from wherry.client.client import DEFAULT_ADDRESS
    from wherry.client.transport import connect_unix

    try:
        connect_unix(DEFAULT_ADDRESS.removeprefix("unix://")).close()
    except OSError:
        return False
    return True


def _explain(pid: int, log_path: str) -> None:
    import select

    # The end of the pipe may be seen before the end of the process.
    pidfd = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    ended = poller.poll(1000)
    os.close(pidfd)
    if not ended:
        line_error(f"The wherry daemon (process {pid}) is not ready yet; see {log_path}")
        return
    os.waitpid(pid, 0)
    try:
        with open(log_path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 2000))
            tail = str(file.read(), "utf-8", "replace").splitlines()[-5:]
    except OSError:
        tail = []
    line_error("\n".join(["The wherry daemon ended before it was ready:", *tail]))
