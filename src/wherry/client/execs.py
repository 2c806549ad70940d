"""Execs: processes that are added to a running container."""

from __future__ import annotations

from wherry.client.document import encode
from wherry.client.noun import JSON_TYPE, Noun
from wherry.client.transport import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.document import Document
    from wherry.client.transport import Stream


class Execs(Noun):
    """Requests about execs."""

    __slots__ = ()

    def create(self, container: str, config: Document) -> Document:
        """Makes an exec in a running container; `config` is the Engine API's body. Answers Id."""
        return self.post(f"/containers/{quote(container)}/exec", config)

    def start_detached(self, exec_id: str, *, tty: bool = False) -> None:
        """Starts it and does not wait for it."""
        self.post(f"/exec/{exec_id}/start", {"Detach": True, "Tty": tty})

    def start(
        self, exec_id: str, *, tty: bool = False, console_size: tuple[int, int] | None = None
    ) -> Stream:
        """Starts it and gives its streams; `console_size` is rows and columns."""
        document: Document = {"Detach": False, "Tty": tty}
        if console_size is not None:
            document["ConsoleSize"] = list(console_size)
        return self.transport.request(
            "POST",
            f"/exec/{exec_id}/start",
            body=encode(document).encode(),
            headers=JSON_TYPE,
            upgrade=True,
        ).take_stream()

    def inspect(self, exec_id: str) -> Document:
        """Running, ExitCode and more."""
        return self.get(f"/exec/{exec_id}/json")

    def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Sets the size of its terminal."""
        self.post(f"/exec/{exec_id}/resize?h={rows}&w={columns}")
