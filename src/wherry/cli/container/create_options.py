"""The options that run and create share, and the Engine API's body that they make.

The body is what Docker's client sends for the same command line, field for field, so that an engine
(and `inspect`) sees no difference.
"""

from __future__ import annotations

from wherry.cli.command import ValueRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.flags import NetworkOption
    from wherry.client.document import Document, Json

OPTIONS = (
    ("add-host", "", "list", "", "Add a custom host-to-IP mapping (host:ip)"),
    (
        "annotation",
        "",
        "map",
        "map[]",
        "Add an annotation to the container (passed through to the OCI runtime)",
    ),
    ("attach", "a", "list", "", "Attach to STDIN, STDOUT or STDERR"),
    (
        "blkio-weight",
        "",
        "uint16",
        "",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    ("blkio-weight-device", "", "list", "[]", "Block IO weight (relative device weight)"),
    ("cap-add", "", "list", "", "Add Linux capabilities"),
    ("cap-drop", "", "list", "", "Drop Linux capabilities"),
    ("cgroup-parent", "", "string", "", "Optional parent cgroup for the container"),
    (
        "cgroupns",
        "",
        "string",
        "",
        (
            "Cgroup namespace to use (host|private)\n"
            "'host':    Run the container in the Docker host's cgroup namespace\n"
            "'private': Run the container in its own private cgroup namespace\n"
            "'':        Use the cgroup namespace as configured by the\n"
            "           default-cgroupns-mode option on the daemon (default)"
        ),
    ),
    ("cidfile", "", "string", "", "Write the container ID to the file"),
    ("cpu-period", "", "int", "", "Limit CPU CFS (Completely Fair Scheduler) period"),
    ("cpu-quota", "", "int", "", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    ("cpu-rt-period", "", "int", "", "Limit CPU real-time period in microseconds"),
    ("cpu-rt-runtime", "", "int", "", "Limit CPU real-time runtime in microseconds"),
    ("cpu-shares", "c", "int", "", "CPU shares (relative weight)"),
    ("cpus", "", "decimal", "", "Number of CPUs"),
    ("cpuset-cpus", "", "string", "", "CPUs in which to allow execution (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "", "MEMs in which to allow execution (0-3, 0,1)"),
    ("device", "", "list", "", "Add a host device to the container"),
    ("device-cgroup-rule", "", "list", "", "Add a rule to the cgroup allowed devices list"),
    ("device-read-bps", "", "list", "[]", "Limit read rate (bytes per second) from a device"),
    ("device-read-iops", "", "list", "[]", "Limit read rate (IO per second) from a device"),
    ("device-write-bps", "", "list", "[]", "Limit write rate (bytes per second) to a device"),
    ("device-write-iops", "", "list", "[]", "Limit write rate (IO per second) to a device"),
    ("disable-content-trust", "", "bool", "true", "Skip image verification"),
    ("dns", "", "list", "", "Set custom DNS servers"),
    ("dns-option", "", "list", "", "Set DNS options"),
    ("dns-search", "", "list", "", "Set custom DNS search domains"),
    ("domainname", "", "string", "", "Container NIS domain name"),
    ("entrypoint", "", "string", "", "Overwrite the default ENTRYPOINT of the image"),
    ("env", "e", "list", "", "Set environment variables"),
    ("env-file", "", "list", "", "Read in a file of environment variables"),
    ("expose", "", "list", "", "Expose a port or a range of ports"),
    ("gpus", "", "gpu-request", "", "GPU devices to add to the container ('all' to pass all GPUs)"),
    ("group-add", "", "list", "", "Add additional groups to join"),
    ("health-cmd", "", "string", "", "Command to run to check health"),
    (
        "health-interval",
        "",
        "duration",
        "",
        "Time between running the check (ms|s|m|h) (default 0s)",
    ),
    ("health-retries", "", "int", "", "Consecutive failures needed to report unhealthy"),
    (
        "health-start-interval",
        "",
        "duration",
        "",
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    ),
    (
        "health-start-period",
        "",
        "duration",
        "",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
    ),
    (
        "health-timeout",
        "",
        "duration",
        "",
        "Maximum time to allow one check to run (ms|s|m|h) (default 0s)",
    ),
    ("help", "", "bool", "", "Print usage"),
    ("hostname", "h", "string", "", "Container host name"),
    (
        "init",
        "",
        "bool",
        "",
        "Run an init inside the container that forwards signals and reaps processes",
    ),
    ("interactive", "i", "bool", "", "Keep STDIN open even if not attached"),
    ("ip", "", "string", "", "IPv4 address (e.g., 172.30.100.104)"),
    ("ip6", "", "string", "", "IPv6 address (e.g., 2001:db8::33)"),
    ("ipc", "", "string", "", "IPC mode to use"),
    ("isolation", "", "string", "", "Container isolation technology"),
    ("kernel-memory", "", "bytes", "", "Kernel memory limit"),
    ("label", "l", "list", "", "Set meta data on a container"),
    ("label-file", "", "list", "", "Read in a line delimited file of labels"),
    ("link", "", "list", "", "Add link to another container"),
    ("link-local-ip", "", "list", "", "Container IPv4/IPv6 link-local addresses"),
    ("log-driver", "", "string", "", "Logging driver for the container"),
    ("log-opt", "", "list", "", "Log driver options"),
    ("mac-address", "", "string", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    ("memory", "m", "bytes", "", "Memory limit"),
    ("memory-reservation", "", "bytes", "", "Memory soft limit"),
    (
        "memory-swap",
        "",
        "bytes",
        "",
        "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    ),
    ("memory-swappiness", "", "int", "-1", "Tune container memory swappiness (0 to 100)"),
    ("mount", "", "mount", "", "Attach a filesystem mount to the container"),
    ("name", "", "string", "", "Assign a name to the container"),
    ("network", "", "network", "", "Connect a container to a network"),
    ("network-alias", "", "list", "", "Add network-scoped alias for the container"),
    ("no-healthcheck", "", "bool", "", "Disable any container-specified HEALTHCHECK"),
    ("oom-kill-disable", "", "bool", "", "Disable OOM Killer"),
    ("oom-score-adj", "", "int", "", "Tune host's OOM preferences (-1000 to 1000)"),
    ("pid", "", "string", "", "PID namespace to use"),
    ("pids-limit", "", "int", "", "Tune container pids limit (set -1 for unlimited)"),
    ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
    ("privileged", "", "bool", "", "Give extended privileges to this container"),
    ("publish", "p", "list", "", "Publish a container's port(s) to the host"),
    ("publish-all", "P", "bool", "", "Publish all exposed ports to random ports"),
    (
        "pull",
        "",
        "string",
        '"missing"',
        'Pull image before creating ("always", "missing", "never")',
    ),
    ("quiet", "q", "bool", "", "Suppress the pull output"),
    ("read-only", "", "bool", "", "Mount the container's root filesystem as read only"),
    ("restart", "", "string", '"no"', "Restart policy to apply when a container exits"),
    (
        "rm",
        "",
        "bool",
        "",
        "Automatically remove the container and its associated anonymous volumes when it exits",
    ),
    ("runtime", "", "string", "", "Runtime to use for this container"),
    ("security-opt", "", "list", "", "Security Options"),
    ("shm-size", "", "bytes", "", "Size of /dev/shm"),
    ("stop-signal", "", "string", "", "Signal to stop the container"),
    ("stop-timeout", "", "int", "", "Timeout (in seconds) to stop a container"),
    ("storage-opt", "", "list", "", "Storage driver options for the container"),
    ("sysctl", "", "map", "map[]", "Sysctl options"),
    ("tmpfs", "", "list", "", "Mount a tmpfs directory"),
    ("tty", "t", "bool", "", "Allocate a pseudo-TTY"),
    ("ulimit", "", "ulimit", "[]", "Ulimit options"),
    ("use-api-socket", "", "bool", "", "Bind mount Docker API socket and required auth"),
    ("user", "u", "string", "", "Username or UID (format: <name|uid>[:<group|gid>])"),
    ("userns", "", "string", "", "User namespace to use"),
    ("uts", "", "string", "", "UTS namespace to use"),
    ("volume", "v", "list", "", "Bind mount a volume"),
    ("volume-driver", "", "string", "", "Optional volume driver for the container"),
    ("volumes-from", "", "list", "", "Mount volumes from the specified container(s)"),
    ("workdir", "w", "string", "", "Working directory inside the container"),
)

HIDDEN = (
    ("dns-opt", "", "list", "", ""),
    ("net", "", "network", "", ""),
    ("net-alias", "", "list", "", ""),
    ("cpu-count", "", "int", "", ""),
    ("cpu-percent", "", "int", "", ""),
    ("io-maxbandwidth", "", "bytes", "", ""),
    ("io-maxiops", "", "uint", "", ""),
)

CHECKS = {
    "add-host": "parse_extra_host",
    "attach": "check_attach",
    "blkio-weight-device": "parse_weight_device",
    "cpus": "parse_nano_cpus",
    "device-cgroup-rule": "check_device_rule",
    "device-read-bps": "parse_rate_device",
    "device-read-iops": "parse_iops_device",
    "device-write-bps": "parse_rate_device",
    "device-write-iops": "parse_iops_device",
    "dns": "check_ip_address",
    "dns-search": "check_dns_search",
    "env": "complete_env",
    "gpus": "parse_gpus",
    "health-interval": "parse_duration_ns",
    "health-start-interval": "parse_duration_ns",
    "health-start-period": "parse_duration_ns",
    "health-timeout": "parse_duration_ns",
    "io-maxbandwidth": "parse_size",
    "kernel-memory": "parse_size",
    "label": "check_label",
    "link": "check_link",
    "memory": "parse_size",
    "memory-reservation": "parse_size",
    "memory-swap": "parse_swap_size",
    "mount": "parse_mount",
    "net": "parse_network",
    "network": "parse_network",
    "shm-size": "parse_size",
    "sysctl": "check_sysctl",
    "ulimit": "parse_ulimit",
}

HEALTH_DURATIONS = {
    "health-interval": "Interval",
    "health-timeout": "Timeout",
    "health-start-period": "StartPeriod",
    "health-start-interval": "StartInterval",
}


def build_body(arguments: Arguments, *, extra_env: tuple[str, ...] = ()) -> Document:
    """The body of POST /containers/create; raises ValueRefused.

    Values that their grammar must read are read only when their option was given.
    """
    changed = arguments.changed
    words = arguments.positional
    attached = {name.lower() for name in arguments.many("attach")}
    interactive = arguments.flag("interactive")
    attach_stdin = interactive or "stdin" in attached
    if "mac-address" in changed:
        _check_mac(arguments.text("mac-address"))
    swappiness = arguments.number("memory-swappiness", -1)
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise ValueRefused(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    if arguments.flag("use-api-socket"):
        raise ValueRefused(
            "--use-api-socket is not supported: bind mount the engine's socket with -v"
        )
    body: Document = {
        "Hostname": arguments.text("hostname"),
        "Domainname": arguments.text("domainname"),
        "User": arguments.text("user"),
        "AttachStdin": attach_stdin,
        "AttachStdout": not attached or "stdout" in attached,
        "AttachStderr": not attached or "stderr" in attached,
        "Tty": arguments.flag("tty"),
        "OpenStdin": interactive,
        "StdinOnce": interactive and attach_stdin,
        "Env": None,
        "Cmd": list(words[1:]) if len(words) > 1 else None,
        "Image": words[0],
        "Volumes": {},
        "WorkingDir": arguments.text("workdir"),
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": {},
    }
    host: Document = {
        "Binds": None,
        "ContainerIDFile": arguments.text("cidfile"),
        "LogConfig": {"Type": arguments.text("log-driver"), "Config": {}},
        "NetworkMode": "default",
        "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": arguments.flag("rm"),
        "VolumeDriver": arguments.text("volume-driver"),
        "VolumesFrom": _strings(arguments, "volumes-from"),
        "ConsoleSize": [0, 0],
        "CapAdd": None,
        "CapDrop": None,
        "CgroupnsMode": arguments.text("cgroupns"),
        "Dns": list(arguments.many("dns")),
        "DnsOptions": [*arguments.many("dns-option"), *arguments.many("dns-opt")],
        "DnsSearch": list(arguments.many("dns-search")),
        "ExtraHosts": None,
        "GroupAdd": _strings(arguments, "group-add"),
        "IpcMode": arguments.text("ipc"),
        "Cgroup": "",
        "Links": _strings(arguments, "link"),
        "OomScoreAdj": arguments.number("oom-score-adj"),
        "PidMode": arguments.text("pid"),
        "Privileged": arguments.flag("privileged"),
        "PublishAllPorts": arguments.flag("publish-all"),
        "ReadonlyRootfs": arguments.flag("read-only"),
        "SecurityOpt": None,
        "UTSMode": arguments.text("uts"),
        "UsernsMode": arguments.text("userns"),
        "ShmSize": 0,
        "Isolation": arguments.text("isolation"),
        "CpuShares": arguments.number("cpu-shares"),
        "Memory": 0,
        "NanoCpus": 0,
        "CgroupParent": arguments.text("cgroup-parent"),
        "BlkioWeight": arguments.number("blkio-weight"),
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuPeriod": arguments.number("cpu-period"),
        "CpuQuota": arguments.number("cpu-quota"),
        "CpuRealtimePeriod": arguments.number("cpu-rt-period"),
        "CpuRealtimeRuntime": arguments.number("cpu-rt-runtime"),
        "CpusetCpus": arguments.text("cpuset-cpus"),
        "CpusetMems": arguments.text("cpuset-mems"),
        "Devices": [],
        "DeviceCgroupRules": _strings(arguments, "device-cgroup-rule"),
        "DeviceRequests": None,
        "MemoryReservation": 0,
        "MemorySwap": 0,
        "MemorySwappiness": swappiness,
        "OomKillDisable": arguments.flag("oom-kill-disable"),
        "PidsLimit": arguments.number("pids-limit"),
        "Ulimits": [],
        "CpuCount": arguments.number("cpu-count"),
        "CpuPercent": arguments.number("cpu-percent"),
        "IOMaximumIOps": arguments.number("io-maxiops"),
        "IOMaximumBandwidth": 0,
        "MaskedPaths": None,
        "ReadonlyPaths": None,
    }
    body["HostConfig"] = host
    body["NetworkingConfig"] = {"EndpointsConfig": {}}
    _set_program(body, arguments, extra_env)
    _check_modes(arguments)
    if arguments.changed & _NEEDS_GRAMMAR:
        _set_grammatical(body, host, arguments)
    _set_health(body, arguments)
    if host["AutoRemove"] and _restart_name(host) not in {"", "no"}:
        raise ValueRefused("conflicting options: cannot specify both --restart and --rm")
    if "init" in changed:
        host["Init"] = arguments.flag("init")
    if "runtime" in changed:
        host["Runtime"] = arguments.text("runtime")
    return body


_NEEDS_GRAMMAR = frozenset(
    {
        "add-host", "annotation", "blkio-weight-device", "cap-add", "cap-drop", "cpus", "device", "device-read-bps",
        "device-read-iops", "device-write-bps", "device-write-iops", "expose", "gpus", "ip", "ip6",
        "io-maxbandwidth", "kernel-memory", "label", "label-file", "link", "link-local-ip",
        "log-opt", "mac-address", "memory", "memory-reservation", "memory-swap", "mount", "net",
        "net-alias", "network", "network-alias", "publish", "restart", "security-opt", "shm-size",
        "storage-opt", "sysctl", "tmpfs", "ulimit", "volume",
    }
)  # fmt: skip


def _set_program(body: Document, arguments: Arguments, extra_env: tuple[str, ...]) -> None:
    changed = arguments.changed
    if "entrypoint" in changed:
        # An empty entrypoint clears that of the image.
        body["Entrypoint"] = [arguments.text("entrypoint")]
    if "stop-signal" in changed:
        body["StopSignal"] = arguments.text("stop-signal")
    if "stop-timeout" in changed:
        body["StopTimeout"] = arguments.number("stop-timeout")
    variables: list[Json] = []
    if "env" in changed or "env-file" in changed:
        from wherry.cli.flags import complete_env, read_env_file

        for path in arguments.many("env-file"):
            variables += read_env_file(path)
        variables += [complete_env(variable) for variable in arguments.many("env")]
    variables += extra_env
    if variables:
        body["Env"] = variables


def _check_modes(arguments: Arguments) -> None:
    pid = arguments.text("pid")
    if pid not in {"", "host"} and not (pid.startswith("container:") and len(pid) > 10):
        raise ValueRefused("--pid: invalid PID mode")
    if arguments.text("uts") not in {"", "host"}:
        raise ValueRefused("--uts: invalid UTS mode")
    if arguments.text("userns") not in {"", "host"}:
        raise ValueRefused("--userns: invalid USER mode")
    if arguments.text("cgroupns") not in {"", "host", "private"}:
        raise ValueRefused("--cgroupns: invalid CGROUP mode")


def _set_grammatical(body: Document, host: Document, arguments: Arguments) -> None:
    from wherry.cli import flags

    changed = arguments.changed
    many = arguments.many
    if "volume" in changed:
        binds: list[Json] = []
        volumes: Document = {}
        for text in many("volume"):
            bind, target = flags.parse_volume(text)
            if bind:
                binds.append(bind)
            else:
                volumes[target] = {}
        host["Binds"] = binds or None
        body["Volumes"] = volumes
    if "mount" in changed:
        host["Mounts"] = [flags.parse_mount(text) for text in many("mount")]
    if "tmpfs" in changed:
        host["Tmpfs"] = flags.parse_tmpfs(many("tmpfs"))
    if "publish" in changed or "expose" in changed:
        exposed, bindings = flags.parse_publish(many("publish"))
        exposed.update(flags.parse_expose(many("expose")))
        body["ExposedPorts"] = exposed
        host["PortBindings"] = dict(bindings)
    if "device" in changed:
        _set_devices(host, many("device"))
    if "gpus" in changed:
        host["DeviceRequests"] = [
            *([] if host["DeviceRequests"] is None else _as_list(host["DeviceRequests"])),
            *(flags.parse_gpus(text) for text in many("gpus")),
        ]
    if "label" in changed or "label-file" in changed:
        labels: list[str] = []
        for path in many("label-file"):
            labels += flags.read_env_file(path, from_environment=False)
        body["Labels"] = dict(flags.parse_pairs([*labels, *many("label")]))
    if "cap-add" in changed or "cap-drop" in changed:
        add, drop = flags.parse_capabilities(many("cap-add"), many("cap-drop"))
        host["CapAdd"] = [*add] or None
        host["CapDrop"] = [*drop] or None
    if "annotation" in changed:
        host["Annotations"] = dict(flags.parse_pairs(many("annotation")))
    if "sysctl" in changed:
        host["Sysctls"] = dict(flags.parse_pairs(many("sysctl")))
    if "add-host" in changed:
        host["ExtraHosts"] = [flags.parse_extra_host(text) for text in many("add-host")]
    if "restart" in changed:
        host["RestartPolicy"] = flags.parse_restart(arguments.text("restart"))
    if "log-opt" in changed:
        driver = arguments.text("log-driver")
        host["LogConfig"] = {
            "Type": driver,
            "Config": flags.parse_log_options(driver, many("log-opt")),
        }
    if "storage-opt" in changed:
        host["StorageOpt"] = flags.parse_storage_options(many("storage-opt"))
    if "security-opt" in changed:
        options, unconfined_paths = flags.parse_security_options(many("security-opt"))
        host["SecurityOpt"] = [*options] or None
        if unconfined_paths:
            host["MaskedPaths"] = []
            host["ReadonlyPaths"] = []
    if "ulimit" in changed:
        limits = sorted(
            {item[0]: item for item in map(flags.parse_ulimit, many("ulimit"))}.values()
        )
        host["Ulimits"] = [
            {"Name": name, "Hard": hard, "Soft": soft} for name, soft, hard in limits
        ]
    _set_sizes(host, arguments)
    _set_networks(body, host, arguments)


def _set_sizes(host: Document, arguments: Arguments) -> None:
    from wherry.cli import flags

    changed = arguments.changed
    for option, member in (
        ("memory", "Memory"),
        ("memory-reservation", "MemoryReservation"),
        ("shm-size", "ShmSize"),
        ("io-maxbandwidth", "IOMaximumBandwidth"),
    ):
        if option in changed:
            host[member] = flags.parse_size(arguments.text(option))
    if "memory-swap" in changed:
        host["MemorySwap"] = flags.parse_swap_size(arguments.text("memory-swap"))
    if "cpus" in changed:
        host["NanoCpus"] = flags.parse_nano_cpus(arguments.text("cpus"))
    for option, member in (
        ("device-read-bps", "BlkioDeviceReadBps"),
        ("device-write-bps", "BlkioDeviceWriteBps"),
    ):
        host[member] = [flags.parse_rate_device(text) for text in arguments.many(option)]
    for option, member in (
        ("device-read-iops", "BlkioDeviceReadIOps"),
        ("device-write-iops", "BlkioDeviceWriteIOps"),
    ):
        host[member] = [flags.parse_iops_device(text) for text in arguments.many(option)]
    host["BlkioWeightDevice"] = [
        flags.parse_weight_device(text) for text in arguments.many("blkio-weight-device")
    ]


def _set_devices(host: Document, texts: list[str]) -> None:
    from wherry.cli import flags

    mappings: list[Json] = []
    cdi: list[Json] = []
    for text in texts:
        if flags.is_cdi_device(text):
            cdi.append(text)
        else:
            mappings.append(flags.parse_device(text))
    host["Devices"] = mappings
    if cdi:
        host["DeviceRequests"] = [
            {"Driver": "cdi", "Count": 0, "DeviceIDs": cdi, "Capabilities": None, "Options": None}
        ]


def _set_networks(body: Document, host: Document, arguments: Arguments) -> None:
    from wherry.cli import flags

    many = arguments.many
    given = [*many("network"), *many("net")]
    options = [flags.parse_network(text) for text in given] or [flags.NetworkOption("default")]
    host["NetworkMode"] = options[0].name
    _merge_plain_options(options[0], arguments)
    endpoints: Document = {}
    for option in options:
        endpoint = _build_endpoint(option)
        if option.name in endpoints:
            raise ValueRefused(f'network "{option.name}" is specified multiple times')
        if len(options) == 1 and not endpoint:
            continue
        endpoints[option.name] = endpoint
    user_defined = {flags.is_user_defined(option.name) for option in options}
    if len(user_defined) == 2:
        raise ValueRefused(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    body["NetworkingConfig"] = {"EndpointsConfig": endpoints}


def _merge_plain_options(first: NetworkOption, arguments: Arguments) -> None:
    """--network-alias, --ip and their like belong to the first network."""
    from wherry.cli import flags

    many, text = arguments.many, arguments.text
    aliases = [*many("network-alias"), *many("net-alias")]
    for given, option, plain in (
        (first.aliases, aliases, "--network-alias and per-network alias"),
        (first.links, many("link"), "--link and per-network links"),
        (first.ip, text("ip"), "--ip and per-network IPv4 address"),
        (first.ip6, text("ip6"), "--ip6 and per-network IPv6 address"),
        (first.mac, text("mac-address"), "--mac-address and per-network MAC address"),
        (
            first.link_local,
            many("link-local-ip"),
            "--link-local-ip and per-network link-local IP addresses",
        ),
    ):
        if given and option:
            raise ValueRefused(f"conflicting options: cannot specify both {plain}")
    first.aliases = first.aliases or aliases
    if flags.is_user_defined(first.name):
        first.links = first.links or list(many("link"))
    first.ip = first.ip or text("ip")
    first.ip6 = first.ip6 or text("ip6")
    first.mac = first.mac or text("mac-address")
    first.link_local = first.link_local or list(many("link-local-ip"))


def _build_endpoint(option: NetworkOption) -> Document:
    endpoint: Document = {}
    if option.aliases:
        endpoint["Aliases"] = [*option.aliases]
    if option.links:
        endpoint["Links"] = [*option.links]
    if option.driver_options:
        endpoint["DriverOpts"] = dict(option.driver_options)
    if option.mac:
        _check_mac(option.mac)
        endpoint["MacAddress"] = option.mac
    if option.gateway_priority:
        endpoint["GwPriority"] = option.gateway_priority
    if option.ip or option.ip6 or option.link_local:
        ipam: Document = {}
        if option.ip:
            ipam["IPv4Address"] = option.ip
        if option.ip6:
            ipam["IPv6Address"] = option.ip6
        if option.link_local:
            ipam["LinkLocalIPs"] = [*option.link_local]
        endpoint["IPAMConfig"] = ipam
    return endpoint


def _set_health(body: Document, arguments: Arguments) -> None:
    given = [name for name in arguments.changed if name.startswith("health-")]
    if arguments.flag("no-healthcheck"):
        if given:
            raise ValueRefused("--no-healthcheck conflicts with --health-* options")
        body["Healthcheck"] = {"Test": ["NONE"]}
        return
    if not given:
        return
    from wherry.cli.flags import parse_duration_ns

    health: Document = {}
    command = arguments.text("health-cmd")
    if command:
        health["Test"] = ["CMD-SHELL", command]
    for option, member in HEALTH_DURATIONS.items():
        duration = parse_duration_ns(arguments.text(option, "0"))
        if duration < 0:
            raise ValueRefused(f"--{option} cannot be negative")
        if duration:
            health[member] = duration
    retries = arguments.number("health-retries")
    if retries < 0:
        raise ValueRefused("--health-retries cannot be negative")
    if retries:
        health["Retries"] = retries
    if health:
        body["Healthcheck"] = health


def _check_mac(text: str) -> None:
    from wherry.cli.flags import is_mac_address

    if not is_mac_address(text.strip()):
        raise ValueRefused(f"{text} is not a valid mac address")


def _restart_name(host: Document) -> str:
    policy = host["RestartPolicy"]
    name = policy.get("Name") if isinstance(policy, dict) else ""
    return name if isinstance(name, str) else ""


def _strings(arguments: Arguments, option: str) -> Json:
    return [*arguments.many(option)] or None


def _as_list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
