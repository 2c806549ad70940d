"""Pull and push as the engine wires them, around an in-memory image service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TypeVar

from tests.harness.fake_images import FakeImages
from wherry.engine.blobsources import BlobSources
from wherry.engine.distribution import Distribution
from wherry.engine.downloads import Downloads
from wherry.engine.pull import PullRequest, Pulls
from wherry.engine.push import Pushes, PushRequest
from wherry.engine.registries import Registries
from wherry.engine.store import Store
from wherry.image.reference import parse_reference
from wherry.model.platforms import parse_platform
from wherry.model.progress import Progress
from wherry.registry.auth import Credentials
from wherry.registry.endpoints import RegistryConfig, build_registry_config
from wherry.registry.retry import RetryPolicy

Answer = TypeVar("Answer")

QUICK = RetryPolicy(max_attempts=3, first_delay_s=0.01, max_delay_s=0.02)


class Services:
    """What one engine has."""

    def __init__(
        self,
        images: FakeImages,
        config: RegistryConfig,
        policy: RetryPolicy,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.registries = Registries(config, policy, environment)
        self._store = Store(images.folder.parent / "state.db")
        self.sources = BlobSources(self._store)
        self.downloads = Downloads(images, policy)
        self.pulls = Pulls(self.registries, images, self.downloads, self.sources)
        self.pushes = Pushes(self.registries, images, self.sources)
        self.distribution = Distribution(self.registries)

    async def close(self) -> None:
        await self.registries.close()
        self._store.close()


def with_services(
    images: FakeImages,
    work: Callable[[Services], Coroutine[object, object, Answer]],
    *,
    config: RegistryConfig | None = None,
    policy: RetryPolicy = QUICK,
    environment: Mapping[str, str] | None = None,
) -> Answer:
    """Runs `work` with services that are closed afterwards."""

    async def main() -> Answer:
        services = Services(images, config or build_registry_config(), policy, environment)
        try:
            return await work(services)
        finally:
            await services.close()

    return asyncio.run(main())


def pull(
    images: FakeImages,
    name: str,
    *,
    platform: str = "",
    all_tags: bool = False,
    credentials: Credentials | None = None,
    config: RegistryConfig | None = None,
    policy: RetryPolicy = QUICK,
    environment: Mapping[str, str] | None = None,
) -> list[Progress]:
    """One pull, all its lines."""
    reference = parse_reference(name)
    request = PullRequest(
        reference=reference if all_tags else reference.with_default_tag(),
        all_tags=all_tags,
        platform=parse_platform(platform) if platform else None,
        credentials=credentials or Credentials(),
    )

    async def work(services: Services) -> list[Progress]:
        return [line async for line in services.pulls.pull(request)]

    return with_services(images, work, config=config, policy=policy, environment=environment)


def push(
    images: FakeImages,
    name: str,
    *,
    platform: str = "",
    credentials: Credentials | None = None,
    config: RegistryConfig | None = None,
) -> list[Progress]:
    """One push, all its lines up to an error, which is raised."""
    request = PushRequest(
        reference=parse_reference(name),
        platform=parse_platform(platform) if platform else None,
        credentials=credentials or Credentials(),
    )

    async def work(services: Services) -> list[Progress]:
        return [line async for line in services.pushes.push(request)]

    return with_services(images, work, config=config)


def sentences(lines: Sequence[Progress]) -> list[str]:
    """Without the lines that depend on timing."""
    return [
        f"{line.id}: {line.status}" if line.id else line.status
        for line in lines
        if line.status not in {"", "Downloading", "Extracting", "Waiting", "Pushing"}
    ]
