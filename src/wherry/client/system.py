"""The engine itself: version, information, events, disk usage, accounts."""

from __future__ import annotations

from wherry.client.noun import Noun, encode_filters, read_documents
from wherry.client.transport import build_query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wherry.client.document import Document


class System(Noun):
    """Requests about the engine."""

    __slots__ = ()

    def ping(self) -> dict[str, str]:
        """The headers of /_ping; proves that the engine answers."""
        response = self.transport.request("GET", "/_ping")
        response.read()
        return response.headers

    def version(self) -> Document:
        """Versions of the engine and its parts."""
        return self.get("/version")

    def info(self) -> Document:
        """What the engine is, has and counts."""
        return self.get("/info")

    def disk_usage(self, kinds: Sequence[str] = ()) -> Document:
        """Sizes of images, containers, volumes and build cache."""
        query = "&".join(f"type={kind}" for kind in kinds)
        return self.get(f"/system/df?{query}" if query else "/system/df")

    def events(
        self,
        *,
        since: str = "",
        until: str = "",
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[Document]:
        """Events as they happen; ends at `until`."""
        query = build_query(since=since, until=until, filters=encode_filters(filters))
        return read_documents(self.transport.request("GET", f"/events{query}"))

    def authenticate(self, account: Document) -> Document:
        """Tries an account at its registry. Answers Status and IdentityToken."""
        return self.post("/auth", account)

    def check(self) -> Iterator[Document]:
        """Re-hashes the store of a wherry engine; gives `checking`, and at last `problems`."""
        return read_documents(self.transport.request("POST", "/wherry/check"))

    def shut_down(self) -> None:
        """Ends a wherry engine; containers go on."""
        self.post("/wherry/shutdown")
