"""wherry search."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.formats import ellipsis, read_filters
from wherry.cli.table import Columns, show
from wherry.client.document import flag_of, number_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("filter", "f", "filter", "", "Filter output based on conditions provided"),
    ("format", "", "string", "", "Pretty-print search using a Go template"),
    ("limit", "", "int", "", "Max number of search results"),
    ("no-trunc", "", "bool", "", "Don't truncate output"),
)
DESCRIPTION_WIDTH = 45


def run(session: Session, arguments: Arguments) -> int:
    """Searches a registry."""
    truncate = not arguments.flag("no-trunc")

    def description(result: Document) -> str:
        text = text_of(result, "description").replace("\n", " ").replace("\r", " ")
        return ellipsis(text, DESCRIPTION_WIDTH) if truncate else text

    columns = Columns(
        "*registry.searchContext",
        {
            "Description": description,
            "IsAutomated": lambda r: "[OK]" if flag_of(r, "is_automated") else "",
            "IsOfficial": lambda r: "[OK]" if flag_of(r, "is_official") else "",
            "Name": lambda r: text_of(r, "name"),
            "StarCount": lambda r: str(number_of(r, "star_count")),
        },
        {
            "Name": "NAME",
            "Description": "DESCRIPTION",
            "StarCount": "STARS",
            "IsOfficial": "OFFICIAL",
            "IsAutomated": "AUTOMATED",
        },
    )
    term = arguments.positional[0]
    auth = ""
    if session.has_config:
        from wherry.cli.credentials import registry_auth

        domain = term.partition("/")[0]
        auth = registry_auth(session, domain if "." in domain or ":" in domain else "docker.io")
    results = session.client.images.search(
        term, limit=arguments.number("limit"), filters=read_filters(arguments), auth=auth
    )
    results.sort(key=lambda result: -number_of(result, "star_count"))
    show(
        columns,
        results,
        arguments.text("format"),
        default="{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    )
    return 0


VERB = Verb(run, usage="[OPTIONS] TERM", options=OPTIONS, minimum=1, maximum=1)
