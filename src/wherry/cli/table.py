"""Tables, templates and JSON lines of the list verbs, in Docker's layout.

A list verb describes its columns once: name, header, and how the cell is made of a document. From
that follow the table, `--format 'table …'`, `--format json` and any template.
"""

from __future__ import annotations

from wherry.cli.errors import CommandFailed
from wherry.cli.output import write_out
from wherry.cli.template import FUNCTIONS, ParseError, Row, Template, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wherry.client.document import Document

MINIMUM_WIDTH = 10
PADDING = 3


class Columns:
    """The fields of a noun: how each cell is computed, and what stands above it."""

    __slots__ = ("cells", "headers", "json_fields", "methods", "type_name")

    def __init__(
        self,
        type_name: str,
        cells: Mapping[str, Callable[[Document], object]],
        headers: Mapping[str, str],
        *,
        methods: Mapping[str, Callable[[Document, str], object]] | None = None,
        json_fields: Sequence[str] | None = None,
    ) -> None:
        self.type_name = type_name
        self.cells = cells
        self.headers = headers
        self.methods = methods or {}
        self.json_fields = json_fields if json_fields is not None else tuple(cells)


class TableRow(Row):
    """One document seen through the columns."""

    __slots__ = ("columns", "document")

    def __init__(self, columns: Columns, document: Document) -> None:
        self.columns = columns
        self.document = document

    @property
    def type_name(self) -> str:  # type: ignore[override]  # the base has one constant
        """Go's name of the type, for errors."""
        return self.columns.type_name

    def field(self, name: str, arguments: list[object]) -> object:
        """A cell, or the result of a method."""
        method = self.columns.methods.get(name)
        if method is not None:
            return method(self.document, str(arguments[0]) if arguments else "")
        return self.columns.cells[name](self.document)

    def as_json(self) -> dict[str, object]:
        """All fields."""
        return {name: self.columns.cells[name](self.document) for name in self.columns.json_fields}


class HeaderRow(Row):
    """What the template of a table shows above the rows."""

    __slots__ = ("headers",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    def field(self, name: str, arguments: list[object]) -> object:
        """The header of a column; of a label its name."""
        if name == "Label" and arguments:
            label = str(arguments[0])
            return label.replace("-", " ").replace("_", " ")
        return self.headers.get(name, "<no value>")


def _first(value: object, *_rest: object) -> object:
    return value


HEADER_FUNCTIONS = {
    **FUNCTIONS,
    **dict.fromkeys(("json", "split", "join", "title", "lower", "upper", "truncate"), _first),
}


def show(
    columns: Columns,
    documents: Iterable[Document],
    layout: str,
    *,
    default: str,
    raw: str = "",
) -> None:
    """Shows documents by a --format value; `default` is the layout of the plain table."""
    write_out(render(columns, documents, layout, default=default, raw=raw))


def render(
    columns: Columns,
    documents: Iterable[Document],
    layout: str,
    *,
    default: str,
    raw: str = "",
) -> str:
    """The text that `show` writes."""
    layout, is_table = resolve_layout(layout, default)
    if layout == "raw" and raw:
        layout, is_table = raw, False
    template = parse_template(layout)
    lines = [run_template(template, TableRow(columns, document)) + "\n" for document in documents]
    if not is_table:
        return "".join(lines)
    header = Template(layout, HEADER_FUNCTIONS).execute(HeaderRow(columns.headers))
    return align(header + "\n" + "".join(lines))


def resolve_layout(layout: str, default: str) -> tuple[str, bool]:
    """The template of a --format value, and whether it is a table."""
    if layout in {"", "table"}:
        return default, True
    if layout == "json":
        return "{{json .}}", False
    text = layout.replace("\\t", "\t").replace("\\n", "\n")
    if text.startswith("table "):
        return text[len("table ") :], True
    return text, False


def parse_template(text: str, prefix: str = "template parsing error") -> Template:
    """A template; raises CommandFailed as the list verbs do."""
    try:
        return Template(text)
    except ParseError as exc:
        raise CommandFailed(f"{prefix}: {exc}") from exc


def run_template(template: Template, value: object) -> str:
    """The text of a template for a value; raises CommandFailed as the list verbs do."""
    try:
        return template.execute(value)
    except TemplateError as exc:
        raise CommandFailed(f"template parsing error: {exc}") from exc


def align(text: str) -> str:
    """Cells between tabs in columns, as Go's tabwriter does with minimum 10 and padding 3."""
    rows = [line.split("\t") for line in text.split("\n")]
    out: list[str] = []
    at = 0
    while at < len(rows):
        # Columns are aligned over neighbouring lines that have them.
        end = at
        while end < len(rows) and len(rows[end]) > 1:
            end += 1
        if end == at:
            out.append(rows[at][0])
            at += 1
            continue
        block = rows[at:end]
        widths: list[int] = []
        for column in range(max(len(row) for row in block) - 1):
            cells = [len(row[column]) for row in block if len(row) - 1 > column]
            widths.append(max(MINIMUM_WIDTH, *(cell + PADDING for cell in cells)))
        for row in block:
            cells_out = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
            out.append("".join(cells_out) + row[-1])
        at = end
    return "\n".join(out)
