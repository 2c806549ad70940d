"""POST /build and what goes with it: JSON parameters of the query, lines of the stream, cache and history.

`BuildPreface` and `BuildLine` are ours: what Docker's classic endpoint has no words for (secrets, agents,
named contexts, outputs, progress by step). They are used when the request's type is `BUILD_TYPE`: the body is
then eight bytes of length (big endian), the preface as JSON, and the context's tar.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field

from wherry.lib.jsonvalue import JsonObject

BUILD_TYPE = "application/vnd.wherry.build"


class UlimitItem(Struct, kw_only=True, rename="pascal"):
    """One of the query's `ulimits`."""

    name: str
    soft: int = 0
    hard: int = 0


class OptionItem(Struct, kw_only=True, rename="pascal"):
    """One `--output`, `--cache-from` or `--cache-to`."""

    type: str
    attributes: dict[str, str] = field(default_factory=dict)


class ListedItem(Struct, array_like=True):
    """One entry of a context that is offered; kind is d, f, l or p."""

    path: str
    kind: str
    mode: int
    size: int = 0
    mtime_ns: int = 0
    link: str = ""
    stamp: str = ""


class ContextOffer(Struct, kw_only=True, rename="pascal"):
    """POST /wherry/builds/context; the key tells contexts apart."""

    key: str = ""
    entries: list[ListedItem] = field(default_factory=list)


class ContextAnswer(Struct, kw_only=True, rename="pascal"):
    """What the build names the offer by, and the places of the entries that its body must have."""

    id: str = field(name="ID")
    missing: list[int]


class BuildPreface(Struct, kw_only=True, rename="pascal"):
    """What stands before the context. Secrets are base64 by id, agents socket paths of this machine."""

    secrets: dict[str, bytes] = field(default_factory=dict)
    ssh: dict[str, str] = field(default_factory=dict)
    contexts: dict[str, str] = field(default_factory=dict)
    offered_context: str = ""
    outputs: list[OptionItem] = field(default_factory=list)
    cache_from: list[OptionItem] = field(default_factory=list)
    cache_to: list[OptionItem] = field(default_factory=list)
    no_cache_filter: list[str] = field(default_factory=list)
    allow: list[str] = field(default_factory=list)
    dockerfile_text: bytes | None = None
    check: bool = False
    debug: bool = False


class BuildPlan(Struct, kw_only=True):
    """All steps that are shown, in order; a step's number is its place here, from 0."""

    names: list[str]


class BuildStarted(Struct, kw_only=True):
    """A step has begun, or was in the cache."""

    number: int
    cached: bool = False


class BuildOutput(Struct, kw_only=True):
    """Output of a RUN."""

    number: int
    stream: int
    text: str


class BuildDone(Struct, kw_only=True):
    """A step has ended."""

    number: int
    cached: bool = False
    error: str = ""


class BuildErrorDetail(Struct, kw_only=True):
    """What went wrong, and what a person needs to see of it."""

    code: int | UnsetType = UNSET
    message: str
    excerpt: str | UnsetType = UNSET
    tail: str | UnsetType = UNSET
    hint: str | UnsetType = UNSET


class BuildAux(Struct, kw_only=True):
    """The result."""

    id: str = field(name="ID")
    outputs: list[str] | UnsetType = field(name="Outputs", default=UNSET)
    caches: list[str] | UnsetType = field(name="Caches", default=UNSET)
    warnings: list[str] | UnsetType = field(name="Warnings", default=UNSET)
    metadata: JsonObject | UnsetType = field(name="Metadata", default=UNSET)


class BuildLine(Struct, kw_only=True):
    """One line of the stream; exactly one field is set."""

    stream: str | UnsetType = UNSET
    aux: BuildAux | UnsetType = UNSET
    plan: BuildPlan | UnsetType = UNSET
    started: BuildStarted | UnsetType = UNSET
    output: BuildOutput | UnsetType = UNSET
    done: BuildDone | UnsetType = UNSET
    error_detail: BuildErrorDetail | UnsetType = field(name="errorDetail", default=UNSET)
    error: str | UnsetType = UNSET


class BuildPruned(Struct, kw_only=True, rename="pascal"):
    """POST /build/prune."""

    caches_deleted: list[str] | None
    space_reclaimed: int


class HistoryStepItem(Struct, kw_only=True, rename="pascal"):
    """A step of a finished build."""

    name: str
    cached: bool
    seconds: float
    error: str = ""


class HistoryItem(Struct, kw_only=True, rename="pascal"):
    """GET /wherry/builds."""

    id: str = field(name="ID")
    created: str
    seconds: float
    status: str
    dockerfile: str
    target: str
    tags: list[str]
    image: str
    error: str
    steps: list[HistoryStepItem]
