"""ONBUILD instruction: what a build that starts from this image does first."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem
from wherry.build.instructions.base import (
    Instruction,
    make_source,
    parse_flags,
    require_arguments,
)
from wherry.build.parser import Node, split_command


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBuild(Instruction):
    """ONBUILD; `expression` is the text of the instruction, here-documents included."""

    expression: str


def parse(node: Node, escape: str) -> OnBuild:
    """Parses ONBUILD."""
    del escape
    rest = require_arguments(node)
    parse_flags(node)
    trigger = split_command(rest)[0].upper()
    if trigger == "ONBUILD":
        raise SyntaxProblem("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", rest)
    if trigger in {"MAINTAINER", "FROM"}:
        raise SyntaxProblem(f"{trigger} isn't allowed as an ONBUILD trigger", rest)
    expression = re.sub(r"^\s*ONBUILD\s*", "", node.original, flags=re.IGNORECASE)
    for heredoc in node.heredocs:
        expression += "\n" + heredoc.content + heredoc.name
    return OnBuild(source=make_source(node), expression=expression)
