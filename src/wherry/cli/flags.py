"""Grammars of option values: text to the Engine API's form. Pure; refusals are Docker's sentences.

Functions named check_x only refuse; parse_x give the value. Files are read by the caller, except
where the grammar itself names a file (env files, label files, seccomp profiles).
"""

from __future__ import annotations

import os

from wherry.cli.command import ValueRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wherry.client.document import Document, Json

BINARY_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
DECIMAL_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
DURATION_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
ULIMITS = frozenset(
    {
        "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
        "rss", "rtprio", "rttime", "sigpending", "stack",
    }
)  # fmt: skip
SYSCTLS = frozenset(
    {
        "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
        "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
    }
)  # fmt: skip
PROTOCOLS = ("tcp", "udp", "sctp")
SPACES = " \t\n\v\f\r"


# Sizes, numbers, times


def parse_size(text: str, units: Mapping[str, int] = BINARY_UNITS) -> int:
    """Bytes of `64m`, `1.5g`, `10 KiB`."""
    at = max(text.rfind(character) for character in "0123456789. ")
    if at < 0:
        raise ValueRefused(f"invalid size: '{text}'")
    number = text[: at + 1] if text[at] != " " else text[:at]
    suffix = text[at + 1 :]
    size = _parse_float(number)
    if size < 0:
        raise ValueRefused(f"invalid size: '{text}'")
    lower = suffix.lower()
    if lower in {"", "b"}:
        return int(size)
    if lower[0] not in units or lower[1:] not in {"", "b", "ib"}:
        raise ValueRefused(f"invalid suffix: '{suffix if len(suffix) > 3 else lower}'")
    return int(size * units[lower[0]])


def _parse_float(text: str) -> float:
    try:
        if text.strip() != text or "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueRefused(f'strconv.ParseFloat: parsing "{text}": invalid syntax') from None


def parse_swap_size(text: str) -> int:
    """Bytes, or -1 for no limit."""
    return -1 if text == "-1" else parse_size(text)


def parse_nano_cpus(text: str) -> int:
    """Billionths of a processor of `1.5` or `3/2`."""
    from decimal import Decimal, InvalidOperation

    numerator, separator, denominator = text.partition("/")
    try:
        value = Decimal(numerator)
        if separator:
            value /= Decimal(int(denominator))
        nano = value * 1_000_000_000
        whole = int(nano)
    except (InvalidOperation, ValueError, ArithmeticError):
        raise ValueRefused(f"failed to parse {text} as a rational number") from None
    if nano != whole:
        raise ValueRefused("value is too precise")
    return whole


def parse_duration_ns(text: str) -> int:
    """Nanoseconds of `1h30m`, `1.5s`, `-2ms`, as Go reads them."""
    refused = ValueRefused(f'time: invalid duration "{text}"')
    rest = text
    sign = 1
    if rest[:1] in {"-", "+"}:
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise refused
    total = 0.0
    whole = 0
    while rest:
        at = 0
        while at < len(rest) and (rest[at].isdigit() or rest[at] == "."):
            at += 1
        number, rest = rest[:at], rest[at:]
        if number.strip(".") == "" or number.count(".") > 1:
            raise refused
        at = 0
        while at < len(rest) and rest[at] != "." and not rest[at].isdigit():
            at += 1
        unit, rest = rest[:at], rest[at:]
        if not unit:
            raise ValueRefused(f'time: missing unit in duration "{text}"')
        if unit not in DURATION_UNITS:
            raise ValueRefused(f'time: unknown unit "{unit}" in duration "{text}"')
        if "." in number:
            total += float(number) * DURATION_UNITS[unit]
        else:
            whole += int(number) * DURATION_UNITS[unit]
    return sign * (whole + int(total))


def parse_ulimit(text: str) -> tuple[str, int, int]:
    """Name, soft and hard limit of `nofile=1024:2048`."""
    name, separator, values = text.partition("=")
    if not separator:
        raise ValueRefused(f"invalid ulimit argument: {text}")
    if name not in ULIMITS:
        raise ValueRefused(f"invalid ulimit type: {name}")
    limits = values.split(":")
    if len(limits) > 2:
        raise ValueRefused(
            f"too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
        )
    numbers = []
    for limit in limits:
        try:
            numbers.append(int(limit))
        except ValueError:
            raise ValueRefused(f'strconv.ParseInt: parsing "{limit}": invalid syntax') from None
    soft, hard = numbers[0], numbers[-1]
    if hard != -1 and soft > hard:
        raise ValueRefused(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    if hard != -1 and soft == -1:
        raise ValueRefused(
            f"ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
        )
    return name, soft, hard


# Environment and labels


def complete_env(text: str) -> str:
    """`NAME=value` as it is; `NAME` with the value it has here, if it has one."""
    name, separator, _ = text.partition("=")
    if not name:
        raise ValueRefused(f"invalid environment variable: {text}")
    if separator or name not in os.environ:
        return text
    return f"{name}={os.environ[name]}"


def check_build_argument(text: str) -> None:
    """Refuses a build argument without a name."""
    if not text.partition("=")[0]:
        raise ValueRefused(f"invalid environment variable: {text}")


def check_tag(text: str) -> None:
    """Refuses what is no reference."""
    from wherry.cli.errors import CommandFailed
    from wherry.cli.reference import parse_reference

    try:
        parse_reference(text)
    except CommandFailed as exc:
        raise ValueRefused(str(exc)) from exc


def read_env_file(path: str, *, from_environment: bool = True) -> list[str]:
    """The variables (or labels) of a file, one a line, `#` starts a comment line."""
    with open(path, "rb") as file:
        content = file.read()
    variables = []
    for number, raw in enumerate(content.split(b"\n"), 1):
        line = raw.removesuffix(b"\r")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            text = line.decode().lstrip(SPACES)
        except UnicodeDecodeError as exc:
            raise ValueRefused(
                f"invalid env file ({path}): invalid utf8 bytes at line {number}: {list(line)}"
            ) from exc
        if not text or text.startswith("#"):
            continue
        name, separator, value = text.partition("=")
        name = name.lstrip(SPACES)
        if any(character in SPACES for character in name):
            raise ValueRefused(f"invalid env file ({path}): variable '{name}' contains whitespaces")
        if not name:
            raise ValueRefused(f"invalid env file ({path}): no variable name on line '{text}'")
        if separator:
            variables.append(f"{name}={value}")
        elif from_environment and name in os.environ:
            variables.append(f"{name}={os.environ[name]}")
    return variables


def check_label(text: str) -> None:
    """Refuses a label without a name."""
    if not text.partition("=")[0]:
        raise ValueRefused(f"invalid label '{text}': empty name")


def parse_pairs(texts: Sequence[str]) -> dict[str, str]:
    """`a=b` and `a` (empty value) as a mapping; the last of a name counts."""
    pairs = {}
    for text in texts:
        name, _, value = text.partition("=")
        pairs[name] = value
    return pairs


# Streams, names, addresses


def check_attach(text: str) -> None:
    """Refuses what is no standard stream."""
    if text.lower() not in {"stdin", "stdout", "stderr"}:
        raise ValueRefused("valid streams are STDIN, STDOUT and STDERR")


def is_ip_address(text: str) -> bool:
    """True for an IPv4 or IPv6 address."""
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False


def check_ip_address(text: str) -> None:
    """Refuses what is no IP address."""
    if not is_ip_address(text.strip()):
        raise ValueRefused(f"IP address is not correctly formatted: {text}")


def check_dns_search(text: str) -> None:
    """Refuses what is no domain; a lone dot stands for none."""
    domain = text.strip()
    if domain.strip(".") == "" and domain != "":
        return
    labels = domain.removesuffix(".").split(".")
    if len(domain) > 255 or not all(
        label
        and label[0] != "-"
        and label[-1] != "-"
        and label.replace("-", "a").replace("_", "a").isalnum()
        for label in labels
    ):
        raise ValueRefused(f"{text} is not a valid domain")


def parse_extra_host(text: str) -> str:
    """`host:ip` of `host:ip`, `host=ip`, `host:[ip6]`."""
    host, separator, address = text.partition("=")
    if not separator:
        host, separator, address = text.partition(":")
    if not separator or not host:
        raise ValueRefused(f'bad format for add-host: "{text}"')
    if address != "host-gateway":
        if len(address) > 2 and address[0] == "[" and address[-1] == "]":
            address = address[1:-1]
        if not is_ip_address(address):
            raise ValueRefused(f'invalid IP address in add-host: "{address}"')
    return f"{host}:{address}"


def check_link(text: str) -> None:
    """Refuses what is not `name[:alias]`."""
    if not text:
        raise ValueRefused("empty string specified for links")
    if text.count(":") > 1:
        raise ValueRefused(f"bad format for links: {text}")


def is_mac_address(text: str) -> bool:
    """True for six, eight or twenty hex pairs as Go's ParseMAC takes them."""
    for separator in ":-":
        parts = text.split(separator)
        if len(parts) in {6, 8, 20} and all(_is_hex(part, 2) for part in parts):
            return True
    parts = text.split(".")
    return len(parts) in {3, 4, 10} and all(_is_hex(part, 4) for part in parts)


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and all(character in "0123456789abcdefABCDEF" for character in text)


def check_sysctl(text: str) -> None:
    """Refuses what is not a namespaced kernel parameter with a value."""
    name, separator, _ = text.partition("=")
    if not separator or not (name in SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        raise ValueRefused(f"sysctl '{text}' is not allowed")


# Ports


def parse_port_range(text: str) -> tuple[int, int]:
    """First and last port of `80` or `80-90`."""
    if not text:
        raise ValueRefused("empty string specified for ports")
    first, separator, last = text.partition("-")
    start = _parse_port(first)
    end = _parse_port(last) if separator else start
    if end < start:
        raise ValueRefused(f"invalid range specified for port: {text}")
    return start, end


def _parse_port(text: str) -> int:
    if not text.isdigit():
        raise ValueRefused(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    number = int(text)
    if number > 65535:
        raise ValueRefused(f'strconv.ParseUint: parsing "{text}": value out of range')
    return number


def split_protocol(text: str) -> tuple[str, str]:
    """Port and protocol of `80/udp`; tcp if none is named."""
    port, separator, protocol = text.partition("/")
    if not port:
        return "", ""
    return port, protocol if separator and protocol else "tcp"


def parse_publish(texts: Sequence[str]) -> tuple[dict[str, Json], dict[str, list[Json]]]:
    """ExposedPorts and PortBindings of the -p options."""
    exposed: dict[str, Json] = {}
    bindings: dict[str, list[Json]] = {}
    for text in texts:
        for port, host_ip, host_port in _expand_publish(_to_short_form(text)):
            exposed[port] = {}
            bindings.setdefault(port, []).append({"HostIp": host_ip, "HostPort": host_port})
    return exposed, bindings


def _to_short_form(text: str) -> str:
    if "=" not in text:
        return text
    fields = {"protocol": "tcp"}
    for field in text.split(","):
        name, separator, value = field.partition("=")
        if not separator or not name:
            raise ValueRefused(
                f"invalid publish opts format (should be name=value but got '{field}')"
            )
        fields[name] = value
    published, target = fields.get("published", ""), fields.get("target", "")
    return f"{published}:{target}/{fields['protocol']}"


def _expand_publish(text: str) -> list[tuple[str, str, str]]:
    rest, protocol = split_protocol(text)
    if not rest:
        raise ValueRefused("no port specified: <empty>")
    host_ip, host_port, container_port = _split_publish(rest)
    if host_ip.startswith("[") and not host_ip.endswith("]"):
        raise ValueRefused(
            f"invalid IP address {host_ip}: address {host_ip}:: missing ']' in address"
        )
    if host_ip and host_ip[0] == "[" and host_ip[-1:] == "]":
        host_ip = host_ip[1:-1]
    if host_ip and not is_ip_address(host_ip):
        raise ValueRefused(f"invalid IP address: {host_ip}")
    if not container_port:
        raise ValueRefused(f"no port specified: {text}<empty>")
    try:
        start, end = parse_port_range(container_port)
    except ValueRefused:
        raise ValueRefused(f"invalid containerPort: {container_port}") from None
    host_start, host_end = 0, 0
    if host_port:
        try:
            host_start, host_end = parse_port_range(host_port)
        except ValueRefused:
            raise ValueRefused(f"invalid hostPort: {host_port}") from None
    if host_port and end - start != host_end - host_start and end != start:
        # One container port may be published on any of several host ports.
        raise ValueRefused(
            f"invalid ranges specified for container and host Ports: {container_port} and {host_port}"
        )
    if protocol.lower() not in PROTOCOLS:
        raise ValueRefused(f"invalid proto: {protocol}")
    expanded = []
    for offset in range(end - start + 1):
        shown = ""
        if host_port:
            shown = str(host_start + offset)
            if start == end and host_end != host_start:
                shown = f"{host_start}-{host_end}"
        expanded.append((f"{start + offset}/{protocol.lower()}", host_ip, shown))
    return expanded


def _split_publish(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    if len(parts) == 1:
        return "", "", parts[0]
    if len(parts) == 2:
        return "", parts[0], parts[1]
    return ":".join(parts[:-2]), parts[-2], parts[-1]


def parse_expose(texts: Sequence[str]) -> dict[str, Json]:
    """ExposedPorts of the --expose options."""
    exposed: dict[str, Json] = {}
    for text in texts:
        if ":" in text:
            raise ValueRefused(f"invalid port format for --expose: {text}")
        port, protocol = split_protocol(text)
        try:
            start, end = parse_port_range(port)
        except ValueRefused as exc:
            raise ValueRefused(f"invalid range format for --expose: {text}, error: {exc}") from exc
        if protocol.lower() not in PROTOCOLS:
            raise ValueRefused(f"invalid proto: {protocol}")
        for number in range(start, end + 1):
            exposed[f"{number}/{protocol.lower()}"] = {}
    return exposed


# Volumes and mounts


def parse_volume(text: str) -> tuple[str, str]:
    """The bind to send (empty for an anonymous volume), and the target of an anonymous volume.

    The engine refuses what makes no sense; a relative source is relative to this process.
    """
    source, separator, rest = text.partition(":")
    if not separator or len(text) < 3:
        return "", text
    if source.startswith("."):
        source = os.path.abspath(source)
    return f"{source}:{rest}", ""


def parse_tmpfs(texts: Sequence[str]) -> dict[str, Json]:
    """Tmpfs of `/path[:options]`."""
    mounts: dict[str, Json] = {}
    for text in texts:
        path, _, options = text.partition(":")
        mounts[path] = options
    return mounts


def split_csv(text: str) -> list[str]:
    """The fields of one line of CSV with double quotes."""
    if '"' not in text:
        return text.split(",")
    fields = []
    field: list[str] = []
    quoted = False
    at = 0
    while at < len(text):
        character = text[at]
        if quoted:
            if character == '"' and text[at + 1 : at + 2] == '"':
                field.append('"')
                at += 1
            elif character == '"':
                quoted = False
            else:
                field.append(character)
        elif character == '"' and not field:
            quoted = True
        elif character == '"':
            raise ValueRefused(
                f'parse error on line 1, column {at + 1}: bare " in non-quoted-field'
            )
        elif character == ",":
            fields.append("".join(field))
            field = []
        else:
            field.append(character)
        at += 1
    if quoted:
        raise ValueRefused(
            f'parse error on line 1, column {len(text) + 1}: extraneous or missing " in quoted-field'
        )
    fields.append("".join(field))
    return fields


def parse_mount(text: str) -> Document:
    """A Mount of `type=bind,source=/a,target=/b,readonly`."""
    mount: Document = {"Type": "volume"}
    groups: dict[str, Document] = {
        "BindOptions": {},
        "VolumeOptions": {},
        "TmpfsOptions": {},
        "ImageOptions": {},
    }
    for field in split_csv(text):
        name, separator, value = field.partition("=")
        name = name.lower()
        if not separator:
            if name not in {"readonly", "ro", "volume-nocopy", "bind-nonrecursive"}:
                raise ValueRefused(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        _set_mount_field(mount, groups, name, value, field)
    kind = mount["Type"]
    if not kind:
        raise ValueRefused("type is required")
    if "Target" not in mount:
        raise ValueRefused("target is required")
    for group, owner in (
        ("VolumeOptions", "volume"),
        ("BindOptions", "bind"),
        ("TmpfsOptions", "tmpfs"),
        ("ImageOptions", "image"),
    ):
        if not groups[group]:
            continue
        if kind != owner:
            raise ValueRefused(f"cannot mix '{owner}-*' options with mount type '{kind}'")
        mount[group] = groups[group]
    return mount


def _set_mount_field(
    mount: Document, groups: dict[str, Document], name: str, value: str, field: str
) -> None:
    bind, volume, tmpfs = groups["BindOptions"], groups["VolumeOptions"], groups["TmpfsOptions"]
    if name == "type":
        mount["Type"] = value.lower()
    elif name in {"source", "src"}:
        source = value
        if source == "." or source.startswith(("./", "../")) or source == "..":
            source = os.path.abspath(source)
        mount["Source"] = source
    elif name in {"target", "dst", "destination"}:
        mount["Target"] = value
    elif name in {"readonly", "ro"}:
        mount["ReadOnly"] = _parse_mount_flag(name, value)
    elif name == "consistency":
        mount["Consistency"] = value.lower()
    elif name == "bind-propagation":
        bind["Propagation"] = value.lower()
    elif name == "bind-nonrecursive":
        bind["NonRecursive"] = _parse_mount_flag(name, value)
    elif name == "bind-recursive":
        _set_recursive(bind, value)
    elif name == "volume-subpath":
        volume["Subpath"] = value
    elif name == "volume-nocopy":
        volume["NoCopy"] = _parse_mount_flag(name, value)
    elif name == "volume-label":
        label, _, content = value.partition("=")
        labels = volume.setdefault("Labels", {})
        if isinstance(labels, dict):
            labels[label] = content
    elif name in {"volume-driver", "volume-opt"}:
        driver = volume.setdefault("DriverConfig", {})
        if isinstance(driver, dict):
            if name == "volume-driver":
                driver["Name"] = value
            else:
                option, _, content = value.partition("=")
                options = driver.setdefault("Options", {})
                if isinstance(options, dict):
                    options[option] = content
    elif name == "tmpfs-size":
        try:
            tmpfs["SizeBytes"] = parse_size(value)
        except ValueRefused:
            raise ValueRefused(f"invalid value for {name}: {value}") from None
    elif name == "tmpfs-mode":
        try:
            tmpfs["Mode"] = int(value, 8)
        except ValueError:
            raise ValueRefused(f"invalid value for {name}: {value}") from None
    elif name == "image-subpath":
        groups["ImageOptions"]["Subpath"] = value
    else:
        raise ValueRefused(f"unexpected key '{name}' in '{field}'")


def _set_recursive(bind: Document, value: str) -> None:
    if value == "enabled":
        return
    if value == "disabled":
        bind["NonRecursive"] = True
    elif value == "writable":
        bind["ReadOnlyNonRecursive"] = True
    elif value == "readonly":
        bind["ReadOnlyForceRecursive"] = True
    else:
        raise ValueRefused(
            f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        )


def _parse_mount_flag(name: str, value: str) -> bool:
    if value in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if value in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueRefused(f"invalid value for {name}: {value}")


# Devices


def parse_device(text: str) -> Document:
    """A device mapping of `/dev/a[:/dev/b][:rwm]`."""
    parts = text.split(":")
    host, target, permissions = parts[0], "", "rwm"
    if len(parts) == 3:
        target, permissions = parts[1], parts[2]
    elif len(parts) == 2:
        if _is_device_mode(parts[1]):
            permissions = parts[1]
        else:
            target = parts[1]
    elif len(parts) > 3:
        raise ValueRefused(f"invalid device specification: {text}")
    if not host.startswith("/"):
        if "/" in host and "=" in host:
            return {"PathOnHost": text, "PathInContainer": "", "CgroupPermissions": ""}
        raise ValueRefused(f"{host} is not an absolute path")
    if not _is_device_mode(permissions):
        raise ValueRefused(f"bad mode specified: {permissions}")
    target = target or host
    if not target.startswith("/"):
        raise ValueRefused(f"{target} is not an absolute path")
    return {"PathOnHost": host, "PathInContainer": target, "CgroupPermissions": permissions}


def is_cdi_device(text: str) -> bool:
    """True for a device of the Container Device Interface, `vendor.com/class=name`."""
    kind, separator, name = text.partition("=")
    return bool(separator and name) and not text.startswith("/") and "/" in kind


def _is_device_mode(text: str) -> bool:
    return bool(text) and all(text.count(c) == 1 and c in "rwm" for c in text)


def check_device_rule(text: str) -> None:
    """Refuses what is not `c 1:* rwm`."""
    refused = ValueRefused(f"invalid device cgroup format '{text}'")
    parts = text.split(" ")
    if len(parts) != 3 or parts[0] not in {"a", "b", "c"}:
        raise refused
    major, separator, minor = parts[1].partition(":")
    if not separator or any(part != "*" and not part.isdigit() for part in (major, minor)):
        raise refused
    if not 1 <= len(parts[2]) <= 3 or parts[2].strip("rwm"):
        raise refused


def parse_weight_device(text: str) -> Document:
    """A device and its weight, `/dev/sda:300`."""
    path, separator, weight = text.partition(":")
    if not separator:
        raise ValueRefused(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueRefused(f"bad format for device path: {text}")
    if not weight.isdigit() or (int(weight) > 0 and not 10 <= int(weight) <= 1000):
        raise ValueRefused(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(weight)}


def parse_rate_device(text: str) -> Document:
    """A device and its bytes a second, `/dev/sda:1mb`."""
    path, rate = _split_throttle(text)
    try:
        return {"Path": path, "Rate": parse_size(rate)}
    except ValueRefused:
        raise ValueRefused(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None


def parse_iops_device(text: str) -> Document:
    """A device and its operations a second, `/dev/sda:100`."""
    path, rate = _split_throttle(text)
    if not rate.isdigit():
        raise ValueRefused(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return {"Path": path, "Rate": int(rate)}


def _split_throttle(text: str) -> tuple[str, str]:
    path, separator, rate = text.partition(":")
    if not separator:
        raise ValueRefused(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueRefused(f"bad format for device path: {text}")
    return path, rate


def parse_gpus(text: str) -> Document:
    """A device request of `all`, `2`, `device=0,driver=nvidia`."""
    request: Document = {}
    capabilities: list[Json] = ["gpu"]
    seen: set[str] = set()
    fields = split_csv(text)
    for field in fields:
        name, separator, value = field.partition("=")
        if not separator:
            name, value = "count", field
        if name in seen:
            raise ValueRefused(f"gpu request key '{name}' can be specified only once")
        seen.add(name)
        if name == "driver":
            request["Driver"] = value
        elif name == "count":
            if value == "all":
                request["Count"] = -1
            else:
                try:
                    request["Count"] = int(value)
                except ValueError:
                    raise ValueRefused(
                        f'invalid count ({value}): value must be either "all" or an integer: invalid syntax'
                    ) from None
        elif name == "device":
            request["DeviceIDs"] = list(value.split(","))
        elif name == "capabilities":
            capabilities = [*value.split(","), "gpu"]
        elif name == "options":
            options: dict[str, Json] = dict(parse_pairs(split_csv(value)))
            request["Options"] = options
        else:
            raise ValueRefused(f"unexpected key '{name}' in '{field}'")
    if "Count" not in request and "DeviceIDs" not in request:
        request["Count"] = 1
    request.setdefault("Driver", "")
    request.setdefault("Count", 0)
    request.setdefault("DeviceIDs", None)
    request["Capabilities"] = [capabilities]
    request.setdefault("Options", {})
    return request


# Policies and options


def parse_restart(text: str) -> Document:
    """A RestartPolicy of `no`, `always`, `on-failure:3`."""
    if not text:
        return {"Name": "", "MaximumRetryCount": 0}
    name, separator, count = text.partition(":")
    if separator and not name:
        raise ValueRefused("invalid restart policy format: no policy provided before colon")
    retries = 0
    if count:
        try:
            retries = int(count)
        except ValueError:
            raise ValueRefused(
                "invalid restart policy format: maximum retry count must be an integer"
            ) from None
    return {"Name": name, "MaximumRetryCount": retries}


def parse_log_options(driver: str, texts: Sequence[str]) -> dict[str, Json]:
    """The Config of a log driver."""
    if driver == "none" and texts:
        raise ValueRefused("invalid logging opts for driver none")
    return dict(parse_pairs(texts))


def parse_storage_options(texts: Sequence[str]) -> dict[str, Json]:
    """StorageOpt of `size=10G`."""
    options: dict[str, Json] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueRefused("invalid storage option")
        options[name] = value
    return options


def parse_security_options(texts: Sequence[str]) -> tuple[list[str], bool]:
    """SecurityOpt with profiles read in, and whether systempaths=unconfined was among them."""
    options = []
    unconfined_paths = False
    for text in texts:
        if text == "systempaths=unconfined":
            unconfined_paths = True
            continue
        separator = "=" if "=" in text else ":"
        name, found, value = text.partition(separator)
        if not found:
            if name != "no-new-privileges":
                raise ValueRefused(f'Invalid --security-opt: "{text}"')
            options.append(text)
        elif name == "seccomp" and value not in {"unconfined", "builtin"}:
            options.append(f"seccomp={_read_profile(value)}")
        else:
            options.append(text)
    return options, unconfined_paths


def _read_profile(path: str) -> str:
    from wherry.client.document import MalformedDocument, decode, encode

    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as exc:
        reason = (exc.strerror or "").lower()
        raise ValueRefused(
            f"opening seccomp profile ({path}) failed: open {path}: {reason}"
        ) from exc
    try:
        return encode(decode(content))
    except MalformedDocument as exc:
        raise ValueRefused(f"compacting json for seccomp profile ({path}) failed: {exc}") from exc


def parse_capabilities(add: Sequence[str], drop: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both lists under the kernel's names; ALL swallows the others, adding wins over dropping."""
    added, dropped = ({_capability(text) for text in texts} for texts in (add, drop))
    if "ALL" in added:
        added = {"ALL"}
    if "ALL" in dropped:
        dropped = {"ALL"}
    return sorted(added), sorted(dropped - added)


def _capability(text: str) -> str:
    name = text.strip().upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def check_pull(text: str) -> None:
    """Refuses an unknown pull policy."""
    if text not in {"always", "missing", "never", ""}:
        raise ValueRefused(
            f'invalid pull option: \'{text}\': must be one of "always", "missing" or "never"'
        )


# Networks


class NetworkOption:
    """One --network: a name, and how to be on it."""

    __slots__ = (
        "aliases",
        "driver_options",
        "gateway_priority",
        "ip",
        "ip6",
        "link_local",
        "links",
        "mac",
        "name",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.aliases: list[str] = []
        self.links: list[str] = []
        self.link_local: list[str] = []
        self.driver_options: dict[str, Json] = {}
        self.ip = ""
        self.ip6 = ""
        self.mac = ""
        self.gateway_priority = 0


def parse_network(text: str) -> NetworkOption:
    """`name`, or `name=x,alias=y,ip=…`."""
    if "=" not in text:
        return NetworkOption(text)
    option = NetworkOption("")
    for field in split_csv(text):
        name, separator, value = field.partition("=")
        name = name.strip().lower()
        value = value.strip()
        if not separator or not name:
            raise ValueRefused("invalid field " + field)
        if name == "name":
            option.name = value
        elif name == "alias":
            option.aliases.append(value)
        elif name == "driver-opt":
            key, found, content = value.partition("=")
            if not found or not key:
                raise ValueRefused("invalid key value pair format in driver options")
            option.driver_options[key.strip().lower()] = content.strip()
        elif name == "ip":
            option.ip = value
        elif name == "ip6":
            option.ip6 = value
        elif name == "mac-address":
            option.mac = value
        elif name == "link-local-ip":
            option.link_local.append(value)
        elif name == "gw-priority":
            try:
                option.gateway_priority = int(value)
            except ValueError:
                raise ValueRefused(f"invalid gw-priority ({value}): invalid syntax") from None
        else:
            raise ValueRefused(f"invalid field key {name}")
    if not option.name:
        raise ValueRefused("network name/id is not specified")
    return option


def is_user_defined(network: str) -> bool:
    """True if a network's name is none of the built-in modes."""
    return network not in {"", "default", "bridge", "host", "none"} and not network.startswith(
        "container:"
    )
