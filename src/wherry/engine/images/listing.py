"""Lists, histories and sizes of images, with Docker's filters. Pure: records in, records out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from wherry.build.ignore import Pattern, compile_pattern
from wherry.engine.clock import parse_time
from wherry.engine.filters import (
    Filters,
    check_filters,
    flag_filter,
    match_labels,
    parse_moment,
    parse_until,
)
from wherry.engine.images.changes import Change
from wherry.image.reference import InvalidReference, parse_reference
from wherry.model.image import Digest, Image

LIST_FILTERS = frozenset(("before", "dangling", "label", "label!", "reference", "since", "until"))
PRUNE_FILTERS = frozenset(("dangling", "label", "label!", "until"))


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLine:
    """One line of `docker history`, newest first; `created` is RFC 3339."""

    id: str
    created: str
    created_by: str
    comment: str
    size_bytes: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUsage:
    """What an image takes on disk: in all, of that with other images, and who uses it."""

    image: Image
    shared_bytes: int
    containers: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChanges:
    """One layer of `image tree`: what it does to the layers below."""

    diff_id: Digest
    created_by: str
    size_bytes: int
    changes: tuple[Change, ...]


def select_images(
    images: Sequence[Image],
    filters: Filters,
    *,
    find: Mapping[str, Image],
    parents: frozenset[str],
    all_: bool = False,
) -> tuple[Image, ...]:
    """The images that pass; `find` has the image of each reference in `before` and `since`.

    `parents` are ids of images that others were made from: without names, they are intermediate and
    only shown with `all_`. Raises InvalidFilter.
    """
    check_filters(filters, LIST_FILTERS)
    selected = images
    if "dangling" in filters:
        dangling = flag_filter(filters, "dangling", default=False)
        selected = [
            image
            for image in selected
            if (not image.repo_tags and not image.repo_digests and image.id not in parents)
            == dangling
        ]
    for ref in filters.get("before", ()):
        limit = parse_time(find[ref].created)
        selected = [image for image in selected if parse_time(image.created) < limit]
    for ref in filters.get("since", ()):
        limit = parse_time(find[ref].created)
        selected = [image for image in selected if parse_time(image.created) > limit]
    limits = [parse_moment(text) for text in filters.get("until", ())]
    selected = [image for image in selected if _passes(image, filters, limits)]
    if "reference" in filters:
        patterns = [_compile(text) for text in filters["reference"]]
        shown = [_only_matching(image, patterns) for image in selected]
        selected = [image for image in shown if image.repo_tags or image.repo_digests]
    if not all_ and "dangling" not in filters:
        selected = [
            image
            for image in selected
            if image.repo_tags or image.repo_digests or image.id not in parents
        ]
    return tuple(selected)


def select_prunable(
    images: Sequence[Image], filters: Filters, *, used: frozenset[str], parents: frozenset[str]
) -> tuple[Image, ...]:
    """What `docker image prune` removes: unused images, by default only those without a name."""
    check_filters(filters, PRUNE_FILTERS)
    dangling_only = flag_filter(filters, "dangling", default=True)
    until = parse_until(filters)
    return tuple(
        image
        for image in images
        if image.id not in used
        and not (dangling_only and (image.repo_tags or image.repo_digests or image.id in parents))
        and _passes(image, filters, [until] if until else [])
    )


def build_history(
    image: Image, sizes: Mapping[Digest, int], parents: Sequence[Image] = ()
) -> tuple[HistoryLine, ...]:
    """An image's history, newest first. The newest line has its id, those below the ids of its parents here."""
    lines: list[HistoryLine] = []
    layers = iter(image.diff_ids)
    for entry in image.history:
        diff_id = None if entry.empty_layer else next(layers, None)
        lines.append(
            HistoryLine(
                id="<missing>",
                created=entry.created,
                created_by=entry.created_by,
                comment=entry.comment,
                size_bytes=sizes.get(diff_id, 0) if diff_id else 0,
            )
        )
    lines.reverse()
    for index, owner in enumerate((image, *parents)[: len(lines)]):
        lines[index] = replace(lines[index], id=owner.id, tags=owner.repo_tags)
    return tuple(lines)


def measure_usage(
    images: Iterable[Image], sizes: Mapping[Digest, int]
) -> tuple[tuple[ImageUsage, ...], int]:
    """Each image's shared bytes, and the bytes of all layers together, each counted once."""
    known = list(images)
    users = Counter(diff_id for image in known for diff_id in set(image.diff_ids))
    usages = tuple(
        ImageUsage(
            image=image,
            shared_bytes=sum(sizes.get(d, 0) for d in set(image.diff_ids) if users[d] > 1),
        )
        for image in known
    )
    return usages, sum(sizes.get(diff_id, 0) for diff_id in users)


def _passes(image: Image, filters: Filters, limits: Sequence[int]) -> bool:
    labels = image.config.labels
    if "label" in filters and not match_labels(filters["label"], labels):
        return False
    if any(match_labels([item], labels) for item in filters.get("label!", ())):
        return False
    created = parse_time(image.created)
    return all(created < limit for limit in limits)


def _compile(text: str) -> Pattern:
    """Go's path.Match, where two asterisks are no more than one. Raises InvalidArgument."""
    return compile_pattern(re.sub(r"\*{2,}", "*", text))


def _only_matching(image: Image, patterns: Sequence[Pattern]) -> Image:
    return replace(
        image,
        repo_tags=tuple(name for name in image.repo_tags if _matches_any(name, patterns)),
        repo_digests=tuple(name for name in image.repo_digests if _matches_any(name, patterns)),
    )


def _matches_any(name: str, patterns: Sequence[Pattern]) -> bool:
    try:
        repository = parse_reference(name).familiar_repository
    except InvalidReference:
        return False
    return any(pattern.matches(text) for pattern in patterns for text in (name, repository))
