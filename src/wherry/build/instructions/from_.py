"""FROM image [AS name]: the start of a stage."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem
from wherry.build.instructions.base import (
    Flag,
    Instruction,
    find_comment,
    make_source,
    parse_flags,
)
from wherry.build.parser import Node
from wherry.build.words import quote_go, split_fields

STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """FROM; `name` is lower case, `written_name` as written."""

    base: str
    name: str = ""
    written_name: str = ""
    as_keyword: str = ""
    platform: str = ""
    description: str = ""


def parse(node: Node, escape: str) -> From:
    """Parses FROM."""
    del escape
    words = split_fields(node.rest)
    written_name = as_keyword = ""
    if len(words) == 3 and words[1].lower() == "as":
        as_keyword, written_name = words[1], words[2]
        if STAGE_NAME.fullmatch(written_name.lower()) is None:
            raise SyntaxProblem(
                f"invalid name for build stage: {quote_go(written_name)},"
                " name can't start with a number or contain symbols",
                written_name,
            )
    elif len(words) != 1:
        raise SyntaxProblem("FROM requires either one or three arguments", node.rest)
    flags = parse_flags(node, Flag("platform"))
    return From(
        source=make_source(node),
        base=words[0],
        name=written_name.lower(),
        written_name=written_name,
        as_keyword=as_keyword,
        platform=flags.text("platform"),
        description=find_comment(node.comments, written_name.lower()),
    )
