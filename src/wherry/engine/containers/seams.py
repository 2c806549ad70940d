"""What the container service needs of images, networks, volumes and shims: the smallest protocols.

`engine.images.Images`, `engine.networks.Networks`, `engine.volumes.Volumes` and `engine.shims.Shims`
meet them; tests use fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from wherry.engine.shims import ExitRecord, ShimHandle, ShimRequest
from wherry.model.container import Container, Endpoint, EndpointConfig, PortBinding
from wherry.model.image import Image, Platform, RootMount
from wherry.model.network import InterfaceValues, Network
from wherry.model.volume import Volume


class ImageSource(Protocol):
    """Images and the writable snapshots made from them."""

    def get(self, ref: str, platform: Platform | None = None) -> Image:
        """Raises NoSuchImage."""

    async def create_snapshot(
        self, image: Image | None, key: str, *, volatile: bool = False
    ) -> RootMount:
        """Upper and work directories under ROOT/containers/<key>/."""

    def root_mount(self, key: str) -> RootMount:
        """The root of a snapshot that exists."""

    async def image_mount(self, image: Image) -> RootMount:
        """An image's files alone, read-only."""

    async def remove_snapshot(self, key: str) -> None:
        """Idempotent."""

    async def snapshot_usage(self, key: str) -> int:
        """Bytes in the upper directory."""


class NetworkAttacher(Protocol):
    """Endpoints of running containers."""

    def get(self, ref: str) -> Network:
        """Raises NoSuchNetwork."""

    def check_config(self, ref: str, config: EndpointConfig, *, naming: bool = False) -> None:
        """Raises InvalidArgument when a network that is there cannot give what is asked of it."""

    def find_gateway(self, networks: Mapping[str, EndpointConfig]) -> str:
        """Which of them leads out and has the published ports; "" for none."""

    async def connect(
        self,
        container: Container,
        ref: str,
        config: EndpointConfig,
        *,
        interface: str = "eth0",
        default_route: bool = True,
    ) -> tuple[Endpoint, InterfaceValues | None]:
        """Reserves an address and the names of interfaces."""

    async def publish(
        self, container: Container, ref: str
    ) -> Mapping[str, tuple[PortBinding, ...]]:
        """Publishes its ports on that endpoint."""

    async def disconnect(self, container: Container, ref: str) -> None:
        """Frees all of it; idempotent."""

    def rename_member(self, container: Container) -> None:
        """A container has a new name."""


class VolumeSource(Protocol):
    """Named volumes."""

    async def ensure(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> Volume:
        """The volume of that name, made if needed."""

    def get(self, name: str) -> Volume:
        """Raises NoSuchVolume."""

    def acquire(self, name: str, container_id: str) -> None:
        """Notes a use."""

    def release(self, name: str, container_id: str) -> None:
        """Ends a use."""

    async def mount(self, name: str) -> None:
        """Before a run; idempotent. Raises Internal."""

    async def unmount(self, name: str, is_used: Callable[[], bool]) -> None:
        """After a run; idempotent."""

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Raises Conflict while it is used."""


class Launcher(Protocol):
    """Starts and finds shims."""

    def reserve_id(self, cgroup_parent: str, network: str) -> str | None:
        """An id for a new container that something is prepared for."""

    def is_prepared(self, container_id: str) -> bool:
        """Whether its id is one of those, and it has not been started."""

    async def launch(self, request: ShimRequest) -> ShimHandle:
        """Raises ShimLaunchError."""

    async def adopt(self, container_id: str, generation: int) -> ShimHandle | ExitRecord | None:
        """Finds what an earlier engine started."""

    async def forget(self, container_id: str, generation: int) -> None:
        """Removes what an ended start left."""
