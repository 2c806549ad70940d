"""What the inspect verbs share: look up each reference, show JSON or a template."""

from __future__ import annotations

from wherry.cli.errors import CommandFailed, sentence_of
from wherry.cli.gofmt import format_json, indent_json
from wherry.cli.output import line_error, write_out
from wherry.cli.template import ParseError, Template, TemplateError
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry.client.document import Document, Json


def inspect_all(refs: Sequence[str], layout: str, get: Callable[[str], Document]) -> int:
    """Shows what `get` finds for each; what is not found is said at the end."""
    template = None
    if layout not in {"", "json"}:
        try:
            template = Template(layout)
        except ParseError as exc:
            raise CommandFailed(f"template parsing error: {exc}", 64) from exc
    found: list[Json] = []
    failures: list[str] = []
    lines: list[str] = []
    for ref in refs:
        try:
            document = get(ref)
        except (ClientError, CommandFailed) as exc:
            failures.append(sentence_of(exc))
            continue
        found.append(document)
        if template is not None:
            try:
                lines.append(template.execute(document) + "\n")
            except TemplateError as exc:
                failures.append(f"template parsing error: {exc}")
                break
    if template is not None:
        # Docker writes an empty line when there is nothing to show.
        write_out("".join(lines) or "\n")
    elif layout == "json":
        write_out(format_json(found) + "\n" if found else "[]\n")
    else:
        write_out(indent_json(found) + "\n" if found else "[]\n")
    if failures:
        line_error("\n".join(failures))
        return 1
    return 0
