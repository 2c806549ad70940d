"""What the prune verbs share: the warning, the question, what was deleted and reclaimed."""

from __future__ import annotations

from wherry.cli.formats import read_filters
from wherry.cli.output import ask, write_out
from wherry.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.cli.command import Arguments
    from wherry.cli.session import Session


def confirmed(arguments: Arguments, warning: str) -> bool:
    """True with --force, or if the person says yes."""
    return arguments.flag("force") or ask(f"WARNING! {warning}\nAre you sure you want to continue?")


def prune_filters(session: Session, arguments: Arguments) -> dict[str, list[str]]:
    """The filters given, and those of config.json."""
    filters = read_filters(arguments)
    if session.has_config:
        configured = session.config.document.get("pruneFilters")
        if isinstance(configured, list):
            for text in configured:
                name, _, value = str(text).partition("=")
                if name in {"label", "label!"} and value:
                    filters.setdefault(name, []).append(value)
    return filters


def show_deleted(title: str, names: Sequence[str]) -> None:
    """The names below a title; nothing if there are none."""
    if names:
        write_out(f"{title}\n" + "".join(f"{name}\n" for name in names) + "\n")


def show_reclaimed(size: int) -> None:
    """The last line."""
    write_out(f"Total reclaimed space: {human_size(size)}\n")
