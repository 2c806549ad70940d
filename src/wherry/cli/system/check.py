"""wherry system check: re-hashes the engine's store."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.output import is_terminal, line_error, line_out, write_error
from wherry.client.document import strings_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (("quiet", "q", "bool", "", "Only say what is wrong"),)


def run(session: Session, arguments: Arguments) -> int:
    """Checks every blob and layer; 1 if something is wrong."""
    live = is_terminal(2) and not arguments.flag("quiet")
    checked = 0
    problems: list[str] = []
    for record in session.client.system.check():
        if "checking" in record:
            checked += 1
            if live:
                write_error(f"\r\x1b[2Kchecking {text_of(record, 'checking')[:72]}")
        problems += strings_of(record, "problems")
    if live:
        write_error("\r\x1b[2K")
    for problem in problems:
        line_error(problem)
    if not problems and not arguments.flag("quiet"):
        line_out(f"{checked} blobs and layers checked, no problem found")
    return 1 if problems else 0


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
