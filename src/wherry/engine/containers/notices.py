"""Events of containers with Docker's attributes: image, name, labels, and what the action adds."""

from __future__ import annotations

from collections.abc import Mapping

from wherry.engine.events import Events
from wherry.model.container import Container


def publish_container(
    events: Events,
    container: Container,
    action: str,
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Publishes a container event."""
    events.publish(
        "container",
        action,
        container.id,
        {
            **container.config.labels,
            "image": container.config.image,
            "name": container.name,
            **(attributes or {}),
        },
    )
