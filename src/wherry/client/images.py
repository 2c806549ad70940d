"""Images: the requests under /images, and registries as the engine reaches them."""

from __future__ import annotations

from wherry.client.document import as_document, as_documents, decode
from wherry.client.noun import JSON_TYPE, Noun, encode_filters, read_documents
from wherry.client.transport import build_query, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from wherry.client.document import Document
    from wherry.client.transport import Response


class Images(Noun):
    """Requests about images; `ref` is a name with or without tag or digest, or an id."""

    __slots__ = ()

    def list_all(
        self,
        *,
        all_: bool = False,
        digests: bool = False,
        shared_size: bool = False,
        manifests: bool = False,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[Document]:
        """Summaries, the newest first."""
        query = build_query(
            all_=all_,
            digests=digests,
            shared_size=None,
            manifests=manifests,
            filters=encode_filters(filters),
        )
        if shared_size:
            query += ("&" if query else "?") + "shared-size=1"
        return self.get_list(f"/images/json{query}")

    def inspect(self, ref: str, *, platform: str = "", manifests: bool = False) -> Document:
        """Everything known about it; `platform` is an encoded JSON object."""
        query = build_query(platform=platform, manifests=manifests)
        return self.get(f"/images/{quote(ref)}/json{query}")

    def history(self, ref: str, *, platform: str = "") -> list[Document]:
        """Its layers and what made them, the newest first."""
        return self.get_list(f"/images/{quote(ref)}/history{build_query(platform=platform)}")

    def remove(
        self, ref: str, *, force: bool = False, prune: bool = True, platforms: Sequence[str] = ()
    ) -> list[Document]:
        """Untags it, and deletes what nothing names any more. Answers Untagged and Deleted."""
        query = build_query(force=force, noprune=not prune)
        for platform in platforms:
            query += ("&" if query else "?") + build_query(platforms=platform)[1:]
        return as_documents(self.delete(f"/images/{quote(ref)}{query}"))

    def tag(self, ref: str, repository: str, tag: str) -> None:
        """Gives it another name."""
        self.post(f"/images/{quote(ref)}/tag{build_query(repo=repository, tag=tag)}")

    def pull(
        self, repository: str, tag: str = "", *, platform: str = "", auth: str = ""
    ) -> Iterator[Document]:
        """Pulls; gives progress records as they arrive. `auth` is an X-Registry-Auth value."""
        query = build_query(fromImage=repository, tag=tag, platform=platform)
        return self._progress(f"/images/create{query}", auth)

    def push(
        self, repository: str, tag: str = "", *, platform: str = "", auth: str = ""
    ) -> Iterator[Document]:
        """Pushes; gives progress records as they arrive."""
        query = build_query(tag=tag, platform=platform)
        # Without the header the engine refuses; without an account it is an empty object.
        return self._progress(f"/images/{quote(repository)}/push{query}", auth or "e30=")

    def import_(
        self,
        source: str,
        stream: Iterable[bytes] | None,
        *,
        repository: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
    ) -> Iterator[Document]:
        """Makes an image of a tar stream (source `-`) or of what is at a URL."""
        query = build_query(
            fromSrc=source, repo=repository, tag=tag, message=message, platform=platform
        )
        for change in changes:
            query += f"&changes={quote(change).replace('/', '%2F')}"
        response = self.transport.request(
            "POST",
            f"/images/create{query}",
            stream=stream,
            headers={"Content-Type": "application/x-tar"} if stream is not None else None,
        )
        return read_documents(response)

    def load(self, stream: Iterable[bytes], *, quiet: bool = True, platform: str = "") -> Response:
        """Loads an archive; the answer is JSON progress if its Content-Type says so."""
        query = f"?quiet={1 if quiet else 0}"
        if platform:
            query += "&" + build_query(platform=platform)[1:]
        return self.transport.request(
            "POST",
            f"/images/load{query}",
            stream=stream,
            headers={"Content-Type": "application/x-tar"},
        )

    def save(self, refs: Sequence[str], *, platform: str = "") -> Response:
        """The images as one tar archive."""
        query = "&".join(f"names={quote(ref).replace('/', '%2F')}" for ref in refs)
        if platform:
            query += "&" + build_query(platform=platform)[1:]
        return self.transport.request("GET", f"/images/get?{query}")

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> Document:
        """Removes what nothing uses. Answers ImagesDeleted and SpaceReclaimed."""
        return self.post(f"/images/prune{build_query(filters=encode_filters(filters))}")

    def search(
        self,
        term: str,
        *,
        limit: int = 0,
        filters: Mapping[str, Sequence[str]] | None = None,
        auth: str = "",
    ) -> list[Document]:
        """What a registry finds for a word."""
        query = build_query(term=term, limit=limit or None, filters=encode_filters(filters))
        response = self.transport.request(
            "GET", f"/images/search{query}", headers={"X-Registry-Auth": auth} if auth else None
        )
        return as_documents(decode(response.read()))

    def distribution(self, ref: str, *, auth: str = "") -> Document:
        """Descriptor and platforms of an image as its registry knows it."""
        response = self.transport.request(
            "GET",
            f"/distribution/{quote(ref)}/json",
            headers={"X-Registry-Auth": auth} if auth else None,
        )
        return as_document(decode(response.read()))

    def layers(self, ref: str) -> list[Document]:
        """The layers of an image of a wherry engine, the lowest first, and what each changes."""
        return self.get_list(f"/wherry/images/{quote(ref)}/layers")

    def _progress(self, target: str, auth: str) -> Iterator[Document]:
        headers = {"X-Registry-Auth": auth, **JSON_TYPE} if auth else None
        return read_documents(self.transport.request("POST", target, headers=headers))
