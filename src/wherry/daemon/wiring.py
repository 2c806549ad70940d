"""The composition root: the only file that builds all services, in the order that they need each other.

Everything opened here is closed in reverse order when the engine ends. Nothing is global: several engines with
ROOTs, RUNs, sockets and bridges of their own can live on one machine, or in one test.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.api.router import Router
from wherry.api.routes.absent import absent_routes
from wherry.api.routes.build import BuildRoutes
from wherry.api.routes.containers import ContainerRoutes
from wherry.api.routes.images import ImageRoutes
from wherry.api.routes.networks import NetworkRoutes
from wherry.api.routes.store import StoreRoutes
from wherry.api.routes.system import SystemRoutes
from wherry.api.routes.volumes import VolumeRoutes
from wherry.api.server import Application
from wherry.daemon.config import OptionError, Options
from wherry.engine.assembly import ContainerServices
from wherry.engine.blobsources import BlobSources
from wherry.engine.build.bases import make_pull
from wherry.engine.build.remotes import CacheRegistry
from wherry.engine.builder import Builder
from wherry.engine.commits import Commits
from wherry.engine.connections import Connections
from wherry.engine.containers.state import ACTIVE
from wherry.engine.distribution import Distribution
from wherry.engine.downloads import Downloads
from wherry.engine.events import Events
from wherry.engine.images import Images
from wherry.engine.networks import Networks
from wherry.engine.pull import Pulls
from wherry.engine.push import Pushes
from wherry.engine.registries import Registries
from wherry.engine.settings import EngineSettings
from wherry.engine.shims import Shims
from wherry.engine.store import Store
from wherry.engine.system import VERSION, System
from wherry.engine.volumes import Volumes
from wherry.model.container import LogConfig, Ulimit
from wherry.model.errors import InvalidArgument
from wherry.network.ipam import DEFAULT_POOLS
from wherry.registry.endpoints import CERTIFICATE_FOLDERS, RegistryConfig, build_registry_config
from wherry.registry.retry import RetryPolicy


@dataclass(slots=True)
class Engine:
    """A running engine, as the daemon's main sees it."""

    application: Application
    services: ContainerServices
    registries: Registries
    system: System
    settings: EngineSettings

    def is_needed(self) -> bool:
        """Whether a container runs, whose restart policy, health checks and `--rm` need an engine."""
        return any(handle.record.state.status in ACTIVE for handle in self.services.roster)

    def reload(self, options: Options) -> None:
        """Takes over what can change while it runs: registries, labels, debug. Raises OptionError."""
        self.registries.use(read_registry_config(options))
        self.settings = replace(
            self.settings,
            labels=options.label,
            registry_mirrors=options.registry_mirror,
            insecure_registries=options.insecure_registry,
            debug=options.debug,
        )
        self.system.use(self.settings)


@contextlib.asynccontextmanager
async def open_engine(options: Options, shut_down: Callable[[], None]) -> AsyncIterator[Engine]:
    """Builds and starts everything; containers of an earlier engine are taken in before it returns."""
    settings = build_settings(options)
    async with contextlib.AsyncExitStack() as stack:
        store = Store(settings.root / "state.db")
        stack.callback(store.close)
        events = Events()
        images = Images(
            store,
            settings.root,
            settings.run_dir,
            driver=settings.storage_driver,
            publish=events.publish,
        )
        stack.push_async_callback(images.close)
        settings = replace(settings, storage_driver=images.driver)
        networks = Networks(
            store,
            events.publish,
            bridge=options.bridge,
            bridge_address=options.bip,
            pools=parse_pools(options.default_address_pool) or DEFAULT_POOLS,
        )
        await networks.start()
        volumes = Volumes(store, events.publish, settings.root / "volumes")
        shims = Shims(run_dir=settings.run_dir, slots=options.slots)
        stack.push_async_callback(shims.close)
        await shims.start()
        services = ContainerServices(
            settings=settings,
            store=store,
            images=images,
            networks=networks,
            volumes=volumes,
            shims=shims,
            events=events,
        )
        images.set_users(services.users_of_image)
        stack.push_async_callback(services.close)
        await services.start()
        connections = Connections(
            settings=settings,
            store=store,
            roster=services.roster,
            networks=networks,
            resolvers=services.resolvers,
        )
        await connections.start()
        await images.start()
        registries = open_registries(options)
        stack.push_async_callback(registries.close)
        sources = BlobSources(store)
        sources.forget_missing(images.has_blob)
        downloads = Downloads(images, registries.policy, options.max_concurrent_downloads)
        pulls = Pulls(registries, images, downloads, sources)
        pushes = Pushes(registries, images, sources, options.max_concurrent_uploads)
        builder = Builder(
            settings=settings,
            store=store,
            images=images,
            networks=networks,
            shims=shims,
            resolvers=services.resolvers,
            pull=make_pull(pulls),
            registry=CacheRegistry(registries, downloads, pushes),
            cgroup_version=services.cgroup_version,
            publish=events.publish,
        )
        stack.push_async_callback(builder.close)
        await builder.start()
        system = System(
            settings=settings,
            roster=services.roster,
            events=events,
            cgroup_version=services.cgroup_version,
            count_images=lambda: len(images.list_all()),
        )
        stack.callback(events.close)
        distribution = Distribution(registries)
        application = Application(f"Wherry/{VERSION} (linux)")
        application.router = Router(
            [
                *SystemRoutes(
                    system=system,
                    events=events,
                    images=images,
                    containers=services.containers,
                    volumes=volumes,
                    builder=builder,
                    shut_down=shut_down,
                ).routes(),
                *ContainerRoutes(
                    services.containers, services.execs, application.common_head
                ).routes(),
                *ImageRoutes(
                    images=images,
                    commits=Commits(services.containers, images, events),
                    pulls=pulls,
                    pushes=pushes,
                    distribution=distribution,
                    registries=registries,
                ).routes(),
                *BuildRoutes(builder).routes(),
                *StoreRoutes(images, distribution).routes(),
                *NetworkRoutes(
                    networks,
                    connections,
                ).routes(),
                *VolumeRoutes(volumes).routes(),
                *absent_routes(),
            ]
        )
        yield Engine(application, services, registries, system, settings)


def open_registries(options: Options) -> Registries:
    """The way to registries, connected to none yet. Raises OptionError."""
    return Registries(
        read_registry_config(options), RetryPolicy(max_attempts=options.max_download_attempts)
    )


def read_registry_config(options: Options) -> RegistryConfig:
    """Mirrors, insecure registries and certificates. Raises OptionError."""
    folder = options.registry_certs_dir
    try:
        return build_registry_config(
            options.registry_mirror,
            options.insecure_registry,
            (Path(folder),) if folder else CERTIFICATE_FOLDERS,
        )
    except InvalidArgument as exc:
        raise OptionError(str(exc)) from exc


def build_settings(options: Options) -> EngineSettings:
    """What the options mean to the services. Raises OptionError."""
    return EngineSettings(
        root=options.data_root,
        run_dir=options.exec_root,
        cgroup_parent=options.cgroup_parent,
        bridge=options.bridge,
        storage_driver=options.storage_driver,
        default_shm_size=options.default_shm_size,
        default_ipc_mode=options.default_ipc_mode,
        default_cgroupns_mode=options.default_cgroupns_mode,
        default_log=LogConfig(type=options.log_driver, config=parse_pairs(options.log_opt)),
        default_ulimits=tuple(parse_ulimit(text) for text in options.default_ulimit),
        default_runtime=options.default_runtime,
        runtimes=parse_pairs(options.add_runtime),
        init_path=options.init_path,
        no_new_privileges=options.no_new_privileges,
        seccomp_profile=Path(options.seccomp_profile) if options.seccomp_profile else None,
        host_gateway_ips=options.host_gateway_ip,
        dns=options.dns,
        dns_options=options.dns_opt,
        dns_search=options.dns_search,
        labels=options.label,
        registry_mirrors=options.registry_mirror,
        insecure_registries=options.insecure_registry,
        debug=options.debug,
        assume_kernel=os.environ.get("WHERRY_ASSUME_KERNEL", ""),
    )


def parse_pairs(texts: Iterable[str]) -> dict[str, str]:
    """`name=value` each. Raises OptionError."""
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not name or not separator:
            raise OptionError(f"expected name=value, got {text!r}")
        pairs[name] = value
    return pairs


def parse_ulimit(text: str) -> Ulimit:
    """`nofile=1024:2048`, or one number for both. Raises OptionError."""
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        return Ulimit(name=name, soft=int(soft), hard=int(hard or soft))
    except ValueError as exc:
        raise OptionError(f"invalid ulimit argument: {text}") from exc


def parse_pools(texts: Iterable[str]) -> tuple[str, ...]:
    """`base=172.30.0.0/16,size=24`, or a bare subnet → all subnets of the pools. Raises OptionError."""
    import ipaddress

    subnets: list[str] = []
    for text in texts:
        parts = parse_pairs(text.split(",")) if "=" in text else {"base": text}
        try:
            base = ipaddress.IPv4Network(parts["base"])
            size = int(parts.get("size", base.prefixlen))
            subnets += [str(subnet) for subnet in base.subnets(new_prefix=size)]
        except (KeyError, ValueError) as exc:
            raise OptionError(f"invalid default address pool: {text}") from exc
    return tuple(subnets)
