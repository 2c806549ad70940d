"""Base images that are not here: pulled as `docker pull` does, their progress as lines of the build."""

from __future__ import annotations

from collections.abc import Callable

from wherry.engine.build.records import BuildOptions
from wherry.engine.build.steps import Pull
from wherry.engine.pull import PullRequest, Pulls
from wherry.image.reference import parse_reference
from wherry.model.image import Platform
from wherry.registry.auth import ANONYMOUS

_LASTING = ("Pulling from", "Pull complete", "Digest:", "Status:", "Already exists")


def make_pull(pulls: Pulls) -> Pull:
    """How the solver asks for an image."""

    async def pull(
        name: str,
        platform: Platform | None,
        options: BuildOptions,
        say: Callable[[str], None],
    ) -> None:
        reference = parse_reference(name).with_default_tag()
        request = PullRequest(
            reference=reference,
            platform=platform,
            credentials=options.credentials.get(reference.domain, ANONYMOUS),
        )
        async for line in pulls.pull(request):
            if line.status.startswith(_LASTING):
                say(f"{line.id}: {line.status}\n" if line.id else f"{line.status}\n")

    return pull
