"""wherry update."""

from __future__ import annotations

from wherry.cli.command import ValueRefused, Verb
from wherry.cli.errors import CommandFailed, sentence_of
from wherry.cli.output import line_error, line_out
from wherry.client.document import strings_of
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    (
        "blkio-weight",
        "",
        "uint16",
        "",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    ("cpu-period", "", "int", "", "Limit CPU CFS (Completely Fair Scheduler) period"),
    ("cpu-quota", "", "int", "", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    ("cpu-rt-period", "", "int", "", "Limit the CPU real-time period in microseconds"),
    ("cpu-rt-runtime", "", "int", "", "Limit the CPU real-time runtime in microseconds"),
    ("cpu-shares", "c", "int", "", "CPU shares (relative weight)"),
    ("cpus", "", "decimal", "", "Number of CPUs"),
    ("cpuset-cpus", "", "string", "", "CPUs in which to allow execution (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "", "MEMs in which to allow execution (0-3, 0,1)"),
    ("kernel-memory", "", "bytes", "", ""),
    ("memory", "m", "bytes", "", "Memory limit"),
    ("memory-reservation", "", "bytes", "", "Memory soft limit"),
    (
        "memory-swap",
        "",
        "bytes",
        "",
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    ),
    ("pids-limit", "", "int", "", "Tune container pids limit (set -1 for unlimited)"),
    ("restart", "", "string", "", "Restart policy to apply when a container exits"),
)
CHECKS = {
    "cpus": "parse_nano_cpus",
    "kernel-memory": "parse_size",
    "memory": "parse_size",
    "memory-reservation": "parse_size",
    "memory-swap": "parse_swap_size",
}


def run(session: Session, arguments: Arguments) -> int:
    """Changes limits and restart policy of containers."""
    from wherry.cli import flags

    changed, number, text = arguments.changed, arguments.number, arguments.text
    if not changed:
        raise CommandFailed("you must provide one or more flags when using this command")
    document: Document = {
        "BlkioWeight": number("blkio-weight"),
        "CpuPeriod": number("cpu-period"),
        "CpuQuota": number("cpu-quota"),
        "CpuRealtimePeriod": number("cpu-rt-period"),
        "CpuRealtimeRuntime": number("cpu-rt-runtime"),
        "CpuShares": number("cpu-shares"),
        "CpusetCpus": text("cpuset-cpus"),
        "CpusetMems": text("cpuset-mems"),
        "Memory": flags.parse_size(text("memory", "0")),
        "MemoryReservation": flags.parse_size(text("memory-reservation", "0")),
        "MemorySwap": flags.parse_swap_size(text("memory-swap", "0")),
        "NanoCpus": flags.parse_nano_cpus(text("cpus", "0")),
    }
    if "pids-limit" in changed:
        document["PidsLimit"] = number("pids-limit")
    try:
        document["RestartPolicy"] = flags.parse_restart(text("restart"))
    except ValueRefused as exc:
        raise CommandFailed(str(exc)) from exc
    warnings: list[str] = []
    failures: list[str] = []
    for container in arguments.positional:
        try:
            answer = session.client.containers.update(container, document)
        except ClientError as exc:
            failures.append(sentence_of(exc))
            continue
        line_out(container)
        warnings += strings_of(answer, "Warnings")
    if warnings:
        line_out("\n".join(warnings))
    if failures:
        line_error("\n".join(failures))
        return 1
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    aliases="container update, update",
    options=OPTIONS,
    checks=CHECKS,
    minimum=1,
)
