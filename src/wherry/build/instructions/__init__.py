"""One typed record per instruction, and the table from keyword to its parser.

A new instruction is a record with a `parse` in a file here, and a row in `PARSERS`; what it does is a
row in `build/plan.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wherry.build.errors import SyntaxProblem, TextProblem, suggest
from wherry.build.instructions import (
    arg,
    command,
    copy,
    from_,
    healthcheck,
    onbuild,
    pairs,
    run,
    texts,
)
from wherry.build.instructions.base import Instruction
from wherry.build.parser import Dockerfile, Node

Parser = Callable[[Node, str], Instruction]

PARSERS: Mapping[str, Parser] = {
    "ADD": copy.parse_add,
    "ARG": arg.parse,
    "CMD": command.parse_cmd,
    "COPY": copy.parse_copy,
    "ENTRYPOINT": command.parse_entrypoint,
    "ENV": pairs.parse_env,
    "EXPOSE": texts.parse_expose,
    "FROM": from_.parse,
    "HEALTHCHECK": healthcheck.parse,
    "LABEL": pairs.parse_label,
    "MAINTAINER": texts.parse_maintainer,
    "ONBUILD": onbuild.parse,
    "RUN": run.parse,
    "SHELL": command.parse_shell,
    "STOPSIGNAL": texts.parse_stopsignal,
    "USER": texts.parse_user,
    "VOLUME": texts.parse_volume,
    "WORKDIR": texts.parse_workdir,
}


def parse_instruction(node: Node, dockerfile: Dockerfile) -> Instruction:
    """The node as its record. Raises DockerfileError with the place of the fault."""
    parser = PARSERS.get(node.keyword.upper())
    try:
        if parser is None:
            raise SyntaxProblem(
                f"unknown instruction: {node.keyword}" + suggest(node.keyword, PARSERS),
                node.keyword,
            )
        return parser(node, dockerfile.escape)
    except SyntaxProblem as problem:
        raise dockerfile.error(
            str(problem),
            node.start,
            node.end,
            problem.near,
            numbered=not isinstance(problem, TextProblem),
        ) from None
