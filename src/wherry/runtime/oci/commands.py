"""What each command does; every function returns the program's exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from wherry.kernel import caps
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_object, get_str
from wherry.runtime.cgroups import Cgroup, CgroupStats
from wherry.runtime.errors import LaunchError, SpecError
from wherry.runtime.launch import Launched, execute, launch, namespaces_of
from wherry.runtime.oci.arguments import Arguments, UsageError
from wherry.runtime.oci.console import proxy_terminal, send_console
from wherry.runtime.oci.documents import build_example, build_features
from wherry.runtime.oci.hooks import SUPPORTED, run_hooks
from wherry.runtime.oci.state import (
    ContainerState,
    RuntimeFailure,
    cgroup_path,
    create_state,
    list_states,
    load_state,
    process_start_time,
)
from wherry.runtime.root import DirectoryRoot
from wherry.runtime.seccomp import build_filter
from wherry.runtime.spec import Process, Spec, parse_process, parse_resources, parse_spec
from wherry.runtime.steps.paths import open_in_root

FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
)


class Settings:
    """The global options that commands look at."""

    __slots__ = ("root", "version")

    def __init__(self, root: str, version: str) -> None:
        self.root = root
        self.version = version


def _one(arguments: Arguments, what: str = "container ID") -> str:
    if not arguments.rest:
        raise UsageError(f"a {what} is needed")
    return arguments.rest[0]


def create(settings: Settings, arguments: Arguments) -> int:
    """Everything but the program."""
    state, launched = _create(settings, arguments, with_gate=True, outlive=True)
    _write_pid_file(arguments, state.pid)
    if launched.console >= 0:
        send_console(arguments.value("console-socket"), launched.console)
    return 0


def start(settings: Settings, arguments: Arguments) -> int:
    """Let a created container's program run."""
    state = load_state(settings.root, _one(arguments))
    status = state.status()
    if status != "created":
        raise RuntimeFailure(f"cannot start a container that has {_PARTICIPLES[status]}")
    fd = os.open(state.fifo(), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.unlink(state.fifo())
        os.write(fd, b"0")
    finally:
        os.close(fd)
    run_hooks(state, "poststart", "running")
    return 0


_PARTICIPLES = {"running": "already started", "paused": "been paused", "stopped": "stopped"}


def run(settings: Settings, arguments: Arguments) -> int:
    """create and start in one, and unless detached wait for the end and delete."""
    detach = "detach" in arguments.flags
    if not detach:
        _hold_signals()
    state, launched = _create(settings, arguments, with_gate=False, outlive=detach)
    try:
        _write_pid_file(arguments, state.pid)
        run_hooks(state, "poststart", "running")
        if detach:
            if launched.console >= 0:
                send_console(arguments.value("console-socket"), launched.console)
            return 0
        return _attend(launched, arguments)
    finally:
        if not detach and "keep" not in arguments.flags:
            _delete(state)


def _create(
    settings: Settings, arguments: Arguments, *, with_gate: bool, outlive: bool
) -> tuple[ContainerState, Launched]:
    container_id = _one(arguments)
    bundle = os.path.abspath(arguments.value("bundle", "."))
    config = _read_json(f"{bundle}/config.json")
    spec = parse_spec(config)
    _check(spec, arguments)
    state = create_state(settings.root, container_id, bundle, config)
    gate = -1
    try:
        if with_gate:
            os.mkfifo(state.fifo(), 0o600)
            gate = os.open(state.fifo(), os.O_RDWR | os.O_CLOEXEC)

        def created(pid: int) -> None:
            state.pid, state.start_time = pid, process_start_time(pid)
            state.created = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime())
            state.save()
            run_hooks(state, "prestart", "created")
            run_hooks(state, "createRuntime", "created")

        hooked = any(spec.hooks.get(moment) for moment in SUPPORTED[:2])
        launched = launch(
            spec,
            root=DirectoryRoot(os.path.join(bundle, spec.root_path)),
            stdio=None if spec.process.terminal else (0, 1, 2),
            cgroup=state.cgroup(),
            gate=gate,
            outlive=outlive,
            before_root=created if hooked else None,
            preserve=arguments.number("preserve-fds") or 0,
        )
        if not hooked:
            created(launched.pid)
    except BaseException:
        state.forget()
        raise
    finally:
        if gate >= 0:
            os.close(gate)
    return state, launched


def _check(spec: Spec, arguments: Arguments) -> None:
    for moment, hooks in spec.hooks.items():
        if hooks and moment not in SUPPORTED:
            raise RuntimeFailure(f"{moment} hooks are not supported")
    if spec.process.selinux_label and os.path.exists("/sys/fs/selinux/enforce"):
        raise RuntimeFailure("SELinux labels are not supported")
    detached = "detach" in arguments.flags or "keep" not in arguments.flags
    if spec.process.terminal and not arguments.value("console-socket"):
        interactive = os.isatty(0) and "detach" not in arguments.flags
        if not interactive and detached:
            raise RuntimeFailure(
                "cannot allocate tty if runc will detach without setting console socket"
            )


def _write_pid_file(arguments: Arguments, pid: int) -> None:
    path = arguments.value("pid-file")
    if not path:
        return
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}")
    with open(temporary, "w", encoding="ascii") as file:
        file.write(str(pid))
    os.replace(temporary, path)


def _attend(launched: Launched, arguments: Arguments) -> int:
    """Stay with a process in the foreground: its terminal, our signals, its exit code."""
    if launched.console >= 0:
        if arguments.value("console-socket"):
            send_console(arguments.value("console-socket"), launched.console)
        else:
            proxy_terminal(launched.console, launched.pidfd)
    with _forwarding(launched.pidfd):
        while True:
            try:
                _, status = os.waitpid(launched.pid, 0)
                break
            except InterruptedError:
                continue
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _hold_signals() -> None:
    """Nothing is lost between the start of a process and the moment when signals can be forwarded."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)


@contextlib.contextmanager
def _forwarding(pidfd: int) -> Iterator[None]:
    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)

    old = {number: signal.signal(number, forward) for number in FORWARDED}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def state(settings: Settings, arguments: Arguments) -> int:
    """Print the state object."""
    found = load_state(settings.root, _one(arguments))
    sys.stdout.write(json.dumps(found.document(), indent=2) + "\n")
    return 0


def kill(settings: Settings, arguments: Arguments) -> int:
    """Send a signal to init, or to all."""
    found = load_state(settings.root, _one(arguments))
    number = _signal_number(arguments.rest[1] if len(arguments.rest) > 1 else "SIGTERM")
    if "all" in arguments.flags:
        cgroup = found.cgroup()
        if cgroup.exists():
            cgroup.kill(number)
        return 0
    if not found.is_alive():
        raise RuntimeFailure("container not running")
    with _pidfd(found) as pidfd:
        signal.pidfd_send_signal(pidfd, number)
    return 0


def _signal_number(text: str) -> int:
    if text.isdigit() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    try:
        return int(signal.Signals[name])
    except KeyError as error:
        raise RuntimeFailure(f'unknown signal "{text}"') from error


@contextlib.contextmanager
def _pidfd(found: ContainerState) -> Iterator[int]:
    try:
        pidfd = os.pidfd_open(found.pid)
    except ProcessLookupError as error:
        raise RuntimeFailure("container not running") from error
    try:
        # Now that it is held it cannot be reused: is it still the one?
        if not found.is_alive():
            raise RuntimeFailure("container not running")
        yield pidfd
    finally:
        os.close(pidfd)


def delete(settings: Settings, arguments: Arguments) -> int:
    """Forget a container that has ended; with force, end it."""
    force = "force" in arguments.flags
    try:
        found = load_state(settings.root, _one(arguments))
    except RuntimeFailure:
        if force:
            return 0
        raise
    status = found.status()
    if status in {"running", "paused"} and not force:
        text = f"cannot delete container {found.container_id} that is not stopped: {status}"
        raise RuntimeFailure(text)
    _delete(found)
    return 0


def _delete(found: ContainerState) -> None:
    cgroup = found.cgroup()
    if found.is_alive():
        with contextlib.suppress(RuntimeFailure), _pidfd(found) as pidfd:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    if cgroup.exists():
        cgroup.kill()
        cgroup.remove()
    deadline = time.monotonic() + 10
    while found.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    found.forget()
    run_hooks(found, "poststop", "stopped")


def exec_(settings: Settings, arguments: Arguments) -> int:
    """Another process in a running container."""
    found = load_state(settings.root, _one(arguments))
    status = found.status()
    if status in {"stopped", "created"}:
        raise RuntimeFailure("cannot exec in a stopped container")
    if status == "paused" and "ignore-paused" not in arguments.flags:
        raise RuntimeFailure("cannot exec in a paused container")
    process = _exec_process(found, arguments)
    spec = found.spec()
    detach = "detach" in arguments.flags
    socket_path = arguments.value("console-socket")
    if process.terminal and not socket_path and (detach or not os.isatty(0)):
        raise RuntimeFailure(
            "cannot allocate tty if runc will detach without setting console socket"
        )
    if not detach:
        _hold_signals()
    with _pidfd(found) as pidfd:
        target = Launched(found.pid, pidfd, namespaces=namespaces_of(spec))
        if spec.seccomp and spec.process.capabilities:
            bounding = caps.mask_of(spec.process.capabilities.bounding)
            target.seccomp = build_filter(spec.seccomp, bounding)
        elif spec.seccomp:
            target.seccomp = build_filter(spec.seccomp, (1 << 64) - 1)
        if process.terminal:
            target.devpts = _open_devpts(found.pid)
        launched = execute(
            target,
            process,
            cgroup=_exec_cgroup(found, spec, arguments),
            stdio=None if process.terminal else (0, 1, 2),
            outlive=detach,
            preserve=arguments.number("preserve-fds") or 0,
        )
    _write_pid_file(arguments, launched.pid)
    if detach:
        if launched.console >= 0:
            send_console(socket_path, launched.console)
        return 0
    return _attend(launched, arguments)


def _exec_cgroup(found: ContainerState, spec: Spec, arguments: Arguments) -> Cgroup:
    from wherry.runtime.cgroups import open_cgroup

    path = cgroup_path(spec, found.container_id)
    below = arguments.value("cgroup").partition(":")[2] or arguments.value("cgroup")
    return open_cgroup(os.path.normpath(f"{path}/{below.strip('/')}"))


def _open_devpts(pid: int) -> int:
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_in_root(root, "/dev/pts", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(root)


def _exec_process(found: ContainerState, arguments: Arguments) -> Process:
    path = arguments.value("process")
    if path:
        return parse_process(_read_json(path))
    document = dict(get_object(found.config, "process"))
    if len(arguments.rest) < 2:
        raise UsageError("process args cannot be empty")
    document["args"] = arguments.rest[1:]
    document["terminal"] = "tty" in arguments.flags
    if arguments.value("cwd"):
        document["cwd"] = arguments.value("cwd")
    environment = document.get("env")
    inherited = list(environment) if isinstance(environment, list) else []
    document["env"] = [*inherited, *arguments.lists.get("env", [])]
    if "no-new-privs" in arguments.flags:
        document["noNewPrivileges"] = True
    user = dict(get_object(document, "user"))
    if arguments.value("user"):
        uid, _, gid = arguments.value("user").partition(":")
        if not uid.isdigit() or (gid and not gid.isdigit()):
            raise UsageError(f"user {arguments.value('user')!r} is not uid[:gid]")
        user = {"uid": int(uid), "gid": int(gid or 0)}
    groups = arguments.lists.get("additional-gids", [])
    if groups:
        user["additionalGids"] = [int(group) for group in groups if group.isdigit()]
    document["user"] = user
    document["capabilities"] = _with_capabilities(document, arguments.lists.get("cap", []))
    return parse_process(document)


def _with_capabilities(document: Mapping[str, JsonValue], added: list[str]) -> JsonValue:
    known = document.get("capabilities")
    if known is None:
        return None
    sets: dict[str, JsonValue] = dict(get_object(document, "capabilities"))
    for name in ("bounding", "effective", "permitted"):
        current = sets.get(name)
        sets[name] = [*(current if isinstance(current, list) else []), *added]
    return sets


def ps(settings: Settings, arguments: Arguments) -> int:
    """The container's processes."""
    pids = load_state(settings.root, _one(arguments)).cgroup().processes()
    if arguments.value("format") == "json":
        sys.stdout.write(json.dumps(pids) + "\n")
        return 0
    lines = ["UID          PID    PPID CMD"]
    for pid in pids:
        with contextlib.suppress(OSError):
            lines.append(_ps_line(pid))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _ps_line(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        parent = file.read().rpartition(")")[2].split()[1]
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    return f"{os.stat(f'/proc/{pid}').st_uid:<8} {pid:>7} {parent:>7} {command}"


def list_(settings: Settings, arguments: Arguments) -> int:
    """Every container under the root."""
    states = list_states(settings.root)
    if "quiet" in arguments.flags:
        sys.stdout.write("".join(f"{found.container_id}\n" for found in states))
        return 0
    documents = [found.document() for found in states]
    if arguments.value("format") == "json":
        sys.stdout.write(json.dumps(documents) + "\n")
        return 0
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    rows += [
        (
            get_str(item, "id"),
            str(item["pid"]),
            get_str(item, "status"),
            get_str(item, "bundle"),
            get_str(item, "created"),
            "root",
        )
        for item in documents
    ]
    widths = [max(12, *(len(row[column]) + 3 for row in rows)) for column in range(6)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("".join(cells).rstrip() + "\n")
    return 0


def pause(settings: Settings, arguments: Arguments) -> int:
    """Freeze."""
    found = load_state(settings.root, _one(arguments))
    if found.status() not in {"running", "created"}:
        raise RuntimeFailure("container not running")
    found.cgroup().freeze()
    return 0


def resume(settings: Settings, arguments: Arguments) -> int:
    """Thaw."""
    found = load_state(settings.root, _one(arguments))
    if found.status() != "paused":
        raise RuntimeFailure("container not paused")
    found.cgroup().thaw()
    return 0


_UPDATES: dict[str, tuple[str, str]] = {
    "memory": ("memory", "limit"),
    "memory-swap": ("memory", "swap"),
    "memory-reservation": ("memory", "reservation"),
    "cpu-share": ("cpu", "shares"),
    "cpu-shares": ("cpu", "shares"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-period": ("cpu", "period"),
    "pids-limit": ("pids", "limit"),
    "blkio-weight": ("blockIO", "weight"),
}


def update(settings: Settings, arguments: Arguments) -> int:
    """Change limits of a running container."""
    found = load_state(settings.root, _one(arguments))
    document: dict[str, dict[str, JsonValue]] = {}
    path = arguments.value("resources")
    if path:
        resources = _read_json("/dev/stdin" if path == "-" else path)
    else:
        for option, (section, key) in _UPDATES.items():
            number = arguments.number(option)
            if number is not None:
                document.setdefault(section, {})[key] = number
        for option, key in (("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")):
            if arguments.value(option):
                document.setdefault("cpu", {})[key] = arguments.value(option)
        resources = document
    found.cgroup().update(parse_resources(resources))
    return 0


def events(settings: Settings, arguments: Arguments) -> int:
    """Statistics, once or again and again until the container ends."""
    found = load_state(settings.root, _one(arguments))
    interval = float(arguments.value("interval", "5s").removesuffix("s") or 5)
    while True:
        document = {
            "type": "stats",
            "id": found.container_id,
            "data": _stats_document(found.cgroup().stats()),
        }
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()
        if "stats" in arguments.flags:
            return 0
        time.sleep(interval)
        if not found.is_alive():
            return 0


def _stats_document(stats: CgroupStats) -> JsonObject:
    return {
        "cpu": {
            "usage": {
                "total": stats.cpu_total_ns,
                "percpu": list(stats.cpu_per_cpu_ns),
                "kernel": stats.cpu_kernel_ns,
                "user": stats.cpu_user_ns,
            },
            "throttling": {
                "periods": stats.cpu_periods,
                "throttledPeriods": stats.cpu_throttled_periods,
                "throttledTime": stats.cpu_throttled_ns,
            },
        },
        "memory": {
            "usage": {
                "usage": stats.memory_usage,
                "max": stats.memory_peak,
                "limit": stats.memory_limit,
                "failcnt": stats.memory_failures,
            },
            "raw": stats.memory_stat,
        },
        "pids": {"current": stats.pids_current, "limit": stats.pids_limit},
        "blkio": {
            "ioServiceBytesRecursive": [
                {"major": e.major, "minor": e.minor, "op": e.operation, "value": e.value}
                for e in stats.blkio_bytes
            ],
        },
    }


def spec(settings: Settings, arguments: Arguments) -> int:
    """Write an example configuration into the bundle."""
    del settings
    path = os.path.join(arguments.value("bundle", "."), "config.json")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(json.dumps(build_example(), indent=4) + "\n")
    except FileExistsError as error:
        raise RuntimeFailure(f"File {path} exists. Remove it first") from error
    return 0


def features(settings: Settings, arguments: Arguments) -> int:
    """Print what this runtime can do."""
    del arguments
    sys.stdout.write(json.dumps(build_features(settings.version), indent=2) + "\n")
    return 0


COMMANDS: dict[str, Callable[[Settings, Arguments], int]] = {
    "create": create,
    "run": run,
    "start": start,
    "state": state,
    "kill": kill,
    "delete": delete,
    "exec": exec_,
    "ps": ps,
    "list": list_,
    "pause": pause,
    "resume": resume,
    "update": update,
    "events": events,
    "spec": spec,
    "features": features,
}


def sentence(error: Exception) -> str:
    """The message of whatever a command raised, in runc's form."""
    if isinstance(error, LaunchError):
        return f"unable to start container process: error during container init: {error.message}"
    if isinstance(error, SpecError):
        return f"invalid configuration: {error}"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return str(error)


def _read_json(path: str) -> JsonObject:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError as error:
        raise RuntimeFailure(f"JSON specification file {path} not found") from error
    except ValueError as error:
        raise RuntimeFailure(f"{path}: {error}") from error
    if not isinstance(document, Mapping):
        raise RuntimeFailure(f"{path}: expected an object")
    return document
