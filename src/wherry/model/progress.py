"""One step of a long operation, as the API streams it to a client.

Pull, push, load, import and build yield these; `wherry.api` turns each into one line of Docker's
JSON stream. An error ends the stream as an exception of `wherry.model.errors`, not as a record.
"""

from __future__ import annotations

from dataclasses import dataclass

from wherry.lib.jsonvalue import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`status` with an `id` is about one layer; `stream` is plain text; `aux` is for programs.

    `total` is 0 when it is not known. `detail` asks for an empty `progressDetail` where Docker writes
    one (every line about a layer has it).
    """

    status: str = ""
    id: str = ""
    current: int = 0
    total: int = 0
    stream: str = ""
    aux: JsonValue = None
    detail: bool = False
