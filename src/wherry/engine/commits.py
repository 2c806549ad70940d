"""`docker commit`: a container's changes as an image, with the container paused meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from wherry.engine.containers.service import Containers
from wherry.engine.events import Events
from wherry.engine.images import Images
from wherry.model.container import ContainerConfig, Status
from wherry.model.errors import Conflict, ContainerNotRunning, NoSuchContainer
from wherry.model.image import ImageId

_DEFAULTS = ContainerConfig()


class Commits:
    """The seam between containers and images that a commit is."""

    def __init__(self, containers: Containers, images: Images, events: Events) -> None:
        self._containers = containers
        self._images = images
        self._events = events

    async def commit(
        self,
        ref: str,
        *,
        repository: str = "",
        tag: str = "",
        author: str = "",
        comment: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
        overrides: ContainerConfig = _DEFAULTS,
    ) -> ImageId:
        """The new image. `overrides` replaces what it names of the container's own config."""
        container = self._containers.get(ref)
        if container.state.status in {Status.REMOVING, Status.DEAD}:
            raise Conflict(f"You cannot commit container {container.id} which is being removed")
        paused = pause and container.state.status is Status.RUNNING
        if paused:
            paused = await self._pause(container.id)
        try:
            image = await self._images.commit(
                container.id,
                config=merge_config(container.config, overrides),
                repository=repository,
                tag=tag,
                author=author,
                comment=comment,
                changes=changes,
            )
        finally:
            if paused and self._is_paused(container.id):
                await self._containers.unpause(container.id)
        self._events.publish(
            "container",
            "commit",
            container.id,
            {
                **container.config.labels,
                "comment": comment,
                "image": container.image_ref,
                "imageID": image.id,
                "imageRef": image.repo_tags[0] if repository and image.repo_tags else "",
                "name": container.name,
            },
        )
        return image.id

    async def _pause(self, container_id: str) -> bool:
        """Whether it is paused now: it may have ended meanwhile."""
        try:
            await self._containers.pause(container_id)
        except (Conflict, ContainerNotRunning):
            return False
        return True

    def _is_paused(self, container_id: str) -> bool:
        try:
            return self._containers.get(container_id).state.status is Status.PAUSED
        except NoSuchContainer:
            return False


def merge_config(config: ContainerConfig, overrides: ContainerConfig) -> ContainerConfig:
    """The container's config with every field that the overrides give."""
    given = {
        item.name: getattr(overrides, item.name)
        for item in fields(ContainerConfig)
        if getattr(overrides, item.name) != getattr(_DEFAULTS, item.name)
    }
    return replace(config, image="", hostname="", domainname="", **given)
