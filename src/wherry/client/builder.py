"""Builds and their cache."""

from __future__ import annotations

from wherry.client.document import documents_of
from wherry.client.noun import Noun, encode_filters, read_documents
from wherry.client.transport import build_query, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from wherry.client.document import Document, Json
    from wherry.client.transport import Response


class Builder(Noun):
    """Requests about builds."""

    __slots__ = ()

    def build(
        self,
        query: str,
        context: Iterable[bytes] | None,
        *,
        registry_config: str = "",
        content_type: str = "application/x-tar",
    ) -> Iterator[Document]:
        """Builds from a tar stream, or from what the query's `remote` names.

        `query` is the encoded query of POST /build, with its question mark.
        """
        headers = {"Content-Type": content_type}
        if registry_config:
            headers["X-Registry-Config"] = registry_config
        return read_documents(
            self.transport.request("POST", f"/build{query}", stream=context, headers=headers)
        )

    def offer_context(self, key: str, entries: list[Json]) -> Document:
        """Which files of a context a wherry engine has not; `entries` are arrays as `wire.build` has them."""
        return self.post("/wherry/builds/context", {"Key": key, "Entries": entries})

    def prune(
        self,
        *,
        all_: bool = False,
        reserved_space: int = 0,
        max_used_space: int = 0,
        min_free_space: int = 0,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> Document:
        """Removes build cache; sizes are bytes. Answers CachesDeleted and SpaceReclaimed."""
        query = build_query(all_=all_, filters=encode_filters(filters))
        for name, size in (
            ("keep-storage", reserved_space),  # of engines that do not know the next one
            ("reserved-space", reserved_space),
            ("max-used-space", max_used_space),
            ("min-free-space", min_free_space),
        ):
            if size:
                query += ("&" if query else "?") + f"{name}={size}"
        return self.post(f"/build/prune{query}")

    def usage(self) -> list[Document]:
        """The records of the build cache."""
        return documents_of(self.get("/system/df?type=build-cache"), "BuildCache")

    def output(self, name: str) -> Response:
        """What a build gave beside its image, as a tar stream; it can be read once."""
        return self.transport.request("GET", f"/wherry/builds/output/{quote(name)}")

    def history(self) -> list[Document]:
        """Records of finished builds of a wherry engine, the newest first."""
        return self.get_list("/wherry/builds")

    def history_log(self, build_id: str) -> Iterator[Document]:
        """The progress records that a finished build gave."""
        return read_documents(self.transport.request("GET", f"/wherry/builds/{build_id}/logs"))
