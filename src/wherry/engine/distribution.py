"""`/distribution/{name}/json` and `/images/search`: what registries say, nothing stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wherry.engine.pull import read_config_blob
from wherry.engine.registries import Registries, translate_failure
from wherry.image.reference import Reference
from wherry.lib.jsonvalue import JsonError, get_bool, get_int, get_objects, get_str
from wherry.model.errors import Internal, InvalidArgument
from wherry.model.image import Descriptor, Platform
from wherry.model.oci_image import Index, parse_config_platform, parse_manifest
from wherry.registry.auth import ANONYMOUS, Credentials
from wherry.registry.client import RegistryClient
from wherry.registry.errors import RegistryFailure

_DEFAULT_LIMIT = 25
_MAX_LIMIT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionInspect:
    """A descriptor and the platforms behind it."""

    descriptor: Descriptor
    platforms: tuple[Platform, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """One repository that a registry found."""

    name: str
    description: str
    star_count: int
    is_official: bool
    is_automated: bool


class Distribution:
    """Questions to registries."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def inspect(
        self, reference: Reference, credentials: Credentials = ANONYMOUS
    ) -> DistributionInspect:
        """Descriptor and platforms of a name. Raises EngineError."""
        wanted = reference.digest or reference.tag

        async def ask(client: RegistryClient) -> DistributionInspect:
            manifest = await client.get_manifest(reference.path, wanted)
            document = parse_manifest(manifest.body, manifest.descriptor.media_type)
            if isinstance(document, Index):
                platforms = [entry.platform for entry in document.entries if entry.platform]
            elif document.is_image:
                config = await read_config_blob(client, reference.path, document.config)
                platforms = [parse_config_platform(config)]
            else:
                platforms = []
            descriptor = manifest.descriptor
            return DistributionInspect(descriptor=descriptor, platforms=tuple(platforms))

        clients = await self._registries.clients(reference.domain, credentials)
        try:
            _, answer = await self._registries.first_that_answers(clients, ask)
        except RegistryFailure as failure:
            raise translate_failure(failure) from failure
        return answer

    async def get_manifest(
        self, reference: Reference, credentials: Credentials = ANONYMOUS
    ) -> bytes:
        """The manifest or index itself, as the registry has it. Raises EngineError."""
        wanted = reference.digest or reference.tag

        async def ask(client: RegistryClient) -> bytes:
            return (await client.get_manifest(reference.path, wanted)).body

        clients = await self._registries.clients(reference.domain, credentials)
        try:
            _, body = await self._registries.first_that_answers(clients, ask)
        except RegistryFailure as failure:
            raise translate_failure(failure) from failure
        return body

    async def search(
        self,
        term: str,
        *,
        limit: int = 0,
        filters: Mapping[str, Sequence[str]] | None = None,
        credentials: Credentials = ANONYMOUS,
    ) -> tuple[SearchResult, ...]:
        """Repositories that a registry finds for a word. Raises EngineError."""
        wanted = _SearchFilter.parse(filters or {})
        if not 0 <= limit <= _MAX_LIMIT:
            raise InvalidArgument(f"limit {limit} is outside the range of [1, {_MAX_LIMIT}]")
        answer = await self._registries.search(term, limit or _DEFAULT_LIMIT, credentials)
        try:
            found = [
                SearchResult(
                    name=get_str(entry, "name"),
                    description=get_str(entry, "description"),
                    star_count=get_int(entry, "star_count"),
                    is_official=get_bool(entry, "is_official"),
                    is_automated=get_bool(entry, "is_automated"),
                )
                for entry in get_objects(answer, "results")
            ]
        except JsonError as exc:
            raise Internal(f"search answer is malformed: {exc}") from exc
        return tuple(result for result in found if wanted.accepts(result))


@dataclass(frozen=True, slots=True, kw_only=True)
class _SearchFilter:
    stars: int = 0
    is_official: bool | None = None
    is_automated: bool | None = None

    @classmethod
    def parse(cls, filters: Mapping[str, Sequence[str]]) -> _SearchFilter:
        for name in filters:
            if name not in {"stars", "is-official", "is-automated"}:
                raise InvalidArgument(f"invalid filter '{name}'")
        return cls(
            stars=max((_parse_stars(value) for value in filters.get("stars", ())), default=0),
            is_official=_parse_choice("is-official", filters.get("is-official", ())),
            is_automated=_parse_choice("is-automated", filters.get("is-automated", ())),
        )

    def accepts(self, result: SearchResult) -> bool:
        return (
            result.star_count >= self.stars
            and self.is_official in {None, result.is_official}
            and self.is_automated in {None, result.is_automated}
        )


def _parse_stars(value: str) -> int:
    if not value.isdecimal():
        raise InvalidArgument(
            f"invalid filter 'stars={value}': strconv.Atoi: parsing \"{value}\": invalid syntax"
        )
    return int(value)


def _parse_choice(name: str, values: Sequence[str]) -> bool | None:
    choices = {"true": True, "1": True, "false": False, "0": False}
    found = {choices.get(value) for value in values}
    if None in found or len(found) > 1:
        raise InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")
    return found.pop() if found else None
