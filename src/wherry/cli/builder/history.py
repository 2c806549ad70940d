"""wherry builder history: finished builds, or the log of one."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.formats import FORMAT_HELP, since
from wherry.cli.output import write_out
from wherry.cli.table import Columns, show
from wherry.cli.timestamps import to_timestamp
from wherry.client.document import documents_of, flag_of, strings_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("format", "", "string", "", FORMAT_HELP),
    ("logs", "", "bool", "", "Show what the steps of the build printed"),
    ("no-trunc", "", "bool", "", "Don't truncate output"),
)
DEFAULT = "{{.ID}}\t{{.Name}}\t{{.Status}}\t{{.Created}}\t{{.Duration}}"
SHORT = 12


def run(session: Session, arguments: Arguments) -> int:
    """Lists builds, or shows the steps or the log of one."""
    builder = session.client.builder
    if arguments.flag("logs"):
        if not arguments.positional:
            raise CommandFailed("which build? name one of `wherry builder history`")
        identity = text_of(_find(builder.history(), arguments.positional[0]), "ID")
        for record in builder.history_log(identity):
            write_out(text_of(record, "stream"))
        return 0
    if arguments.positional:
        _show_steps(_find(builder.history(), arguments.positional[0]))
        return 0
    truncate = not arguments.flag("no-trunc")
    columns = Columns(
        "*builder.historyContext",
        {
            "Created": lambda b: since(float(to_timestamp(text_of(b, "Created")))),
            "CreatedAt": lambda b: text_of(b, "Created"),
            "Dockerfile": lambda b: text_of(b, "Dockerfile"),
            "Duration": lambda b: f"{_seconds(b):.1f}s",
            "Error": lambda b: text_of(b, "Error"),
            "ID": lambda b: text_of(b, "ID")[:SHORT] if truncate else text_of(b, "ID"),
            "Image": lambda b: text_of(b, "Image"),
            "Name": lambda b: ", ".join(strings_of(b, "Tags")) or text_of(b, "Dockerfile"),
            "Status": lambda b: text_of(b, "Status"),
        },
        {
            "ID": "BUILD ID",
            "Name": "NAME",
            "Status": "STATUS",
            "Created": "CREATED",
            "Duration": "DURATION",
            "Image": "IMAGE",
            "Dockerfile": "DOCKERFILE",
            "Error": "ERROR",
        },
    )
    show(columns, builder.history(), arguments.text("format"), default=DEFAULT)
    return 0


def _find(builds: list[Document], prefix: str) -> Document:
    found = [build for build in builds if text_of(build, "ID").startswith(prefix)]
    if len(found) != 1:
        raise CommandFailed(
            f"no such build: {prefix}" if not found else f"more than one build begins with {prefix}"
        )
    return found[0]


def _seconds(document: Document) -> float:
    value = document.get("Seconds")
    return float(value) if isinstance(value, int | float) else 0.0


def _show_steps(build: Document) -> None:
    lines = [
        f"Build:      {text_of(build, 'ID')}",
        f"Status:     {text_of(build, 'Status')}",
        f"Created:    {text_of(build, 'Created')}",
        f"Duration:   {_seconds(build):.1f}s",
        f"Dockerfile: {text_of(build, 'Dockerfile')}",
        f"Image:      {text_of(build, 'Image')}",
    ]
    if text_of(build, "Error"):
        lines.append(f"Error:      {text_of(build, 'Error')}")
    lines.append("")
    for step in documents_of(build, "Steps"):
        mark = "CACHED" if flag_of(step, "Cached") else f"{_seconds(step):.1f}s"
        if text_of(step, "Error"):
            mark = "ERROR"
        lines.append(f"{mark:>8}  {text_of(step, 'Name')}")
    write_out("\n".join(lines) + "\n")


VERB = Verb(run, usage="[OPTIONS] [BUILD]", options=OPTIONS, maximum=1)
