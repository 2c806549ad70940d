"""Which repositories a blob is known to be in: what a push can mount from instead of uploading.

A hint only: a repository that has lost the blob makes the registry answer with an upload session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wherry.engine.store import Store, Table
from wherry.model.image import Digest

_MAX_REPOSITORIES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobSource:
    """Canonical repositories (`docker.io/library/node`), the last seen first."""

    repositories: tuple[str, ...] = ()


class BlobSources:
    """The durable table of one engine."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = Table(store, "blob_sources", BlobSource)

    def remember(self, repository: str, digests: Iterable[Digest]) -> None:
        """The blobs are in the repository now."""
        with self._store.transaction():
            for digest in digests:
                known = self._table.get(digest) or BlobSource()
                if known.repositories[:1] == (repository,):
                    continue
                others = [name for name in known.repositories if name != repository]
                kept = (repository, *others)[:_MAX_REPOSITORIES]
                self._table.put(digest, BlobSource(repositories=kept))

    def find(self, domain: str, digest: Digest) -> tuple[str, ...]:
        """Paths of repositories of one registry, the last seen first."""
        known = self._table.get(digest) or BlobSource()
        prefix = f"{domain}/"
        return tuple(
            name.removeprefix(prefix) for name in known.repositories if name.startswith(prefix)
        )

    def forget_missing(self, has_blob: Callable[[Digest], bool]) -> None:
        """At start-up: drops what is said about blobs that are not here any more."""
        with self._store.transaction():
            for key, _ in list(self._table.items()):
                if not has_blob(Digest(key)):
                    self._table.delete(key)
