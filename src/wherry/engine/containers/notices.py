"""Events of containers with Docker's attributes: image, name, labels, and what the action adds."""

from __future__ import annotations

from collections.abc import Mapping

from wherry.engine.events import Events
from wherry.model.container import Container, MountPoint


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


def publish_mounts(events: Events, container: Container) -> None:
    """A run takes its volumes."""
    for point in volumes_of(container):
        events.publish(
            "volume",
            "mount",
            point.name,
            {
                "container": container.id,
                "destination": point.destination,
                "driver": point.driver,
                "propagation": point.propagation,
                "read/write": str(point.rw).lower(),
            },
        )


def publish_unmounts(events: Events, container: Container) -> None:
    """A run has let go of them."""
    for point in volumes_of(container):
        events.publish(
            "volume", "unmount", point.name, {"container": container.id, "driver": point.driver}
        )


def volumes_of(container: Container) -> list[MountPoint]:
    """Its volumes, in the order of their places."""
    points = [point for point in container.mount_points if point.type == "volume"]
    return sorted(points, key=lambda point: point.destination)
