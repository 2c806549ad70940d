"""The client of one engine: its transport and the nouns that can be asked for."""

from __future__ import annotations

from wherry.client.transport import Address, Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.client.builder import Builder
    from wherry.client.containers import Containers
    from wherry.client.execs import Execs
    from wherry.client.images import Images
    from wherry.client.networks import Networks
    from wherry.client.system import System
    from wherry.client.transport import TlsFiles
    from wherry.client.volumes import Volumes

DEFAULT_ADDRESS = "unix:///run/wherry/wherry.sock"


class Client:
    """Speaks to the engine at `address`. A noun's module is imported when it is first used.

    `on_absent` is called when nothing answers; if it returns True the connection is tried again.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        tls: TlsFiles | None = None,
        on_absent: Callable[[], bool] | None = None,
    ) -> None:
        self.transport = Transport(Address(address, tls), on_absent=on_absent)

    def close(self) -> None:
        """Ends idle connections; streams that were given out stay open."""
        self.transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def containers(self) -> Containers:
        """Containers."""
        from wherry.client.containers import Containers

        return Containers(self.transport)

    @property
    def execs(self) -> Execs:
        """Processes added to running containers."""
        from wherry.client.execs import Execs

        return Execs(self.transport)

    @property
    def images(self) -> Images:
        """Images and registries."""
        from wherry.client.images import Images

        return Images(self.transport)

    @property
    def networks(self) -> Networks:
        """Networks."""
        from wherry.client.networks import Networks

        return Networks(self.transport)

    @property
    def volumes(self) -> Volumes:
        """Volumes."""
        from wherry.client.volumes import Volumes

        return Volumes(self.transport)

    @property
    def system(self) -> System:
        """The engine itself."""
        from wherry.client.system import System

        return System(self.transport)

    @property
    def builder(self) -> Builder:
        """Builds and their cache."""
        from wherry.client.builder import Builder

        return Builder(self.transport)
