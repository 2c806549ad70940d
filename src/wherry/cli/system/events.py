"""wherry events."""

from __future__ import annotations

import time

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.formats import INSPECT_FORMAT_HELP, read_filters
from wherry.cli.gofmt import format_json
from wherry.cli.output import line_out
from wherry.cli.template import ParseError, Template, TemplateError
from wherry.cli.timestamps import to_timestamp
from wherry.client.document import mapping_of, number_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("filter", "f", "filter", "", "Filter output based on conditions provided"),
    ("format", "", "string", "", INSPECT_FORMAT_HELP),
    ("since", "", "string", "", "Show all events created since timestamp"),
    ("until", "", "string", "", "Stream events until this timestamp"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Shows events as they happen."""
    layout = arguments.text("format")
    template = None
    if layout not in {"", "json"}:
        try:
            template = Template(layout)
        except ParseError as exc:
            raise CommandFailed(f"Error parsing format: {exc}", 64) from exc
    events = session.client.system.events(
        since=to_timestamp(arguments.text("since")),
        until=to_timestamp(arguments.text("until")),
        filters=read_filters(arguments),
    )
    for event in events:
        if template is not None:
            try:
                line_out(template.execute(event))
            except TemplateError as exc:
                raise CommandFailed(f"Error parsing format: {exc}", 64) from exc
        elif layout == "json":
            line_out(format_json(event))
        else:
            line_out(show_event(event))
    return 0


def show_event(event: Document) -> str:
    """A line: time, type, action, id, attributes."""
    nanoseconds = number_of(event, "timeNano") or number_of(event, "time") * 10**9
    actor = mapping_of(event, "Actor")
    attributes = mapping_of(actor, "Attributes")
    line = f"{_moment(nanoseconds)} {text_of(event, 'Type')} {text_of(event, 'Action')} {text_of(actor, 'ID')}"
    if attributes:
        line += f" ({', '.join(f'{name}={attributes[name]}' for name in sorted(attributes))})"
    return line


def _moment(nanoseconds: int) -> str:
    local = time.localtime(nanoseconds // 10**9)
    offset = time.strftime("%z", local)
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{nanoseconds % 10**9:09d}{zone}"


VERB = Verb(run, usage="[OPTIONS]", aliases="system events, events", options=OPTIONS, maximum=0)
