"""Networks: the requests under /networks."""

from __future__ import annotations

from wherry.client.noun import Noun, encode_filters
from wherry.client.transport import build_query, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wherry.client.document import Document


class Networks(Noun):
    """Requests about networks; `ref` is a name, an id or a unique prefix of one."""

    __slots__ = ()

    def create(self, config: Document) -> Document:
        """Makes a network. Answers Id and Warning."""
        return self.post("/networks/create", config)

    def list_all(self, filters: Mapping[str, Sequence[str]] | None = None) -> list[Document]:
        """All of them."""
        return self.get_list(f"/networks{build_query(filters=encode_filters(filters))}")

    def inspect(self, ref: str, *, verbose: bool = False, scope: str = "") -> Document:
        """Everything known about it."""
        return self.get(f"/networks/{quote(ref)}{build_query(verbose=verbose, scope=scope)}")

    def remove(self, ref: str) -> None:
        """Removes it; no container may be on it."""
        self.delete(f"/networks/{quote(ref)}")

    def connect(self, ref: str, container: str, config: Document) -> None:
        """Puts a container on it."""
        document: Document = {"Container": container}
        if config:
            document["EndpointConfig"] = config
        self.post(f"/networks/{quote(ref)}/connect", document)

    def disconnect(self, ref: str, container: str, *, force: bool = False) -> None:
        """Takes a container off it."""
        self.post(f"/networks/{quote(ref)}/disconnect", {"Container": container, "Force": force})

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> Document:
        """Removes those that no container uses. Answers NetworksDeleted."""
        return self.post(f"/networks/prune{build_query(filters=encode_filters(filters))}")
