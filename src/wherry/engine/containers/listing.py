"""`docker ps` and `docker inspect`: which containers, with which status sentence, and what belongs to one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from wherry.engine.clock import parse_time
from wherry.engine.containers import state
from wherry.engine.containers.handle import ContainerHandle, Roster
from wherry.engine.containers.links import find_links, find_paths
from wherry.engine.containers.log_options import log_path
from wherry.engine.containers.seams import ImageSource
from wherry.engine.containers.validate import parse_port
from wherry.engine.filters import Filters, check_filters, flag_filter, match_labels
from wherry.engine.settings import EngineSettings
from wherry.lib.durations import human_duration
from wherry.lib.pattern import Pattern, PatternError
from wherry.model.container import Container, Health, HealthStatus, Status
from wherry.model.errors import EngineError, Internal, InvalidArgument
from wherry.model.image import Image
from wherry.model.views import ContainerDetails, ContainerSummary

_FILTERS = (
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
)
_STATUSES = tuple(status.value for status in Status)
_HEALTHS = ("none", "starting", "healthy", "unhealthy")

Matcher = Callable[[Container], bool]


class Listing:
    """Lists and inspects."""

    def __init__(self, *, settings: EngineSettings, roster: Roster, images: ImageSource) -> None:
        self._settings = settings
        self._roster = roster
        self._images = images

    async def list_all(
        self, *, all_: bool, limit: int, size: bool, filters: Filters
    ) -> list[ContainerSummary]:
        """Raises InvalidFilter, NoSuchContainer."""
        matchers = self._build_matchers(filters)
        show_all = all_ or limit > 0 or any(filters.get(n) for n in ("status", "exited"))
        records = [
            handle.record
            for handle in self._roster
            if (show_all or handle.record.state.status in state.ACTIVE)
        ]
        records.sort(key=lambda record: parse_time(record.created), reverse=True)
        chosen = [record for record in records if all(match(record) for match in matchers)]
        if limit > 0:
            chosen = chosen[:limit]
        paths = find_paths(self._roster)
        meanings = {ref: self._find_image(ref) for ref in {record.image_ref for record in chosen}}
        return [
            ContainerSummary(
                container=record,
                link_paths=tuple(paths.get(record.id, ())),
                status=describe_status(record),
                # A name that was taken away or means another image by now is not this one's.
                image=(
                    record.image_ref
                    if meanings[record.image_ref] == record.image_id
                    else record.image_id
                ),
                size_rw=await self._images.snapshot_usage(record.id) if size else None,
                size_root_fs=await self._root_size(record) if size else None,
            )
            for record in chosen
        ]

    async def inspect(self, handle: ContainerHandle, *, size: bool) -> ContainerDetails:
        """The record with paths, execs and the storage driver's data."""
        record = handle.record
        folder = self._settings.container_dir(record.id)
        root = self._images.root_mount(record.id)
        shim = handle.shim
        return ContainerDetails(
            container=record,
            links=tuple(
                f"/{link.child.name}:{link.path}" for link in find_links(self._roster, record)
            ),
            exec_ids=tuple(handle.exec_ids),
            log_path=(
                str(log_path(self._settings, record))
                if record.host_config.log_config.type != "none"
                else ""
            ),
            hostname_path=str(folder / "hostname"),
            hosts_path=str(folder / "hosts"),
            resolv_conf_path=str(folder / "resolv.conf"),
            graph_driver=record.driver,
            graph_data={
                "ID": record.id,
                "LowerDir": ":".join(root.lowers),
                "MergedDir": f"/proc/{shim.pid}/root" if shim is not None else "",
                "UpperDir": root.upper,
                "WorkDir": root.work,
            },
            size_rw=await self._images.snapshot_usage(record.id) if size else None,
            size_root_fs=await self._root_size(record) if size else None,
        )

    def _find_image(self, ref: str) -> str:
        try:
            return self._images.get(ref).id if ref else ""
        except EngineError:
            return ""

    async def _root_size(self, record: Container) -> int:
        usage = await self._images.snapshot_usage(record.id)
        try:
            return usage + self._images.get(record.image_id).size_bytes
        except EngineError:
            return usage

    def _build_matchers(self, filters: Filters) -> list[Matcher]:
        check_filters(filters, _FILTERS)
        matchers = [
            build(values)
            for name, values in filters.items()
            if values and (build := _SIMPLE.get(name)) is not None
        ]
        if filters.get("is-task"):
            wanted = flag_filter(filters, "is-task", default=False)
            matchers.append(lambda _: not wanted)
        for name in ("before", "since"):
            matchers += [
                _by_age(self._roster.get(ref).record, newer=name == "since")
                for ref in filters.get(name, ())
            ]
        if filters.get("ancestor"):
            matchers.append(self._by_ancestor(filters["ancestor"]))
        return matchers

    def _by_ancestor(self, refs: Sequence[str]) -> Matcher:
        identities: set[str] = set()
        bases: list[Image] = []
        for ref in refs:
            try:
                image = self._images.get(ref)
            except EngineError:
                continue
            identities.add(image.id)
            bases.append(image)

        def matches(record: Container) -> bool:
            if record.image_id in identities:
                return True
            try:
                own = self._images.get(record.image_id)
            except EngineError:
                return False
            return any(_is_made_from(own, base) for base in bases)

        return matches


def _is_made_from(image: Image, base: Image) -> bool:
    """By layers, and by history: a child may differ from its base, or its sister, in the config alone."""
    layers, steps = len(base.diff_ids), len(base.history)
    return (
        bool(layers)
        and image.diff_ids[:layers] == base.diff_ids
        and image.history[:steps] == base.history
    )


def describe_status(record: Container) -> str:
    """The STATUS column: "Up 5 minutes (healthy)", "Exited (0) 2 hours ago"."""
    present = record.state
    since_start = _ago(present.started_at)
    match present.status:
        case Status.CREATED:
            return "Created"
        case Status.RUNNING:
            health = describe_health(present.health)
            return f"Up {since_start}{f' ({health})' if health else ''}"
        case Status.PAUSED:
            return f"Up {since_start} (Paused)"
        case Status.RESTARTING:
            return f"Restarting ({present.exit_code}) {_ago(present.finished_at)} ago"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
        case Status.EXITED:
            return f"Exited ({present.exit_code}) {_ago(present.finished_at)} ago"


def describe_health(health: Health | None) -> str:
    """What `docker ps` adds for a health check."""
    if health is None:
        return ""
    return "health: starting" if health.status is HealthStatus.STARTING else health.status.value


def _ago(moment: str) -> str:
    return human_duration((time.time_ns() - parse_time(moment)) / 1e9)


def _by_age(other: Container, *, newer: bool) -> Matcher:
    moment = parse_time(other.created)

    def matches(record: Container) -> bool:
        created = parse_time(record.created)
        return created > moment if newer else created < moment

    return matches


def _by_status(values: Sequence[str]) -> Matcher:
    for value in values:
        if value not in _STATUSES:
            raise InvalidArgument(
                f"invalid filter 'status={value}': invalid value for state ({value}): "
                f"must be one of {', '.join(_STATUSES)}"
            )
    return lambda record: record.state.status in values


def _by_health(values: Sequence[str]) -> Matcher:
    for value in values:
        if value not in _HEALTHS:
            raise InvalidArgument(
                f"invalid filter 'health={value}': invalid value for health ({value}): "
                f"must be one of {', '.join(_HEALTHS)}"
            )

    def matches(record: Container) -> bool:
        health = record.state.health
        return (health.status.value if health is not None else "none") in values

    return matches


def _by_exit_code(values: Sequence[str]) -> Matcher:
    codes = set()
    for value in values:
        try:
            codes.add(int(value))
        except ValueError as exc:
            raise InvalidArgument(
                f"invalid filter 'exited={value}': "
                f'strconv.Atoi: parsing "{value}": invalid syntax'
            ) from exc
    return lambda record: (
        record.state.exit_code in codes
        and record.state.has_been_started
        and record.state.status not in state.ACTIVE
    )


def _by_name(values: Sequence[str]) -> Matcher:
    patterns = []
    for value in values:
        with suppress(PatternError):  # which fits nothing
            patterns.append(Pattern(value))

    def matches(record: Container) -> bool:
        names = record.name, f"/{record.name}"
        try:
            return any(pattern.is_found_in(name) for pattern in patterns for name in names)
        except PatternError as exc:
            raise InvalidArgument(f"invalid filter 'name': {exc}") from exc

    return matches


def _by_port(name: str) -> Callable[[Sequence[str]], Matcher]:
    def build(values: Sequence[str]) -> Matcher:
        wanted: set[tuple[int, str]] = set()
        for value in values:
            try:
                first, last, protocol = parse_port(value)
            except InvalidArgument as exc:
                raise Internal(
                    f"error while looking up for {name} {value}: "
                    f'strconv.ParseUint: parsing "{value}": invalid syntax'
                ) from exc
            wanted.update((port, protocol) for port in range(first, last + 1))

        find = _published if name == "publish" else _exposed

        def matches(record: Container) -> bool:
            return record.state.pid > 0 and not wanted.isdisjoint(find(record))

        return matches

    return build


def _published(record: Container) -> Iterator[tuple[int, str]]:
    """Ports of the machine."""
    for port, bindings in record.ports.items():
        _, _, protocol = parse_port(port)
        for binding in bindings:
            yield int(binding.host_port or 0), protocol


def _exposed(record: Container) -> Iterator[tuple[int, str]]:
    """Ports of the container."""
    for port in (*record.config.exposed_ports, *record.ports):
        first, _, protocol = parse_port(port)
        yield first, protocol


def _by_volume(values: Sequence[str]) -> Matcher:
    return lambda record: any(
        value in {point.name, point.destination, point.source}
        for value in values
        for point in record.mount_points
        if value
    )


def _by_network(values: Sequence[str]) -> Matcher:
    return lambda record: any(
        value in record.networks
        or any(endpoint.network_id.startswith(value) for endpoint in record.endpoints.values())
        for value in values
        if value
    )


_SIMPLE: Mapping[str, Callable[[Sequence[str]], Matcher]] = {
    "id": lambda values: lambda record: any(record.id.startswith(value) for value in values),
    "name": _by_name,
    "label": lambda values: lambda record: match_labels(values, record.config.labels),
    "status": _by_status,
    "health": _by_health,
    "exited": _by_exit_code,
    "volume": _by_volume,
    "network": _by_network,
    "publish": _by_port("publish"),
    "expose": _by_port("expose"),
    "isolation": lambda _: lambda __: True,
}
