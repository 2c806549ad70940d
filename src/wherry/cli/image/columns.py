"""The columns of images in tables and templates, one row for each name."""

from __future__ import annotations

from wherry.cli.formats import go_time, short_id, since
from wherry.cli.table import Columns
from wherry.cli.units import human_size
from wherry.client.document import number_of, strings_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wherry.client.document import Document

NONE = "<none>"
HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
CREATED = "{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}"
DEFAULT = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t" + CREATED + "\t{{.Size}}"
DEFAULT_WITH_DIGEST = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t" + CREATED + "\t{{.Size}}"


def image_columns(*, truncate: bool) -> Columns:
    """The columns; ids are cut if `truncate`."""
    return Columns(
        "*formatter.imageContext",
        {
            "Containers": lambda i: _counted(i, "Containers"),
            "CreatedAt": lambda i: go_time(number_of(i, "Created")),
            "CreatedSince": _created_since,
            "Digest": lambda i: text_of(i, "digest") or NONE,
            "ID": lambda i: short_id(text_of(i, "Id"), truncate=truncate),
            "Repository": lambda i: text_of(i, "repository"),
            "SharedSize": lambda i: _sized(i, "SharedSize"),
            "Size": lambda i: human_size(number_of(i, "Size"), 3),
            "Tag": lambda i: text_of(i, "tag"),
            "UniqueSize": _unique_size,
            "VirtualSize": lambda i: human_size(number_of(i, "Size")),
        },
        HEADERS,
    )


def expand_names(images: Iterable[Document], *, digests: bool) -> Iterator[Document]:
    """A row for each tag (and digest) of each image."""
    for image in images:
        tags: dict[str, list[str]] = {}
        by_repository: dict[str, list[str]] = {}
        for name in strings_of(image, "RepoTags"):
            repository, _, tag = name.rpartition(":")
            if repository != NONE:
                tags.setdefault(repository, []).append(tag)
        for name in strings_of(image, "RepoDigests"):
            repository, _, digest = name.partition("@")
            if repository != NONE:
                by_repository.setdefault(repository, []).append(digest)
        if not tags and not by_repository:
            yield _row(image, NONE, NONE, "")
            continue
        for repository, names in tags.items():
            known = by_repository.pop(repository, [])
            for tag in names:
                for digest in known if digests and known else [""]:
                    yield _row(image, repository, tag, digest)
        for repository, known in by_repository.items():
            for digest in known if digests else [""]:
                yield _row(image, repository, NONE, digest)


def _row(image: Document, repository: str, tag: str, digest: str) -> Document:
    return {**image, "repository": repository, "tag": tag, "digest": digest}


def _counted(image: Document, key: str) -> str:
    count = number_of(image, key) if key in image else -1
    return "N/A" if count < 0 else str(count)


def _sized(image: Document, key: str) -> str:
    size = number_of(image, key) if key in image else -1
    return "N/A" if size < 0 else human_size(size)


def _unique_size(image: Document) -> str:
    if "SharedSize" not in image or number_of(image, "SharedSize") < 0:
        return "N/A"
    return human_size(number_of(image, "Size") - number_of(image, "SharedSize"))


def _created_since(image: Document) -> str:
    created = number_of(image, "Created")
    return since(created) if created > 0 or "Created" in image else ""
