"""wherryd: options, log, locks, signals, and the life of the engine from ready to the end.

The end stops serving and leaves containers running; a new engine finds them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvloop

from wherry.daemon.config import LOG_LEVELS, HelpWanted, OptionError, Options, parse_options
from wherry.daemon.instance import FolderLock, Occupied, PidFile, make_folders
from wherry.daemon.listeners import open_listeners
from wherry.daemon.login import leave_login_session
from wherry.daemon.wiring import Engine, open_engine
from wherry.model.errors import EngineError

logger = logging.getLogger(__name__)

_DESCRIPTORS = 1 << 20
# A thread that was given work (a write that blocks in the kernel) waits this long for the interpreter while
# the loop computes: Python's 5 ms are a third of a container's start.
_SWITCH_INTERVAL_S = 0.0005


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    try:
        arguments = sys.argv[1:] if argv is None else argv
        options = parse_options(arguments)
    except HelpWanted as wanted:
        sys.stdout.write(f"{wanted}\n")
        return 0
    except OptionError as exc:
        return _complain(str(exc))
    configure_log(options)
    try:
        with _occupy(options):
            leave_login_session()
            raise_descriptor_limit()
            sys.setswitchinterval(_SWITCH_INTERVAL_S)
            return _run(options, arguments)
    except (OptionError, Occupied, EngineError) as exc:
        return _complain(str(exc))
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        return _complain(f"{where}{exc.strerror or exc}")


def _complain(sentence: str) -> int:
    sys.stderr.write(f"wherryd: {sentence}\n")
    return 1


def raise_descriptor_limit() -> None:
    """Descriptors for some hundreds of containers and clients; Go does the same for dockerd at start-up.

    Containers inherit it, as they do from dockerd; not more than a million, since programs that close all
    descriptors one by one take minutes under a limit of 2^30.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def configure_log(options: Options) -> None:
    """One line per event on stderr or in a file."""
    handler = logging.FileHandler(options.log_file) if options.log_file else logging.StreamHandler()
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    level = logging.DEBUG if options.debug else LOG_LEVELS[options.log_level]
    logging.basicConfig(level=level, handlers=[handler], force=True)


@contextlib.contextmanager
def _occupy(options: Options) -> Iterator[None]:
    make_folders(options.data_root, options.exec_root)
    with contextlib.ExitStack() as stack:
        for folder in dict.fromkeys((options.data_root, options.exec_root)):
            stack.callback(FolderLock(folder).close)
        pidfile = Path(options.pidfile or options.exec_root / "wherryd.pid")
        stack.callback(PidFile(pidfile).close)
        yield


def _run(options: Options, arguments: Sequence[str]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, arguments))
    return 0


async def serve(options: Options, arguments: Sequence[str]) -> None:
    """Opens the engine, serves until told to stop, and closes it. SIGHUP reads the options again."""
    stop = asyncio.Event()
    _handle_signals(stop)
    async with open_engine(options, stop.set) as engine:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, _reload, engine, tuple(arguments)
        )
        listeners = await open_listeners(options, engine.application)
        try:
            # What is loaded now stays: no collection needs to look at it again, and no page of it is dirtied.
            gc.collect()
            gc.freeze()
            _announce(options)
            logger.info("ready on %s", ", ".join(options.host) or options.exec_root / "wherry.sock")
            if options.idle_exit > 0:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_watch_idleness(engine, options.idle_exit, stop))
                    await stop.wait()
            else:
                await stop.wait()
            logger.info("stopping; containers go on")
        finally:
            for listener in listeners:
                listener.close()
            await engine.application.shutdown(options.shutdown_timeout)


def _reload(engine: Engine, arguments: Sequence[str]) -> None:
    """An error in the file changes nothing, as in dockerd."""
    try:
        options = parse_options(arguments)
        engine.reload(options)
    except OptionError as exc:
        logger.error("reload of the configuration: %s", exc)
        return
    configure_log(options)
    logger.info("configuration reloaded")


def _handle_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def end(number: signal.Signals) -> None:
        if stop.is_set():
            logger.warning("%s again: ending at once", number.name)
            os._exit(1)
        logger.info("%s", number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    for ignored in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)


def _announce(options: Options) -> None:
    if options.ready_fd >= 0:
        with contextlib.suppress(OSError):
            os.write(options.ready_fd, b"1")
        os.close(options.ready_fd)
    address = os.environ.pop("NOTIFY_SOCKET", "")  # sd_notify(3); not for our children
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            with contextlib.suppress(OSError):
                notifier.connect(address.replace("@", "\0", 1))
                notifier.send(b"READY=1")


async def _watch_idleness(engine: Engine, seconds: float, stop: asyncio.Event) -> None:
    """Ends the engine when nobody asks and nothing runs: running containers need their restart policies."""
    application = engine.application
    while not stop.is_set():
        idle_for = time.monotonic() - application.last_activity
        if application.busy_count or engine.is_needed():
            application.last_activity = time.monotonic()
        elif idle_for >= seconds:
            logger.info("idle for %.0f s", idle_for)
            stop.set()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.05, min(seconds - idle_for, seconds / 2))):
                await stop.wait()
