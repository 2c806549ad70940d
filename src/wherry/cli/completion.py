"""Completion of command lines in bash and zsh: `wherry completion bash`, and what its script asks."""

from __future__ import annotations

import sys

from wherry.cli.command import UsageError, Verb
from wherry.cli.commands import ALIASES, COMMON, GROUPS, OTHERS
from wherry.client.client import Client
from wherry.client.document import strings_of, text_of
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.session import Session

BASH = """\
# Source this, or put it in /etc/bash_completion.d/wherry.
_wherry() {
    local IFS=$'\\n'
    COMPREPLY=($("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default
}
complete -F _wherry wherry
"""
ZSH = "autoload -Uz bashcompinit && bashcompinit\n" + BASH.replace(
    "    [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default\n", ""
)
RUNNING_ONLY = frozenset({"attach", "exec", "kill", "pause", "stop", "top", "stats", "unpause"})


def script(shell: str) -> str:
    """The script for a shell; raises UsageError."""
    scripts = {"bash": BASH, "zsh": ZSH}
    if shell not in scripts:
        raise UsageError("usage: wherry completion bash|zsh", usage=False, exit_code=1)
    return scripts[shell]


def complete(session: Session, words: list[str]) -> list[str]:
    """What the last word may become."""
    *before, last = words or [""]
    plain = [word for word in before if not word.startswith("-")]
    if not plain:
        return _begin(last, [*COMMON, *OTHERS, *GROUPS, "completion", "help"])
    name, rest = plain[0], plain[1:]
    module = ""
    if name in GROUPS:
        verbs = GROUPS[name][0]
        if not rest:
            return _begin(last, [*verbs, *ALIASES.get(name, {})])
        name = ALIASES.get(name, {}).get(rest[0], rest[0])
        module = verbs[name][0] if name in verbs else ""
        rest = rest[1:]
    elif name in COMMON or name in OTHERS:
        module = (COMMON.get(name) or OTHERS[name])[0]
    if not module:
        return []
    __import__(f"wherry.cli.{module}")
    verb = sys.modules[f"wherry.cli.{module}"].VERB
    if not isinstance(verb, Verb):
        return []
    if last.startswith("-"):
        return _begin(last, [f"--{option[0]}" for option in verb.options if option[4]])
    if rest and not verb.usage.endswith("...]"):
        return []
    if rest and not verb.interspersed:
        # The words after the image or container belong to the program.
        return []
    try:
        return _begin(last, _names(session, name, verb.usage))
    except ClientError:
        return []


def _begin(prefix: str, words: list[str]) -> list[str]:
    return sorted({word for word in words if word.startswith(prefix)})


def _names(session: Session, verb: str, usage: str) -> list[str]:
    noun = usage.removeprefix("[OPTIONS] ").lstrip("[").partition(" ")[0].partition("|")[0]
    # A client of its own: pressing a key must not start an engine.
    with Client(session.address) as client:
        if noun.startswith("CONTAINER"):
            containers = client.containers.list_all(all_=verb not in RUNNING_ONLY)
            names = [name for item in containers for name in strings_of(item, "Names")[:1]]
            return [name.removeprefix("/") for name in names]
        if noun.startswith(("IMAGE", "SOURCE_IMAGE", "REPOSITORY")) or verb in {"push", "inspect"}:
            images = client.images.list_all()
            return [tag for item in images for tag in strings_of(item, "RepoTags")]
        if noun.startswith("NETWORK"):
            return [text_of(item, "Name") for item in client.networks.list_all()]
        if noun.startswith("VOLUME"):
            return [text_of(item, "Name") for item in client.volumes.list_all()[0]]
    return []
