"""`docker top`: the machine's `ps`, cut down to the container's processes (moby daemon/top_unix.go)."""

from __future__ import annotations

import re

from wherry.engine.containers import state
from wherry.engine.containers.handle import ContainerHandle
from wherry.engine.containers.host_side import cgroup_path
from wherry.engine.settings import EngineSettings
from wherry.lib.blocking import run_blocking
from wherry.lib.program import ProgramFailed, ProgramMissing, run_program
from wherry.model.container import Status
from wherry.model.errors import Conflict, ContainerNotRunning, Internal, InvalidArgument
from wherry.model.views import ProcessTable
from wherry.runtime.cgroups import open_cgroup

_RENAMED_PID = re.compile(r"(^|,)\s*pid\s*=\s*[^,]+")  # the column could not be found


async def list_processes(
    settings: EngineSettings, handle: ContainerHandle, ps_args: str
) -> ProcessTable:
    """Raises ContainerNotRunning, InvalidArgument, Internal."""
    arguments = ps_args.split() or ["-ef"]
    _check_arguments(arguments)
    record = handle.record
    if record.state.status is Status.RESTARTING:
        raise Conflict(f"Container {handle.id} is restarting, wait until the container is running")
    if record.state.status not in state.ALIVE:
        raise ContainerNotRunning(handle.id)
    cgroup = open_cgroup(cgroup_path(settings, record))
    pids = frozenset(await run_blocking(cgroup.processes))
    try:
        # `q` cannot be combined with all of what users ask for; the rows are chosen here.
        completed = await run_program(["ps", *arguments], check=True)
    except ProgramMissing as exc:
        raise Internal('ps: exec: "ps": executable file not found in $PATH') from exc
    except ProgramFailed as exc:
        raise Internal(f"ps: {exc.stderr.strip().partition(chr(10))[0]}") from exc
    return parse_table(completed.stdout.decode(errors="replace"), pids)


def _check_arguments(arguments: list[str]) -> None:
    for word in arguments:
        if _RENAMED_PID.search(word):
            raise InvalidArgument(f'specifying "{word}" is not allowed')


def parse_table(text: str, pids: frozenset[int]) -> ProcessTable:
    """Rows of the container's processes. Raises Internal without a PID column."""
    lines = text.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise Internal("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows: list[tuple[str, ...]] = []
    follows = False
    for line in lines[1:]:
        fields = line.split(maxsplit=len(titles) - 1)
        if len(fields) <= column:
            continue
        if fields[column] == "-":
            # Threads, with `ps m`: they follow their process.
            if follows:
                rows.append(tuple(fields))
            continue
        if not fields[column].isdecimal():
            raise Internal(f"Unexpected pid '{fields[column]}'")
        follows = int(fields[column]) in pids
        if follows:
            rows.append(tuple(fields))
    return ProcessTable(titles=tuple(titles), processes=tuple(rows))
