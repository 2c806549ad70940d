"""wherryd's options: one table, from which flags, the keys of the JSON file and `--help` derive.

Names are dockerd's where dockerd has the option. A flag beats the file; an option given in both is refused, as
dockerd does, except for lists, which may come from one place only. Parsing is pure: `parse_options(argv, document)`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec

from wherry.lib.jsonvalue import JsonValue

DEFAULT_CONFIG_FILE = "/etc/wherry/wherryd.json"
DEFAULT_HOST = "unix:///run/wherry/wherry.sock"
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class OptionError(Exception):
    """An option cannot be used; the message is a sentence for the person at the terminal."""


class HelpWanted(Exception):
    """`--help`, `--version` or `--validate` was given; the message is the text to print."""


def parse_size(text: str) -> int:
    """`64m` → bytes."""
    match = re.fullmatch(r"(\d+)([bkmgt]?)b?", text.strip().lower())
    if match is None:
        raise OptionError(f"invalid size: '{text}'")
    return int(match[1]) * _SIZES[match[2]]


def _parse_bool(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in words:
        raise OptionError(f'invalid boolean value "{text}"')
    return words[text.lower()]


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise OptionError(f'invalid number "{text}"') from exc


def _parse_float(text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise OptionError(f'invalid number "{text}"') from exc


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise OptionError(f'"{text}" is none of {", ".join(choices)}')
        return text

    return parse


def _parse_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError as exc:
        raise OptionError(f"{text} is not an ip address") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options, parsed; fields are the flags' names with underscores."""

    data_root: Path = Path("/var/lib/wherry")
    exec_root: Path = Path("/run/wherry")
    host: tuple[str, ...] = ()
    pidfile: str = ""
    group: str = "docker"
    log_level: str = "info"
    log_file: str = ""
    debug: bool = False
    bridge: str = "wherry0"
    bip: str = ""
    default_address_pool: tuple[str, ...] = ()
    cgroup_parent: str = "/docker"
    registry_mirror: tuple[str, ...] = ()
    insecure_registry: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    registry_certs_dir: str = ""
    storage_driver: str = ""
    slots: int = 2
    idle_exit: float = 0.0
    ready_fd: int = -1
    init_path: str = ""
    default_runtime: str = "wherry"
    add_runtime: tuple[str, ...] = ()
    default_shm_size: int = 64 << 20
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str = ""
    default_ulimit: tuple[str, ...] = ()
    log_driver: str = "json-file"
    log_opt: tuple[str, ...] = ()
    shutdown_timeout: int = 15
    seccomp_profile: str = ""
    no_new_privileges: bool = False
    host_gateway_ip: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    validate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One row: the flag `--name`, perhaps `-short`; `key` in the file; a value for each or none."""

    name: str
    help: str
    parse: Callable[[str], object] = str
    short: str = ""
    key: str = ""  # dockerd's files have plural keys for lists
    many: bool = False

    @property
    def field(self) -> str:
        """The attribute of Options."""
        return self.name.replace("-", "_")

    @property
    def file_key(self) -> str:
        """The key in the JSON file."""
        return self.key or self.name

    @property
    def is_flag(self) -> bool:
        """Whether the flag may stand without a value."""
        return self.parse is _parse_bool


OPTIONS: tuple[Option, ...] = (
    Option(name="data-root", parse=Path, help="Root directory of persistent state"),
    Option(name="exec-root", parse=Path, help="Root directory of run-time state"),
    Option(
        name="host",
        short="H",
        key="hosts",
        many=True,
        help=f"Socket to listen on (default {DEFAULT_HOST})",
    ),
    Option(name="pidfile", help="Path of the PID file (default wherryd.pid in the exec root)"),
    Option(name="group", short="G", help="Group of the unix socket"),
    Option(name="log-level", short="l", help="debug, info, warn, error or fatal"),
    Option(name="log-file", help="Write the log there instead of to stderr"),
    Option(name="debug", short="D", parse=_parse_bool, help="Debug mode"),
    Option(name="bridge", short="b", help="Name of the default bridge"),
    Option(name="bip", help="Address of the default bridge, as CIDR"),
    Option(
        name="default-address-pool",
        key="default-address-pools",
        many=True,
        help="Pool of subnets: base=172.30.0.0/16,size=24",
    ),
    Option(name="cgroup-parent", help="Parent cgroup of all containers"),
    Option(name="registry-mirror", key="registry-mirrors", many=True, help="Mirror of Docker Hub"),
    Option(
        name="insecure-registry",
        key="insecure-registries",
        many=True,
        help="Registry without verified TLS",
    ),
    Option(name="max-concurrent-downloads", parse=_parse_int, help="Layers of a pull at once"),
    Option(name="max-concurrent-uploads", parse=_parse_int, help="Layers of a push at once"),
    Option(
        name="max-download-attempts", parse=_parse_int, help="Fruitless tries of a layer in a row"
    ),
    Option(
        name="registry-certs-dir",
        help="Certificates by registry (default /etc/wherry/certs.d and /etc/docker/certs.d)",
    ),
    Option(name="storage-driver", short="s", help="erofs or overlay2; empty = what the kernel can"),
    Option(
        name="slots",
        parse=_parse_int,
        help="Containers prepared ahead of each kind in use (default 2); 0 = none",
    ),
    Option(
        name="idle-exit",
        parse=_parse_float,
        help="End after so many seconds without requests and running containers",
    ),
    Option(name="ready-fd", parse=_parse_int, help="Write a byte to this descriptor when ready"),
    Option(name="init-path", help="Program for --init (default: tini, else a built-in one)"),
    Option(name="default-runtime", help="OCI runtime of containers"),
    Option(name="add-runtime", many=True, help="Another OCI runtime: name=path"),
    Option(name="default-shm-size", parse=parse_size, help="Size of /dev/shm"),
    Option(
        name="default-ipc-mode",
        parse=_one_of("private", "shareable"),
        help="private or shareable",
    ),
    Option(name="default-cgroupns-mode", parse=_one_of("private", "host"), help="private or host"),
    Option(
        name="default-ulimit",
        key="default-ulimits",
        many=True,
        help="Default limits of containers: nofile=1024:2048",
    ),
    Option(name="log-driver", help="Log driver of containers"),
    Option(
        name="log-opt", key="log-opts", many=True, help="Options of the log driver: max-size=10m"
    ),
    Option(
        name="shutdown-timeout",
        parse=_parse_int,
        help="Seconds that running requests have at the end",
    ),
    Option(
        name="seccomp-profile",
        help="Path of the default seccomp profile, unconfined, or builtin (the default)",
    ),
    Option(name="no-new-privileges", parse=_parse_bool, help="Set no-new-privileges by default"),
    Option(name="dns", parse=_parse_address, many=True, help="DNS server of containers"),
    Option(
        name="host-gateway-ip",
        key="host-gateway-ips",
        parse=_parse_address,
        many=True,
        help="What host-gateway of --add-host stands for (default: the default bridge's address)",
    ),
    Option(name="dns-opt", key="dns-opts", many=True, help="DNS option of containers"),
    Option(name="dns-search", many=True, help="DNS search domain of containers"),
    Option(name="label", key="labels", many=True, help="Label of this engine"),
    Option(name="tls", parse=_parse_bool, help="Use TLS on TCP; implied by --tlsverify"),
    Option(name="tlsverify", parse=_parse_bool, help="Use TLS and verify clients"),
    Option(name="tlscacert", help="CA that clients' certificates must be signed by"),
    Option(name="tlscert", help="Certificate of this engine"),
    Option(name="tlskey", help="Key of that certificate"),
    Option(name="validate", parse=_parse_bool, help="Check the options and the file, and exit"),
)
_BY_NAME = {option.name: option for option in OPTIONS}
_BY_SHORT = {option.short: option for option in OPTIONS if option.short}
_BY_KEY = {option.file_key: option for option in OPTIONS}
_OLD_KEYS = {"host-gateway-ip": "host-gateway-ips"}
# Keys of dockerd's file that mean nothing here and do no harm.
_IGNORED_KEYS = frozenset(
    ["features", "experimental", "live-restore", "exec-opts", "storage-opts", "builder", "ipv6",
     "userland-proxy", "ip-forward", "ip-masq", "containerd", "metrics-addr", "$schema"]
)  # fmt: skip


def build_help() -> str:
    """`--help`."""
    lines = ["Usage: wherryd [OPTIONS]", "", "The container engine.", "", "Options:"]
    defaults = {item.name: item.default for item in fields(Options)}
    for option in OPTIONS:
        short = f"-{option.short}, " if option.short else "    "
        default = defaults[option.field]
        shown = f" (default {default})" if default and default not in {(), -1, 0.0, True} else ""
        text = option.help if "(default" in option.help else option.help + shown
        lines.append(f"  {short}--{option.name:<26} {text}")
    lines.append(
        f"      --{'config-file':<26} JSON file with the same keys (default {DEFAULT_CONFIG_FILE})"
    )
    return "\n".join(lines)


def parse_flags(argv: Sequence[str]) -> tuple[dict[str, list[str]], str]:
    """argv → values by option name, and the config file. Raises OptionError, HelpWanted."""
    found: dict[str, list[str]] = {}
    config_file = ""
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in {"--help", "-h"}:
            raise HelpWanted(build_help())
        name, has_value, value = word.partition("=")
        if name == "--config-file":
            config_file = value if has_value else _take_value(words, name)
            continue
        option, value, has_value = _find_option(word, name, value, has_value)
        if not has_value:
            value = "true" if option.is_flag else _take_value(words, name)
        found.setdefault(option.name, []).append(value)
    return found, config_file


def _find_option(word: str, name: str, value: str, has_value: str) -> tuple[Option, str, str]:
    if name.startswith("--"):
        option = _BY_NAME.get(name[2:])
        if option is not None:
            return option, value, has_value
    elif name.startswith("-") and len(name) > 1:
        option = _BY_SHORT.get(name[1])
        if option is not None:
            attached = word[2:].removeprefix("=")
            return option, attached, "=" if attached else ""
    if not name.startswith("-"):
        raise OptionError(f"wherryd takes no arguments, got {word!r}")
    raise OptionError(f"unknown flag: {name}\nSee 'wherryd --help'.")


def _take_value(words: list[str], name: str) -> str:
    if not words:
        raise OptionError(f"flag needs an argument: {name}")
    return words.pop(0)


def read_file(text: bytes, path: str) -> dict[str, list[str]]:
    """The JSON file → values by option name, as text. Raises OptionError."""
    try:
        document: JsonValue = msgspec.json.decode(text) if text.strip() else {}
    except msgspec.DecodeError as exc:
        raise OptionError(f"unable to configure the engine with file {path}: {exc}") from exc
    if not isinstance(document, Mapping):
        raise OptionError(f"unable to configure the engine with file {path}: not a JSON object")
    found: dict[str, list[str]] = {}
    unknown = []
    for word, value in document.items():
        key = _OLD_KEYS.get(word, word)
        if key == "runtimes":
            found["add-runtime"] = _read_runtimes(value, path)
        elif key in _BY_KEY:
            found[_BY_KEY[key].name] = _to_texts(key, value, path)
        elif key not in _IGNORED_KEYS:
            unknown.append(key)
    if unknown:
        raise OptionError(
            f"unable to configure the engine with file {path}: the following directives don't match any"
            f" configuration option: {', '.join(sorted(unknown))}"
        )
    return found


def _read_runtimes(value: JsonValue, path: str) -> list[str]:
    if not isinstance(value, Mapping):
        raise OptionError(
            f"unable to configure the engine with file {path}: runtimes: not an object"
        )
    texts = []
    for name, runtime in value.items():
        program = runtime.get("path") if isinstance(runtime, Mapping) else None
        if not isinstance(program, str):
            raise OptionError(
                f"unable to configure the engine with file {path}: runtimes.{name}.path is missing"
            )
        texts.append(f"{name}={program}")
    return texts


def _to_texts(key: str, value: JsonValue, path: str) -> list[str]:
    option = _BY_KEY[key]
    if isinstance(value, Mapping) and option.many:  # "log-opts": {"max-size": "10m"}
        return [_pair(name, item) for name, item in value.items()]
    values = value if isinstance(value, list) else [value]
    if len(values) > 1 and not option.many:
        raise OptionError(f"unable to configure the engine with file {path}: {key} takes one value")
    texts = []
    for item in values:
        if isinstance(item, Mapping):  # "default-address-pools": [{"base": …, "size": …}]
            texts.append(",".join(f"{name}={_text(part)}" for name, part in item.items()))
        elif item is not None:
            texts.append(_text(item))
    return texts


def _pair(name: str, value: JsonValue) -> str:
    if isinstance(
        value, Mapping
    ):  # "default-ulimits": {"nofile": {"Name": …, "Hard": …, "Soft": …}}
        return f"{name}={_text(value.get('Soft', 0))}:{_text(value.get('Hard', 0))}"
    return f"{name}={_text(value)}"


def _text(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def build_options(flags: Mapping[str, list[str]], file: Mapping[str, list[str]]) -> Options:
    """Both sources → Options. Raises OptionError."""
    both = sorted(flags.keys() & file.keys())
    if both:
        raise OptionError(
            "the following directives are specified both as a flag and in the configuration file: "
            + ", ".join(both)
        )
    values: dict[str, object] = {}
    for name, texts in (*file.items(), *flags.items()):
        option = _BY_NAME[name]
        try:
            parsed = [option.parse(text) for text in texts]
        except OptionError as exc:
            raise OptionError(f"invalid argument for --{name}: {exc}") from exc
        if parsed:
            values[option.field] = tuple(parsed) if option.many else parsed[-1]
    options = msgspec.convert(values, Options, dec_hook=_keep)
    if options.log_level not in LOG_LEVELS:
        raise OptionError(f"invalid logging level: {options.log_level}")
    return options


def _keep(kind: type, value: object) -> object:
    return kind(value)


LOG_LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "fatal": 50}


def parse_options(argv: Sequence[str]) -> Options:
    """argv and the file that it, or the default, names. Raises OptionError, HelpWanted."""
    flags, config_file = parse_flags(argv)
    path = config_file or DEFAULT_CONFIG_FILE
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError as exc:
        if config_file:
            raise OptionError(
                f"unable to configure the engine with file {path}: no such file"
            ) from exc
        text = b""
    except OSError as exc:
        raise OptionError(
            f"unable to configure the engine with file {path}: {exc.strerror}"
        ) from exc
    options = build_options(flags, read_file(text, path))
    if options.validate:
        raise HelpWanted("configuration OK")
    return options


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: a path, or a TCP address; `fd` for socket activation."""

    kind: str  # "unix", "tcp" or "fd"
    address: str
    port: int = 0


def parse_host(text: str, *, tls: bool) -> Listen:
    """`unix:///path`, `tcp://host:port`, `fd://`. Raises OptionError."""
    kind, separator, rest = text.partition("://")
    if not separator:
        kind, rest = ("unix", text) if text.startswith("/") else ("tcp", text)
    if kind == "unix" and rest.startswith("/"):
        if len(rest.encode()) > 107:
            raise OptionError(f"socket path is longer than 107 bytes: {rest}")
        return Listen("unix", rest)
    if kind == "tcp":
        host, _, port = rest.rstrip("/").rpartition(":")
        if not _:
            host, port = rest, str(2376 if tls else 2375)
        if port.isdigit() and int(port) < 65536:
            return Listen("tcp", host.strip("[]") or "127.0.0.1", int(port))
    if kind == "fd":
        return Listen("fd", rest)
    raise OptionError(f"unable to parse docker host `{text}`")


def find_group(name: str) -> int | None:
    """The group's id, None when there is no such group."""
    import grp

    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        return None
