"""wherry version."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.formats import INSPECT_FORMAT_HELP
from wherry.cli.gofmt import format_json
from wherry.cli.output import line_out, write_out
from wherry.cli.template import ParseError, Template, TemplateError
from wherry.cli.version import API_VERSION, BUILD, VERSION
from wherry.client.document import documents_of, mapping_of, text_of
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (("format", "f", "string", "", INSPECT_FORMAT_HELP),)
ENGINE_ROWS = (
    ("Go version", "GoVersion"),
    ("Git commit", "GitCommit"),
    ("Built", "BuildTime"),
)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def run(session: Session, arguments: Arguments) -> int:
    """Shows the versions of client and engine."""
    layout = arguments.text("format")
    template = None
    if layout not in {"", "json"}:
        try:
            template = Template(layout, name="version")
        except ParseError as exc:
            raise CommandFailed(f"template parsing error: {exc}", 64) from exc
    client = client_version()
    failure: ClientError | None = None
    server: Document = {}
    try:
        server = session.client.system.version()
    except ClientError as exc:
        failure = exc
    for component in documents_of(server, "Components"):
        details = mapping_of(component, "Details")
        if text_of(component, "Name") == "Engine" and "BuildTime" in details:
            details["BuildTime"] = ansi_date(text_of(details, "BuildTime"))
    if layout == "json":
        line_out(format_json({"Client": client, "Server": server or None}))
    elif template is not None:
        try:
            line_out(template.execute({"Client": client, "Server": server or None}))
        except TemplateError as exc:
            raise CommandFailed(str(exc)) from exc
    else:
        write_out(_lay_out(client, server))
    if failure is not None:
        raise failure
    return 0


def client_version() -> Document:
    """What this client says of itself, in Docker's words."""
    import sys

    machine = __import__("os").uname().machine
    python = ".".join(str(part) for part in sys.version_info[:3])
    return {
        "Version": VERSION,
        "ApiVersion": API_VERSION,
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": BUILD,
        "GoVersion": f"python{python}",
        "Os": "linux",
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "BuildTime": "",
        "Context": "default",
    }


def _lay_out(client: Document, server: Document) -> str:
    lines = ["Client:"]
    rows = [
        ("Version", text_of(client, "Version")),
        ("API version", text_of(client, "ApiVersion")),
        ("Python", text_of(client, "GoVersion").removeprefix("python")),
        ("OS/Arch", f"{text_of(client, 'Os')}/{text_of(client, 'Arch')}"),
        ("Context", text_of(client, "Context")),
    ]
    lines += [f" {_cell(name, 19)}{value}" for name, value in rows]
    if server:
        platform = text_of(mapping_of(server, "Platform"), "Name")
        lines += ["", f"Server: {platform}".rstrip()]
        for component in documents_of(server, "Components"):
            lines += _lay_out_component(component)
    return "\n".join(lines) + "\n"


def _lay_out_component(component: Document) -> list[str]:
    details = mapping_of(component, "Details")
    name = text_of(component, "Name")
    rows = [("Version", text_of(component, "Version"))]
    if name == "Engine":
        minimum = text_of(details, "MinAPIVersion")
        rows.append(
            ("API version", f"{text_of(details, 'ApiVersion')} (minimum version {minimum})")
        )
        rows += [(title, text_of(details, key)) for title, key in ENGINE_ROWS]
        rows.append(("OS/Arch", f"{text_of(details, 'Os')}/{text_of(details, 'Arch')}"))
        rows.append(("Experimental", text_of(details, "Experimental")))
    else:
        rows += [(key, text_of(details, key)) for key in sorted(details)]
    return [f" {name}:"] + [f"  {_cell(title, 18)}{value}" for title, value in rows]


def _cell(name: str, width: int) -> str:
    return f"{name}:".ljust(width)


def ansi_date(text: str) -> str:
    """`2026-09-15T11:02:57.000000000+00:00` as `Tue Sep 15 11:02:57 2026`."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text[:19])
    except ValueError:
        return text
    clock = moment.strftime("%H:%M:%S")
    day = DAYS[moment.weekday()]
    return f"{day} {MONTHS[moment.month - 1]} {moment.day:2} {clock} {moment.year}"


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
