"""Volumes: the requests under /volumes."""

from __future__ import annotations

from wherry.client.document import documents_of, strings_of
from wherry.client.noun import Noun, encode_filters
from wherry.client.transport import build_query, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wherry.client.document import Document


class Volumes(Noun):
    """Requests about volumes."""

    __slots__ = ()

    def create(self, config: Document) -> Document:
        """Makes a volume, or gives the one of that name."""
        return self.post("/volumes/create", config)

    def list_all(
        self, filters: Mapping[str, Sequence[str]] | None = None
    ) -> tuple[list[Document], list[str]]:
        """All of them, and warnings."""
        answer = self.get(f"/volumes{build_query(filters=encode_filters(filters))}")
        return documents_of(answer, "Volumes"), strings_of(answer, "Warnings")

    def inspect(self, name: str) -> Document:
        """Everything known about it."""
        return self.get(f"/volumes/{quote(name)}")

    def remove(self, name: str, *, force: bool = False) -> None:
        """Removes it; no container may use it."""
        self.delete(f"/volumes/{quote(name)}{build_query(force=force)}")

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> Document:
        """Removes those that no container uses. Answers VolumesDeleted and SpaceReclaimed."""
        return self.post(f"/volumes/prune{build_query(filters=encode_filters(filters))}")
