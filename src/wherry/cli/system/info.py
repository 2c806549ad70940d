"""wherry info."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed, sentence_of
from wherry.cli.formats import INSPECT_FORMAT_HELP
from wherry.cli.gofmt import format_json, format_value
from wherry.cli.output import line_error, line_out, write_out
from wherry.cli.system.version import client_version
from wherry.cli.template import ParseError, Template, TemplateError
from wherry.cli.units import binary_size
from wherry.client.document import (
    documents_of,
    flag_of,
    list_of,
    mapping_of,
    number_of,
    strings_of,
    text_of,
)
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (("format", "f", "string", "", INSPECT_FORMAT_HELP),)


def run(session: Session, arguments: Arguments) -> int:
    """Shows what the engine is, has and counts."""
    layout = arguments.text("format")
    template = None
    if layout not in {"", "json"}:
        try:
            template = Template(layout)
        except ParseError as exc:
            raise CommandFailed(f"template parsing error: {exc}", 64) from exc
    client = {**client_version(), "Debug": session.debug, "Plugins": [], "Warnings": None}
    failure: ClientError | None = None
    info: Document = {}
    try:
        info = session.client.system.info()
    except ClientError as exc:
        failure = exc
    if layout:
        document: Document = {**info, "ClientInfo": client}
        if failure is not None:
            document["ServerErrors"] = [sentence_of(failure)]
            line_error(sentence_of(failure))
        if template is None:
            line_out(format_json(document))
            return 0
        try:
            line_out(template.execute(document))
        except TemplateError as exc:
            raise CommandFailed(str(exc)) from exc
        return 0
    write_out(
        f"Client:\n Version:    {text_of(client, 'Version')}\n Context:    default\n"
        f" Debug Mode: {format_value(session.debug)}\n\nServer:\n"
    )
    if failure is not None:
        raise failure
    write_out("\n".join(_lay_out(info)) + "\n\n")
    for warning in strings_of(info, "Warnings"):
        line_error(warning)
    return 0


def _lay_out(info: Document) -> list[str]:
    lines = [
        f" Containers: {number_of(info, 'Containers')}",
        f"  Running: {number_of(info, 'ContainersRunning')}",
        f"  Paused: {number_of(info, 'ContainersPaused')}",
        f"  Stopped: {number_of(info, 'ContainersStopped')}",
        f" Images: {number_of(info, 'Images')}",
    ]
    _add(lines, info, "Server Version", "ServerVersion")
    _add(lines, info, "Storage Driver", "Driver")
    lines += [
        f"  {pair[0]}: {pair[1]}"
        for pair in list_of(info, "DriverStatus")
        if isinstance(pair, list) and len(pair) == 2
    ]
    _add(lines, info, "Logging Driver", "LoggingDriver")
    _add(lines, info, "Cgroup Driver", "CgroupDriver")
    _add(lines, info, "Cgroup Version", "CgroupVersion")
    lines += _lay_out_plugins(info)
    lines += _lay_out_runtimes(info)
    _add(lines, info, "Kernel Version", "KernelVersion")
    _add(lines, info, "Operating System", "OperatingSystem")
    _add(lines, info, "OSType", "OSType")
    _add(lines, info, "Architecture", "Architecture")
    lines.append(f" CPUs: {number_of(info, 'NCPU')}")
    lines.append(f" Total Memory: {binary_size(number_of(info, 'MemTotal'))}")
    _add(lines, info, "Name", "Name")
    _add(lines, info, "ID", "ID")
    lines.append(f" Docker Root Dir: {text_of(info, 'DockerRootDir')}")
    lines.append(f" Debug Mode: {format_value(flag_of(info, 'Debug'))}")
    _add(lines, info, "HTTP Proxy", "HttpProxy")
    _add(lines, info, "HTTPS Proxy", "HttpsProxy")
    _add(lines, info, "No Proxy", "NoProxy")
    labels = strings_of(info, "Labels")
    if labels:
        lines.append(" Labels:")
        lines += [f"  {label}" for label in labels]
    lines.append(f" Experimental: {format_value(flag_of(info, 'ExperimentalBuild'))}")
    lines += _lay_out_registries(mapping_of(info, "RegistryConfig"))
    lines.append(f" Live Restore Enabled: {format_value(flag_of(info, 'LiveRestoreEnabled'))}")
    _add(lines, info, "Product License", "ProductLicense")
    pools = documents_of(info, "DefaultAddressPools")
    if pools:
        lines.append(" Default Address Pools:")
        lines += [
            f"   Base: {text_of(pool, 'Base')}, Size: {number_of(pool, 'Size')}" for pool in pools
        ]
    return lines


def _add(lines: list[str], info: Document, title: str, key: str) -> None:
    value = text_of(info, key)
    if value:
        lines.append(f" {title}: {value}")


def _lay_out_plugins(info: Document) -> list[str]:
    plugins = mapping_of(info, "Plugins")
    lines = [
        " Plugins:",
        f"  Volume: {' '.join(strings_of(plugins, 'Volume'))}",
        f"  Network: {' '.join(strings_of(plugins, 'Network'))}",
    ]
    if strings_of(plugins, "Authorization"):
        lines.append(f"  Authorization: {' '.join(strings_of(plugins, 'Authorization'))}")
    lines.append(f"  Log: {' '.join(strings_of(plugins, 'Log'))}")
    folders = strings_of(info, "CDISpecDirs")
    if folders:
        lines.append(" CDI spec directories:")
        lines += [f"  {folder}" for folder in folders]
    lines.append(f" Swarm: {text_of(mapping_of(info, 'Swarm'), 'LocalNodeState')}")
    return lines


def _lay_out_runtimes(info: Document) -> list[str]:
    lines = []
    runtimes = mapping_of(info, "Runtimes")
    if runtimes:
        lines.append(f" Runtimes: {' '.join(runtimes)}")
        lines.append(f" Default Runtime: {text_of(info, 'DefaultRuntime')}")
    if text_of(info, "OSType") == "linux":
        lines.append(f" Init Binary: {text_of(info, 'InitBinary')}")
        for title, key in (
            ("containerd", "ContainerdCommit"),
            ("runc", "RuncCommit"),
            ("init", "InitCommit"),
        ):
            lines.append(f" {title} version: {text_of(mapping_of(info, key), 'ID')}")
        lines += _lay_out_security(strings_of(info, "SecurityOptions"))
    return lines


def _lay_out_security(options: list[str]) -> list[str]:
    lines = [" Security Options:"] if options else []
    for option in options:
        pairs = [part.partition("=") for part in option.split(",")]
        lines += [f"  {value}" for key, _, value in pairs if key == "name"]
        lines += [f"   Profile: {value}" for key, _, value in pairs if key == "profile"]
    return lines


def _lay_out_registries(registries: Document) -> list[str]:
    lines = []
    insecure = [
        text_of(mapping_of(mapping_of(registries, "IndexConfigs"), name), "Name")
        for name in mapping_of(registries, "IndexConfigs")
        if not flag_of(mapping_of(mapping_of(registries, "IndexConfigs"), name), "Secure")
    ]
    ranges = strings_of(registries, "InsecureRegistryCIDRs")
    if ranges or mapping_of(registries, "IndexConfigs"):
        lines.append(" Insecure Registries:")
        lines += [f"  {name}" for name in insecure + ranges]
    mirrors = strings_of(registries, "Mirrors")
    if mirrors:
        lines.append(" Registry Mirrors:")
        lines += [f"  {mirror}" for mirror in mirrors]
    return lines


VERB = Verb(run, usage="[OPTIONS]", aliases="system info, info", options=OPTIONS, maximum=0)
