"""Waiting for a container's exit code, also through the loss of the engine."""

from __future__ import annotations

from wherry.cli.output import line_error
from wherry.client.containers import read_wait
from wherry.client.document import mapping_of, number_of, text_of
from wherry.client.errors import ApiError, CannotConnect, ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.client import Client
    from wherry.client.document import Document
    from wherry.client.transport import Response

PATIENCE_S = 60.0
RETRY_S = 0.1


def wait_for_exit(client: Client, container: str, waiting: Response, *, condition: str) -> int:
    """The exit code; asks a restarted engine again if the one that was asked is gone."""
    try:
        answer = read_wait(waiting)
        if "StatusCode" not in answer:
            raise ConnectionLost("unexpected EOF")
    except ConnectionLost:
        answer = _ask_again(client, container, condition)
    message = text_of(mapping_of(answer, "Error"), "Message")
    if message:
        line_error(f"Error waiting for container: {message}")
        return 125
    return number_of(answer, "StatusCode")


def _ask_again(client: Client, container: str, condition: str) -> Document:
    import time

    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            # What happened meanwhile is not a next exit any more.
            again = client.containers.wait(
                container, "removed" if condition == "removed" else "not-running"
            )
            answer = read_wait(again)
            if "StatusCode" in answer:
                return answer
        except ApiError as exc:
            if exc.status == 404:
                return {"StatusCode": 125, "Error": {"Message": exc.message}}
            raise
        except (ConnectionLost, CannotConnect):
            if time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)
