"""wherry image tree: the layers of an image, and the files that each one adds, changes, deletes."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.formats import ellipsis
from wherry.cli.output import is_terminal, write_out
from wherry.cli.units import human_size
from wherry.client.document import documents_of, number_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("depth", "d", "int", "2", "Show files down to this depth (0 for layers only, -1 for all)"),
    ("no-trunc", "", "bool", "", "Don't truncate output"),
)
ADDED = 1
MARKS = ("~", "+", "-")
COLORS = ("\x1b[33m", "\x1b[32m", "\x1b[31m")
PLAIN = "\x1b[0m"
COMMAND_WIDTH = 60


def run(session: Session, arguments: Arguments) -> int:
    """Shows the layers of an image."""
    image = arguments.positional[0]
    layers = session.client.images.layers(image)
    depth = arguments.number("depth", 2)
    truncate = not arguments.flag("no-trunc")
    colored = is_terminal(1)
    total = sum(number_of(layer, "Size") for layer in layers)
    lines = [f"{image}  {human_size(total, 3)} in {len(layers)} layers"]
    for number, layer in enumerate(layers, 1):
        lines += _show_layer(number, layer, depth=depth, truncate=truncate, colored=colored)
    write_out("\n".join(lines) + "\n")
    return 0


def _show_layer(
    number: int, layer: Document, *, depth: int, truncate: bool, colored: bool
) -> list[str]:
    changes = documents_of(layer, "Changes")
    counts = [sum(number_of(change, "Kind") == kind for change in changes) for kind in range(3)]
    command = text_of(layer, "CreatedBy").replace("\t", " ")
    identity = text_of(layer, "Id").removeprefix("sha256:")
    if truncate:
        command, identity = ellipsis(command, COMMAND_WIDTH), identity[:12]
    size = human_size(number_of(layer, "Size"), 3)
    lines = [
        "",
        f"{number}  {identity}  {size}  +{counts[1]} ~{counts[0]} -{counts[2]}",
        f"   {command}",
    ]
    for path, kind, below, bytes_below in fold(changes, depth):
        mark = MARKS[kind]
        # Hard links are counted each; a sum above the layer's own size says nothing.
        known = 0 < bytes_below <= number_of(layer, "Size")
        more = f"  {human_size(bytes_below, 3)}" if known else ""
        if below:
            more += f"  ({below} below)"
        if colored:
            lines.append(f"   {COLORS[kind]}{mark} {path}{PLAIN}{more}")
        else:
            lines.append(f"   {mark} {path}{more}")
    return lines


def fold(changes: list[Document], depth: int) -> list[tuple[str, int, int, int]]:
    """Path, kind, how many changes below are not shown, and their bytes.

    A folder that is new as a whole stands for all in it; others are shown down to `depth`.
    """
    shown: dict[str, list[int]] = {}
    added: set[str] = set()
    for change in sorted(changes, key=lambda item: text_of(item, "Path").split("/")):
        path, kind = text_of(change, "Path"), number_of(change, "Kind")
        size = number_of(change, "Size")
        parts = path.strip("/").split("/")
        top = path
        if depth >= 0:
            parents = ["/" + "/".join(parts[:at]) for at in range(1, len(parts))]
            whole = next((parent for parent in parents if parent in added), "")
            top = whole or (path if len(parts) <= depth else "/" + "/".join(parts[:depth]))
        if depth == 0:
            continue
        if top != path:
            # A folder that did not change itself still leads to what did.
            row = shown.setdefault(top, [0, 0, 0])
            row[1] += 1
            row[2] += size
            continue
        shown[path] = [kind, 0, size]
        if kind == ADDED:
            added.add(path)
    return [(path, kind, below, size) for path, (kind, below, size) in shown.items()]


VERB = Verb(run, usage="[OPTIONS] IMAGE", options=OPTIONS, minimum=1, maximum=1)
