"""RUN: a command in the image so far, with its mounts, network and security."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem, suggest
from wherry.build.instructions.base import (
    Command,
    Flag,
    Instruction,
    make_source,
    parse_command,
    parse_flags,
)
from wherry.build.instructions.run_mount import check_mount_text
from wherry.build.parser import Node
from wherry.build.words import quote_go

FLAGS = (Flag("mount", "list"), Flag("network"), Flag("security"), Flag("device", "list"))
NETWORKS = ("default", "none", "host")
SECURITY = ("sandbox", "insecure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """RUN; `mounts` are texts, since variables in them expand later."""

    command: Command
    mounts: tuple[str, ...] = ()
    network: str = ""
    security: str = ""


def parse(node: Node, escape: str) -> Run:
    """Parses RUN."""
    del escape
    flags = parse_flags(node, *FLAGS)
    mounts = flags.all("mount")
    for mount in mounts:
        check_mount_text(mount)
    network = flags.text("network")
    if network and network not in NETWORKS:
        raise SyntaxProblem(
            f"invalid network mode {quote_go(network)}" + suggest(network, NETWORKS), network
        )
    security = flags.text("security")
    if security and security not in SECURITY:
        raise SyntaxProblem(f"security {quote_go(security)} is not valid", security)
    if flags.all("device"):
        raise SyntaxProblem("RUN --device is not supported: this engine has no CDI", "--device")
    return Run(
        source=make_source(node),
        command=parse_command(node, node.rest),
        mounts=mounts,
        network=network,
        security=security,
    )
