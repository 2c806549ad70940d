"""wherry stats: a table of what containers use, renewed twice a second."""

from __future__ import annotations

import time

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed, sentence_of
from wherry.cli.formats import FORMAT_HELP, SHORT_ID
from wherry.cli.output import write_out
from wherry.cli.table import Columns, show
from wherry.cli.units import binary_size, human_size
from wherry.client.document import (
    documents_of,
    list_of,
    mapping_of,
    number_of,
    text_of,
)
from wherry.client.errors import ClientError
from wherry.client.noun import read_documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.client import Client
    from wherry.client.document import Document

OPTIONS = (
    ("all", "a", "bool", "", "Show all containers (default shows just running)"),
    ("format", "", "string", "", FORMAT_HELP),
    ("no-stream", "", "bool", "", "Disable streaming stats and only pull the first result"),
    ("no-trunc", "", "bool", "", "Do not truncate output"),
)
DEFAULT = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
PERIOD_S = 0.5
PATIENCE_S = 5.0
CLEAR = "\x1b[H"
CLEAR_REST = "\x1b[J"
CLEAR_LINE = "\x1b[K"
UNKNOWN = "--"


class Watched:
    """A container whose measurements a thread collects."""

    __slots__ = ("done", "error", "latest", "ref")

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.latest: Document = {}
        self.error: ClientError | None = None
        self.done = False


def run(session: Session, arguments: Arguments) -> int:
    """Shows what containers use."""
    client = session.client
    stream = not arguments.flag("no-stream")
    watched: dict[str, Watched] = {}
    follow = not arguments.positional
    if follow:
        for item in client.containers.list_all(all_=arguments.flag("all")):
            _watch(client, watched, text_of(item, "Id")[:SHORT_ID], stream=stream)
        if stream:
            _spawn(_follow_events, (client, watched, arguments.flag("all")))
    for ref in arguments.positional:
        _watch(client, watched, ref, stream=stream)
    _wait_for_first(watched)
    if not follow:
        errors = [sentence_of(item.error) for item in watched.values() if item.error is not None]
        if errors:
            raise CommandFailed("\n".join(errors))
    layout = arguments.text("format")
    if not layout and session.has_config:
        layout = session.config.text("statsFormat")
    columns = stats_columns(truncate=not arguments.flag("no-trunc"))
    if not stream:
        show(columns, [_measure(item) for item in watched.values()], layout, default=DEFAULT)
        return 0
    return _show_live(columns, watched, layout, follow=follow)


def _show_live(columns: Columns, watched: dict[str, Watched], layout: str, *, follow: bool) -> int:
    from wherry.cli.table import render

    write_out("\x1b[2J")
    while True:
        rows = [_measure(item) for item in list(watched.values())]
        text = render(columns, rows, layout, default=DEFAULT)
        write_out(CLEAR + text.replace("\n", f"{CLEAR_LINE}\n") + CLEAR_REST)
        if not follow and all(item.done for item in watched.values()):
            return 0
        time.sleep(PERIOD_S)


def _spawn(function: object, arguments: tuple[object, ...]) -> None:
    import _thread

    if callable(function):
        _thread.start_new_thread(function, arguments)


def _watch(client: Client, watched: dict[str, Watched], ref: str, *, stream: bool) -> None:
    if ref not in watched:
        watched[ref] = Watched(ref)
        _spawn(_collect, (client, watched[ref], stream))


def _collect(client: Client, item: Watched, stream: bool) -> None:  # noqa: FBT001 - a thread's target
    try:
        response = client.containers.stats(item.ref, stream=stream)
        for document in read_documents(response):
            item.latest = document
    except ClientError as exc:
        item.error = exc
    finally:
        item.done = True


def _follow_events(client: Client, watched: dict[str, Watched], all_: bool) -> None:  # noqa: FBT001
    try:
        for event in client.system.events(filters={"type": ["container"]}):
            ref = text_of(mapping_of(event, "Actor"), "ID")[:SHORT_ID]
            action = text_of(event, "Action")
            if action == "start" or (all_ and action == "create"):
                watched.pop(ref, None)
                _watch(client, watched, ref, stream=True)
            elif action == ("destroy" if all_ else "die"):
                watched.pop(ref, None)
    except ClientError:
        return


def _wait_for_first(watched: dict[str, Watched]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if all(item.latest or item.done for item in list(watched.values())):
            return
        time.sleep(0.01)


def _measure(item: Watched) -> Document:
    stats = item.latest
    memory = mapping_of(stats, "memory_stats")
    used = _memory_used(memory)
    limit = number_of(memory, "limit")
    received, sent = _network(stats)
    read, written = _block_io(stats)
    return {
        "container": item.ref,
        "name": text_of(stats, "name").removeprefix("/"),
        "id": text_of(stats, "id"),
        "cpu": _cpu_percent(stats),
        "memory": used,
        "limit": limit,
        "percent": used / limit * 100 if limit else 0.0,
        "received": received,
        "sent": sent,
        "read": read,
        "written": written,
        "pids": number_of(mapping_of(stats, "pids_stats"), "current"),
        "valid": bool(stats),
    }


def _cpu_percent(stats: Document) -> float:
    now, before = mapping_of(stats, "cpu_stats"), mapping_of(stats, "precpu_stats")
    used = number_of(mapping_of(now, "cpu_usage"), "total_usage")
    used -= number_of(mapping_of(before, "cpu_usage"), "total_usage")
    system = number_of(now, "system_cpu_usage") - number_of(before, "system_cpu_usage")
    online = number_of(now, "online_cpus") or len(
        list_of(mapping_of(now, "cpu_usage"), "percpu_usage")
    )
    return used / system * online * 100 if system > 0 and used > 0 else 0.0


def _memory_used(memory: Document) -> int:
    """Without the page cache that can be dropped, as cadvisor and CRI count."""
    usage = number_of(memory, "usage")
    details = mapping_of(memory, "stats")
    inactive = number_of(details, "total_inactive_file") or number_of(details, "inactive_file")
    return usage - inactive if inactive < usage else usage


def _network(stats: Document) -> tuple[int, int]:
    networks = mapping_of(stats, "networks")
    interfaces = [mapping_of(networks, name) for name in networks]
    return (
        sum(number_of(interface, "rx_bytes") for interface in interfaces),
        sum(number_of(interface, "tx_bytes") for interface in interfaces),
    )


def _block_io(stats: Document) -> tuple[int, int]:
    read = written = 0
    for entry in documents_of(mapping_of(stats, "blkio_stats"), "io_service_bytes_recursive"):
        operation = text_of(entry, "op")[:1].lower()
        if operation == "r":
            read += number_of(entry, "value")
        elif operation == "w":
            written += number_of(entry, "value")
    return read, written


def stats_columns(*, truncate: bool) -> Columns:
    """The columns; ids are cut if `truncate`."""

    def percent(row: Document, key: str) -> str:
        value = row.get(key)
        return f"{value:.2f}%" if row.get("valid") and isinstance(value, float) else UNKNOWN

    def pair(row: Document, first: str, second: str) -> str:
        if not row.get("valid"):
            return UNKNOWN
        return f"{human_size(number_of(row, first), 3)} / {human_size(number_of(row, second), 3)}"

    def memory(row: Document) -> str:
        if not row.get("valid"):
            return f"{UNKNOWN} / {UNKNOWN}"
        return f"{binary_size(number_of(row, 'memory'))} / {binary_size(number_of(row, 'limit'))}"

    def identity(row: Document) -> str:
        text = text_of(row, "id")
        return (text[:SHORT_ID] if truncate else text) or UNKNOWN

    return Columns(
        "*container.statsContext",
        {
            "BlockIO": lambda r: pair(r, "read", "written"),
            "CPUPerc": lambda r: percent(r, "cpu"),
            "Container": lambda r: text_of(r, "container"),
            "ID": identity,
            "MemPerc": lambda r: percent(r, "percent"),
            "MemUsage": memory,
            "Name": lambda r: text_of(r, "name") or UNKNOWN,
            "NetIO": lambda r: pair(r, "received", "sent"),
            "PIDs": lambda r: str(number_of(r, "pids")) if r.get("valid") else UNKNOWN,
        },
        {
            "Container": "CONTAINER",
            "ID": "CONTAINER ID",
            "Name": "NAME",
            "CPUPerc": "CPU %",
            "MemUsage": "MEM USAGE / LIMIT",
            "MemPerc": "MEM %",
            "NetIO": "NET I/O",
            "BlockIO": "BLOCK I/O",
            "PIDs": "PIDS",
        },
    )


VERB = Verb(
    run,
    usage="[OPTIONS] [CONTAINER...]",
    aliases="container stats, stats",
    options=OPTIONS,
)
