"""Base images that are not here: pulled as `docker pull` does, their progress as events of the build."""

from __future__ import annotations

from collections.abc import Callable

from wherry.engine.build.records import BuildOptions
from wherry.engine.build.steps import Pull
from wherry.engine.pull import PullRequest, Pulls
from wherry.image.reference import parse_reference
from wherry.model.image import Platform
from wherry.model.progress import Progress
from wherry.registry.auth import ANONYMOUS


def make_pull(pulls: Pulls) -> Pull:
    """How the solver asks for an image."""

    async def pull(
        name: str,
        platform: Platform | None,
        options: BuildOptions,
        say: Callable[[Progress], None],
    ) -> None:
        reference = parse_reference(name).with_default_tag()
        request = PullRequest(
            reference=reference,
            platform=platform,
            credentials=options.credentials.get(reference.domain, ANONYMOUS),
        )
        async for line in pulls.pull(request):
            say(line)

    return pull
