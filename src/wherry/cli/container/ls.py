"""wherry ps."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.container.columns import DEFAULT, RAW, container_columns
from wherry.cli.errors import CommandFailed
from wherry.cli.formats import FORMAT_HELP, read_filters
from wherry.cli.table import TableRow, parse_template, show
from wherry.cli.template import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("all", "a", "bool", "", "Show all containers (default shows just running)"),
    ("filter", "f", "filter", "", "Filter output based on conditions provided"),
    ("format", "", "string", "", FORMAT_HELP),
    ("last", "n", "int", "-1", "Show n last created containers (includes all states)"),
    ("latest", "l", "bool", "", "Show the latest created container (includes all states)"),
    ("no-trunc", "", "bool", "", "Don't truncate output"),
    ("quiet", "q", "bool", "", "Only display container IDs"),
    ("size", "s", "bool", "", "Display total file sizes"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Lists containers."""
    quiet = arguments.flag("quiet")
    layout = arguments.text("format")
    if not layout and not quiet and session.has_config:
        layout = session.config.text("psFormat")
    _check_layout(layout)
    size = arguments.flag("size")
    last = 1 if arguments.flag("latest") else arguments.number("last", -1)
    containers = session.client.containers.list_all(
        all_=arguments.flag("all"),
        limit=max(last, 0),
        size=size or ".Size" in layout,
        filters=read_filters(arguments),
    )
    default, raw = DEFAULT, RAW
    if size:
        default += "\t{{.Size}}"
        raw += "size: {{.Size}}\n"
    if quiet and layout in {"", "table"}:
        layout = "{{.ID}}"
    elif quiet and layout == "raw":
        layout = "container_id: {{.ID}}"
    columns = container_columns(truncate=not arguments.flag("no-trunc"))
    show(columns, containers, layout, default=default, raw=raw)
    return 0


def _check_layout(layout: str) -> None:
    """Tries the layout before the engine is asked, so that no list is made for a bad one."""
    if layout in {"", "table", "json", "raw"}:
        return
    template = parse_template(layout, "failed to parse template")
    try:
        template.execute(TableRow(container_columns(truncate=True), {}))
    except TemplateError as exc:
        raise CommandFailed(f"failed to execute template: {exc}") from exc


VERB = Verb(
    run,
    usage="[OPTIONS]",
    aliases="container ls, container list, container ps, ps",
    options=OPTIONS,
    maximum=0,
)
