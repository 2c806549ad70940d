"""Which networks and volumes a list or a prune means: Docker's filters as predicates, pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from wherry.engine.filters import (
    Filters,
    check_filters,
    flag_filter,
    match_labels,
    parse_moment,
    parse_until,
)
from wherry.model.errors import InvalidArgument
from wherry.model.network import Network
from wherry.model.volume import Volume


def _contains(needles: Sequence[str], text: str) -> bool:
    return not needles or any(needle in text for needle in needles)


def _matches_labels(filters: Filters, labels: Mapping[str, str]) -> bool:
    unwanted = filters.get("label!", ())
    return match_labels(filters.get("label", ()), labels) and not any(
        match_labels([label], labels) for label in unwanted
    )


def match_networks(filters: Filters, used: Callable[[Network], bool]) -> Callable[[Network], bool]:
    """GET /networks. Raises InvalidFilter."""
    check_filters(filters, ("dangling", "driver", "id", "label", "name", "scope", "type"))
    dangling = flag_filter(filters, "dangling", default=False)
    kinds = filters.get("type", ())
    for kind in kinds:
        if kind not in {"custom", "builtin"}:
            raise InvalidArgument(f"invalid filter: 'type'='{kind}'")

    def matches(network: Network) -> bool:
        kind = "builtin" if network.predefined else "custom"
        return (
            (not filters.get("driver") or network.driver in filters["driver"])
            and (not filters.get("scope") or network.scope in filters["scope"])
            and (not kinds or kind in kinds)
            and _contains(filters.get("name", ()), network.name)
            and any(network.id.startswith(part) for part in filters.get("id", ("",)))
            and _matches_labels(filters, network.labels)
            and (
                not filters.get("dangling")
                or dangling == (not network.predefined and not used(network))
            )
        )

    return matches


def match_pruned_networks(filters: Filters) -> Callable[[Network], bool]:
    """POST /networks/prune. Raises InvalidFilter."""
    check_filters(filters, ("label", "label!", "until"))
    until = parse_until(filters)

    def matches(network: Network) -> bool:
        return _matches_labels(filters, network.labels) and (
            not until or parse_moment(network.created) <= until
        )

    return matches


def match_volumes(
    filters: Filters, users: Callable[[str], Collection[str]]
) -> Callable[[Volume], bool]:
    """GET /volumes. Raises InvalidFilter."""
    check_filters(filters, ("dangling", "driver", "label", "name"))
    dangling = flag_filter(filters, "dangling", default=False)

    def matches(volume: Volume) -> bool:
        return (
            (not filters.get("driver") or volume.driver in filters["driver"])
            and _contains(filters.get("name", ()), volume.name)
            and match_labels(filters.get("label", ()), volume.labels or {})
            and (not filters.get("dangling") or dangling == (not users(volume.name)))
        )

    return matches


def match_pruned_volumes(filters: Filters) -> tuple[Callable[[Volume], bool], bool]:
    """POST /volumes/prune: the predicate, and whether named volumes go too. Raises InvalidFilter."""
    check_filters(filters, ("label", "label!", "all"))
    return (
        lambda volume: _matches_labels(filters, volume.labels or {}),
        flag_filter(filters, "all", default=False),
    )
