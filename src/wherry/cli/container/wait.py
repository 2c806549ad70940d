"""wherry wait."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import sentence_of
from wherry.cli.output import line_error, line_out
from wherry.client.containers import read_wait
from wherry.client.document import mapping_of, number_of, text_of
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session


def run(session: Session, arguments: Arguments) -> int:
    """Waits for containers and prints their exit codes."""
    failed = False
    for container in arguments.positional:
        try:
            answer = read_wait(session.client.containers.wait(container))
        except ClientError as exc:
            line_error(sentence_of(exc))
            failed = True
            continue
        message = text_of(mapping_of(answer, "Error"), "Message")
        if message:
            line_error(message)
            failed = True
        else:
            line_out(str(number_of(answer, "StatusCode")))
    return 1 if failed else 0


VERB = Verb(run, usage="CONTAINER [CONTAINER...]", aliases="container wait, wait", minimum=1)
