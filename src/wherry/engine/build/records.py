"""What a build is asked, what the cache remembers, and what a build tells while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wherry.build.errors import Span, format_excerpt
from wherry.image.compression import GZIP, Compression
from wherry.lib.jsonvalue import JsonObject
from wherry.model.container import Ulimit
from wherry.model.errors import EngineError
from wherry.model.image import Platform
from wherry.model.oci_image import OCI_MANIFEST
from wherry.model.progress import Progress
from wherry.registry.auth import Credentials

CANCELLED = "build cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where the result goes beside, or instead of, the image store: type is image, local, tar, oci or docker."""

    type: str = "image"
    attributes: Mapping[str, str] = field(default_factory=dict)
    compression: Compression | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOption:
    """One `--cache-from` or `--cache-to`: type is registry (attribute `ref`), local or inline."""

    type: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    compression: Compression = GZIP
    media_type: str = OCI_MANIFEST  # of the cache's manifest; an index names the layers itself
    ignores_errors: bool = False

    def shown(self) -> str:
        """As a person would name it."""
        return self.attributes.get("ref") or self.attributes.get("src") or self.type


NETWORK_HOST = "network.host"
SECURITY_INSECURE = "security.insecure"
ENTITLEMENTS = frozenset({NETWORK_HOST, SECURITY_INSECURE})  # BuildKit's names


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """One request. Secrets are bytes by id, agents socket paths by id; neither is ever written down."""

    dockerfile: str = "Dockerfile"
    dockerfile_text: bytes | None = None
    tags: tuple[str, ...] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)
    valueless_args: frozenset[str] = frozenset()  # that the client named and had no value for
    target: str = ""
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    pull: bool = False
    remove: bool = True  # only what the classic builder would say depends on it
    labels: Mapping[str, str] = field(default_factory=dict)
    network_mode: str = ""
    entitlements: frozenset[str] = frozenset()  # of `ENTITLEMENTS`: what a Dockerfile may ask for
    shm_size: int = 0
    extra_hosts: tuple[str, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""
    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    platforms: tuple[Platform, ...] = ()
    quiet: bool = False
    remote: str = ""
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    ssh: Mapping[str, str] = field(default_factory=dict, repr=False)
    contexts: Mapping[str, str] = field(default_factory=dict)
    offered_context: str = ""  # a token of `KeptContexts`: the body has what was missing
    outputs: tuple[Output, ...] = ()
    classic_cache_from: tuple[str, ...] = ()  # images; when none is here, nothing is cached
    cache_from: tuple[CacheOption, ...] = ()
    cache_to: tuple[CacheOption, ...] = ()
    check: bool = False
    debug: bool = False
    credentials: Mapping[str, Credentials] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRecord:
    """One step that the cache knows. `layers` are all diff-ids of the result, the base's included.

    `result` is the key that the steps after it build on: its own, or that of the step whose content was
    the same. A `hollow` record came from elsewhere without its layers: it is good as long as nobody needs files.
    """

    result: str
    layers: tuple[str, ...] = ()
    description: str = ""
    kind: str = "regular"
    size_bytes: int = 0
    created: str = ""
    last_used: str = ""
    use_count: int = 0
    hollow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheItem:
    """What the cache holds, as `builder du` shows it: a step, or a folder below ROOT/build-cache."""

    key: str  # of the step, or the folder's name
    is_folder: bool = False
    kind: str
    description: str = ""
    parents: tuple[str, ...] = ()  # ids
    in_use: bool = False
    shared: bool = False  # an image has it too
    size_bytes: int = 0
    created: str = ""  # RFC 3339
    last_used: str = ""
    use_count: int = 0

    @property
    def id(self) -> str:
        """As long as BuildKit's."""
        return short_cache_id(self.key)


def short_cache_id(key: str) -> str:
    """What the API calls a key."""
    return key[:25]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRecord:
    """A finished step whose layers were not all packed yet: the next engine packs them.

    A layer is its diff-id, or the name of the folder below ROOT/build that has its upper directory. Those are
    on volatile mounts: after a crash of the machine (another boot) they may be torn and count for nothing.
    """

    record: CacheRecord
    layers: tuple[str, ...]
    own: str  # the step's own layer among them, empty when it changed nothing
    epoch: int
    boot_id: str
    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryStep:
    """One step of a finished build."""

    name: str
    cached: bool = False
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRecord:
    """A finished build, for `wherry build history`."""

    id: str
    created: str
    seconds: float
    status: str  # completed, error, cancelled
    dockerfile: str = ""
    target: str = ""
    tags: tuple[str, ...] = ()
    image: str = ""
    error: str = ""
    steps: tuple[HistoryStep, ...] = ()
    log: str = ""


# ---- what a build tells


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """All steps are known: their numbers are their places in `names`."""

    names: tuple[str, ...]  # as progress shows them: "[stage 2/5] RUN true"
    classic: tuple[str, ...]  # as the classic builder shows them: "RUN true"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A step has begun, or was found in the cache."""

    number: int
    cached: bool = False
    container: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """Output of a RUN; stream 1 or 2."""

    number: int
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """A step has ended; `short_id` stands for the state after it, "" for that of `scratch`."""

    number: int
    short_id: str | None = None
    error: str = ""
    cached: bool = False
    continues: bool = False  # a trigger of a FROM has ended, not the FROM


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A line for the person who builds."""

    text: str
    stream: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """The end of a build that succeeded. Outputs and caches are names of files to fetch, in the order of the
    options that asked for one."""

    image_id: str = ""
    tags: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    metadata: JsonObject = field(default_factory=dict)


StepEvent = StepStarted | StepOutput | StepDone
BuildEvent = Planned | StepEvent | Notice | Progress  # Progress: of a base image that is pulled
Report = Callable[[BuildEvent], None]


class StepFailed(EngineError):
    """A step could not be done; `exit_code` is 0 unless a RUN's own program ended so."""

    def __init__(
        self,
        sentence: str,
        *,
        exit_code: int = 0,
        tail: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
        self.tail = tail
        self.hint = hint
        self.excerpt = ""

    def place(self, filename: str, start: int, end: int, lines: tuple[str, ...]) -> None:
        """Says where in the Dockerfile the step stands."""
        if not self.excerpt:
            self.excerpt = format_excerpt(filename, Span(start, end, start, 1), lines)
