"""wherry build."""

from __future__ import annotations

import itertools
import os
import stat

from wherry.cli.command import ValueRefused, Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.output import is_terminal, line_error, line_out
from wherry.client.document import encode, mapping_of, strings_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wherry.cli.command import Arguments
    from wherry.cli.image.build_agent import KeyAgent
    from wherry.cli.image.build_context import Context
    from wherry.cli.session import Session
    from wherry.client.document import Document, Json

OPTIONS = (
    ("add-host", "", "list", "", 'Add a custom host-to-IP mapping ("host:ip")'),
    (
        "allow",
        "",
        "strings",
        "",
        'Let the Dockerfile ask for privileges ("network.host", "security.insecure")',
    ),
    ("build-arg", "", "list", "", "Set build-time variables"),
    ("build-context", "", "stringArray", "", 'Additional build contexts (e.g., "name=path")'),
    (
        "cache-from",
        "",
        "stringArray",
        "",
        'External cache sources (e.g., "user/app:cache", "type=local,src=path")',
    ),
    ("cache-to", "", "stringArray", "", 'Cache export destinations (e.g., "type=inline")'),
    (
        "cgroup-parent",
        "",
        "string",
        "",
        'Set the parent cgroup for the "RUN" instructions during build',
    ),
    ("check", "", "bool", "", "Only check the Dockerfile and print what is doubtful in it"),
    ("compress", "", "bool", "", "Compress the build context using gzip"),
    ("cpu-period", "", "int", "", "Limit the CPU CFS (Completely Fair Scheduler) period"),
    ("cpu-quota", "", "int", "", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    ("cpu-shares", "c", "int", "", "CPU shares (relative weight)"),
    ("cpuset-cpus", "", "string", "", "CPUs in which to allow execution (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "", "MEMs in which to allow execution (0-3, 0,1)"),
    ("debug", "D", "bool", "", "Open a shell in the state before a failed step"),
    ("disable-content-trust", "", "bool", "true", "Skip image verification"),
    ("file", "f", "string", "", 'Name of the Dockerfile (Default is "PATH/Dockerfile")'),
    ("force-rm", "", "bool", "", "Always remove intermediate containers"),
    ("iidfile", "", "string", "", "Write the image ID to the file"),
    ("isolation", "", "string", "", "Container isolation technology"),
    ("label", "", "list", "", "Set metadata for an image"),
    ("load", "", "bool", "", 'Shorthand for "--output=type=image"'),
    ("memory", "m", "bytes", "", "Memory limit"),
    (
        "memory-swap",
        "",
        "bytes",
        "",
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    ),
    ("metadata-file", "", "string", "", "Write build result metadata to a file"),
    (
        "network",
        "",
        "string",
        '"default"',
        "Set the networking mode for the RUN instructions during build",
    ),
    ("no-cache", "", "bool", "", "Do not use cache when building the image"),
    ("no-cache-filter", "", "strings", "", "Do not cache specified stages"),
    (
        "output",
        "o",
        "stringArray",
        "",
        'Output destination (format: "type=local,dest=path")',
    ),
    ("platform", "", "strings", "", "Set platform if server is multi-platform capable"),
    (
        "progress",
        "",
        "string",
        '"auto"',
        'Set type of progress output ("auto", "plain", "tty", "quiet", "rawjson")',
    ),
    ("provenance", "", "string", "", ""),
    ("pull", "", "bool", "", "Always attempt to pull a newer version of the image"),
    ("push", "", "bool", "", "Push the image after the build"),
    (
        "quiet",
        "q",
        "bool",
        "",
        "Suppress the build output and print image ID on success",
    ),
    (
        "rm",
        "",
        "bool",
        "true",
        "Remove intermediate containers after a successful build",
    ),
    ("sbom", "", "string", "", ""),
    (
        "secret",
        "",
        "stringArray",
        "",
        'Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")',
    ),
    ("security-opt", "", "strings", "", "Security options"),
    ("shm-size", "", "bytes", "", 'Size of "/dev/shm"'),
    ("squash", "", "bool", "", "Squash newly built layers into a single new layer"),
    (
        "ssh",
        "",
        "stringArray",
        "",
        'SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>|<key>[,<key>]]")',
    ),
    ("tag", "t", "list", "", 'Name and optionally a tag in the "name:tag" format'),
    ("target", "", "string", "", "Set the target build stage to build."),
    ("ulimit", "", "ulimit", "[]", "Ulimit options"),
)
CHECKS = {
    "add-host": "parse_extra_host",
    "build-arg": "check_build_argument",
    "label": "check_label",
    "memory": "parse_size",
    "memory-swap": "parse_swap_size",
    "shm-size": "parse_size",
    "tag": "check_tag",
    "ulimit": "parse_ulimit",
}
BUILD_TYPE = "application/vnd.wherry.build"
PROGRESS_KINDS = frozenset({"auto", "plain", "tty", "quiet", "rawjson"})
STREAMED = frozenset({"local", "tar", "oci", "docker"})


def run(session: Session, arguments: Arguments) -> int:
    """Builds an image."""
    agents: list[KeyAgent] = []
    try:
        return _build(session, arguments, agents)
    finally:
        for agent in agents:
            agent.close()


def _build(session: Session, arguments: Arguments, agents: list[KeyAgent]) -> int:
    from wherry.cli.image.build_context import add_cache, open_context
    from wherry.cli.image.build_progress import make_progress

    kind = arguments.text("progress", "auto")
    if kind not in PROGRESS_KINDS:
        raise CommandFailed(f"invalid progress mode {kind}")
    quiet = arguments.flag("quiet") or kind == "quiet"
    try:
        outputs = [parse_output(text) for text in arguments.many("output")]
        secrets = dict(read_secret(text) for text in arguments.many("secret"))
        cache_from = [one for text in arguments.many("cache-from") for one in parse_cache(text)]
        cache_to = [one for text in arguments.many("cache-to") for one in parse_cache(text)]
        sockets = open_agents(arguments.many("ssh"), agents)
    except ValueRefused as exc:
        raise CommandFailed(str(exc)) from exc
    tags = [*arguments.many("tag"), *names_of(outputs)]
    context = open_context(
        arguments.positional[0], arguments.text("file"), arguments.many("build-context")
    )
    for number, source in enumerate(cache_from):
        if source.kind == "local":
            add_cache(context, number, source.attributes.get("src", ""))
    client = session.client
    is_ours = "wherry" in client.system.ping().get("server", "").lower()
    body = context.stream()
    if is_ours:
        token, body = _offer(session, context)
        preface: Document = {
            "Secrets": {**secrets},
            "Ssh": {**sockets},
            "Contexts": dict(context.named),
            "OfferedContext": token,
            "Outputs": [_option(output) for output in outputs],
            "CacheFrom": [_option(source) for source in cache_from],
            "CacheTo": [_option(destination) for destination in cache_to],
            "NoCacheFilter": [*arguments.many("no-cache-filter")],
            "Allow": [*arguments.many("allow")],
            "DockerfileText": context.dockerfile_text,
            "Check": arguments.flag("check"),
            "Debug": arguments.flag("debug"),
        }
        encoded = encode(preface).encode()
        body = itertools.chain([len(encoded).to_bytes(8, "big") + encoded], body)
    elif (
        secrets
        or sockets
        or outputs
        or cache_to
        or context.named
        or context.dockerfile_text is not None
        or arguments.many("allow")
    ):
        raise CommandFailed("this engine has only the classic builder, which cannot do that")
    progress = make_progress(kind, quiet=quiet)
    try:
        progress.follow(
            client.builder.build(
                _encode_query(arguments, context, tags, [] if is_ours else cache_from),
                body,
                registry_config=_registry_config(session),
                content_type=BUILD_TYPE if is_ours else "application/x-tar",
            )
        )
    except CommandFailed as exc:
        if arguments.flag("debug") and "wherry run" in progress.hint and is_terminal(0):
            line_error(str(exc))
            return _open_shell(progress.hint)
        raise
    for destination, name in zip(
        [option.attributes.get("dest", "") for option in cache_to if option.kind == "local"],
        strings_of(progress.result, "Caches"),
        strict=False,
    ):
        if name:
            _unpack(session, destination, name)
    return _finish(session, arguments, outputs, tags, progress.result, quiet=quiet)


def _offer(session: Session, context: Context) -> tuple[str, Iterator[bytes]]:
    """The token of the context's list at the engine, and what the engine lacks; all when it is small."""
    listing = None if context.listing is None else context.listing()
    entries = listing.encode() if listing is not None and listing.is_worth_it else None
    if listing is None or entries is None:
        return "", context.stream()
    key = f"{os.uname().nodename}:{os.path.realpath(listing.folder)}"
    answer = session.client.builder.offer_context(key, entries)
    missing = answer.get("Missing")
    places = (
        [place for place in missing if isinstance(place, int)] if isinstance(missing, list) else []
    )
    return text_of(answer, "ID"), listing.pack(places)


class OutputOption:
    """One --output: what is made, and where it goes."""

    __slots__ = ("attributes", "destination", "kind")

    def __init__(self, kind: str, attributes: dict[str, str], destination: str) -> None:
        self.kind = kind
        self.attributes = attributes
        self.destination = destination


def parse_output(text: str) -> OutputOption:
    """`type=local,dest=path`, a path, or `-`; raises ValueRefused."""
    from wherry.cli.flags import split_csv

    if "=" not in text:
        return OutputOption("tar" if text == "-" else "local", {}, text)
    attributes: dict[str, str] = {}
    for field in split_csv(text):
        name, separator, value = field.partition("=")
        if not separator:
            raise ValueRefused(f"invalid value {field}")
        attributes[name.strip().lower()] = value
    kind = attributes.pop("type", "")
    if not kind:
        raise ValueRefused("type is required for output")
    destination = attributes.pop("dest", "")
    if kind == "registry":
        kind, attributes["push"] = "image", "true"
    if kind in {"local", "oci"} and not destination:
        raise ValueRefused(f"dest is required for {kind} output")
    return OutputOption(kind, attributes, destination)


def names_of(outputs: list[OutputOption]) -> list[str]:
    """The names that images get by `--output type=image,name=…`, in the store or in an archive."""
    named = [output for output in outputs if output.kind in {"image", "oci", "docker"}]
    names = [output.attributes.get("name", "") for output in named]
    return [name for text in names for name in text.split(",") if name]


class CacheOption:
    """One --cache-from or --cache-to."""

    __slots__ = ("attributes", "kind")

    def __init__(self, kind: str, attributes: dict[str, str]) -> None:
        self.kind = kind
        self.attributes = attributes


def parse_cache(text: str) -> list[CacheOption]:
    """`type=registry,ref=…`, or references alone; raises ValueRefused."""
    from wherry.cli.flags import split_csv

    if "=" not in text:
        return [CacheOption("registry", {"ref": reference}) for reference in split_csv(text)]
    attributes: dict[str, str] = {}
    for field in split_csv(text):
        name, separator, value = field.partition("=")
        if not separator:
            raise ValueRefused(f"invalid value {field}")
        attributes[name.strip().lower()] = value
    kind = attributes.pop("type", "")
    if not kind:
        raise ValueRefused(f"type required form> {text}")
    return [CacheOption(kind, attributes)]


def read_secret(text: str) -> tuple[str, str]:
    """Id and base64 content of `id=x,src=path` or `id=x,env=NAME`; raises ValueRefused."""
    import binascii

    from wherry.cli.flags import split_csv

    fields: dict[str, str] = {}
    for field in split_csv(text):
        name, separator, value = field.partition("=")
        name = name.strip().lower()
        if not separator:
            raise ValueRefused(f"invalid field '{field}' must be a key=value pair")
        if name in {"source", "src"}:
            name = "src"
        elif name not in {"id", "type", "env"}:
            raise ValueRefused(f"unexpected key '{name}' in '{field}'")
        fields[name] = value
    identity = fields.get("id") or os.path.basename(fields.get("src", ""))
    if not identity:
        raise ValueRefused("secret missing id")
    variable = fields.get("env", "")
    if not variable and (fields.get("type") == "env" or "src" not in fields):
        variable = fields.get("src") or identity
        if fields.get("type") != "env" and variable not in os.environ:
            variable = ""
    if variable:
        content = os.environb.get(os.fsencode(variable), b"")
    else:
        path = fields.get("src") or identity
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as exc:
            reason = (exc.strerror or "").lower()
            raise ValueRefused(f"failed to stat {path}: stat {path}: {reason}") from exc
    return identity, str(binascii.b2a_base64(content, newline=False), "ascii")


def open_agents(texts: Sequence[str], agents: list[KeyAgent]) -> dict[str, str]:
    """The sockets of `--ssh default|id[=socket|key[,key]]` by id; `agents` gets those that stand for keys, to be closed.

    Raises ValueRefused.
    """
    sockets: dict[str, str] = {}
    for text in texts:
        identity, _, value = text.partition("=")
        identity = identity or "default"
        if identity in sockets:
            raise ValueRefused(f'duplicate agent ID "{identity}"')
        path = value or os.environ.get("SSH_AUTH_SOCK", "")
        if not path:
            raise ValueRefused(
                f"invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set ({identity})"
            )
        paths = path.split(",") if value else [path]
        are_sockets = [_is_socket(one) for one in paths]
        if not any(are_sockets):
            from wherry.cli.image.build_agent import KeyAgent

            agents.append(KeyAgent(paths))
            path = agents[-1].path
        elif not all(are_sockets):
            raise ValueRefused("invalid combination of keys and sockets")
        elif len(paths) > 1:
            raise ValueRefused("only single socket allowed")
        sockets[identity] = os.path.abspath(path)
    return sockets


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as exc:
        reason = (exc.strerror or "").lower()
        raise ValueRefused(f"failed to stat {path}: stat {path}: {reason}") from exc


def _option(option: OutputOption | CacheOption) -> Json:
    return {"Type": option.kind, "Attributes": dict(option.attributes)}


def _encode_query(
    arguments: Arguments, context: Context, tags: list[str], cache_from: list[CacheOption]
) -> str:
    from wherry.cli import flags
    from wherry.client.transport import build_query

    many, number, text = arguments.many, arguments.number, arguments.text
    build_args: Document = {}
    for argument in many("build-arg"):
        name, separator, value = argument.partition("=")
        build_args[name] = value if separator else os.environ.get(name)
    labels: Document = dict(flags.parse_pairs(many("label")))
    ulimits: list[Json] = [
        {"Name": name, "Hard": hard, "Soft": soft}
        for name, soft, hard in map(flags.parse_ulimit, many("ulimit"))
    ]
    network = text("network", "default")
    query = build_query(
        remote=context.remote,
        q=arguments.flag("quiet"),
        nocache=arguments.flag("no-cache"),
        rm=1 if arguments.flag("rm", default=True) else "0",
        forcerm=arguments.flag("force-rm"),
        pull=arguments.flag("pull"),
        dockerfile=context.dockerfile,
        target=text("target"),
        platform=",".join(many("platform")),
        networkmode="" if network == "default" else network,
        memory=flags.parse_size(text("memory", "0")) or None,
        memswap=flags.parse_swap_size(text("memory-swap", "0")) or None,
        shmsize=flags.parse_size(text("shm-size", "0")) or None,
        cpushares=number("cpu-shares") or None,
        cpuperiod=number("cpu-period") or None,
        cpuquota=number("cpu-quota") or None,
        cpusetcpus=text("cpuset-cpus"),
        cpusetmems=text("cpuset-mems"),
        cgroupparent=text("cgroup-parent"),
        squash=arguments.flag("squash"),
        isolation=text("isolation"),
        buildargs=encode(build_args) if build_args else "",
        labels=encode(labels) if labels else "",
        ulimits=encode(ulimits) if ulimits else "",
        cachefrom=encode([source.attributes.get("ref", "") for source in cache_from])
        if cache_from
        else "",
        version="1",
    )
    repeated = [("t", tag) for tag in tags]
    repeated += [("extrahosts", flags.parse_extra_host(host)) for host in many("add-host")]
    repeated += [("securityopt", option) for option in many("security-opt")]
    for name, value in repeated:
        query += "&" + build_query(**{name: value})[1:]
    return query


def _registry_config(session: Session) -> str:
    from wherry.cli.credentials import all_accounts, encode_auth

    accounts = all_accounts(session)
    return encode_auth(accounts) if accounts else ""


def _finish(
    session: Session,
    arguments: Arguments,
    outputs: list[OutputOption],
    tags: list[str],
    result: Document,
    *,
    quiet: bool,
) -> int:
    image = text_of(result, "ID")
    if arguments.flag("check"):
        return _report_check(strings_of(result, "Warnings"))
    if arguments.text("iidfile"):
        with open(arguments.text("iidfile"), "w", encoding="utf-8") as file:
            file.write(image)
    if arguments.text("metadata-file"):
        from wherry.cli.gofmt import indent_json

        with open(arguments.text("metadata-file"), "w", encoding="utf-8") as file:
            file.write(indent_json(mapping_of(result, "Metadata"), "  ") + "\n")
    streamed = [output for output in outputs if output.kind in STREAMED]
    for output, name in zip(streamed, strings_of(result, "Outputs"), strict=False):
        _receive(session, output, name)
    if arguments.flag("push") or any(output.attributes.get("push") == "true" for output in outputs):
        _push(session, tags, quiet=quiet)
    if quiet:
        if image:
            line_out(image)
        return 0
    warnings = strings_of(result, "Warnings")
    if warnings:
        shown = "warning" if len(warnings) == 1 else "warnings"
        line_error(f"\n {len(warnings)} {shown} found (use --check to expand):")
        for warning in warnings:
            line_error(f" - {warning}")
    return 0


def _report_check(warnings: list[str]) -> int:
    if not warnings:
        line_out("Check complete, no warnings found.")
        return 0
    shown = "warning has" if len(warnings) == 1 else "warnings have"
    line_out(f"Check complete, {len(warnings)} {shown} been found!\n")
    for warning in warnings:
        line_out(f"{warning}\n")
    return 1


def _receive(session: Session, output: OutputOption, name: str) -> None:
    if output.kind == "local" or output.attributes.get("tar") in {"false", "0"}:
        _unpack(session, output.destination, name)
        return
    from wherry.cli.save_to import save_to

    response = session.client.builder.output(name)
    path = "" if output.destination in {"", "-"} else output.destination
    if not path and is_terminal(1):
        raise CommandFailed("dest file is required for tar exporter. refusing to write to console")
    save_to(path, response.chunks())


def _unpack(session: Session, folder: str, name: str) -> None:
    from wherry.cli.archive import unpack

    os.makedirs(folder, exist_ok=True)
    unpack(session.client.builder.output(name).chunks(), folder)


def _push(session: Session, tags: list[str], *, quiet: bool) -> None:
    from wherry.cli.credentials import registry_auth
    from wherry.cli.progress import show_progress
    from wherry.cli.reference import parse_reference

    if not tags:
        raise CommandFailed("tag is needed when pushing to registry")
    for tag in tags:
        reference = parse_reference(tag).with_latest()
        records = session.client.images.push(
            reference.name, reference.tag, auth=registry_auth(session, reference.domain)
        )
        show_progress(records, 2, quiet=quiet)


def _open_shell(hint: str) -> int:
    """Runs the command of the hint, `wherry run …`, in this process."""
    import shlex

    from wherry.cli.main import run as run_command

    words = shlex.split(hint[hint.index("wherry ") :])
    return run_command(words[1:])


VERB = Verb(
    run,
    usage="[OPTIONS] PATH | URL | -",
    aliases="image build, build, builder build",
    options=OPTIONS,
    checks=CHECKS,
    minimum=1,
    maximum=1,
)
