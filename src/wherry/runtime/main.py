"""The command wherry-oci: global options, the command, and what its failure looks like.

As runc: the message goes to standard error, and to the file of --log in the format of --log-format, where
containerd and Podman look for it. The exit code is 1, or the container's own for `run` and `exec`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence

if __name__ == "__main__":
    # Run by path, with -I -S: nothing has put the package on the path.
    _ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if _ROOT not in sys.path:
        sys.path.insert(0, _ROOT)

from wherry import __version__
from wherry.lib.jsonvalue import JsonError
from wherry.runtime.errors import LaunchError, SpecError, StepError
from wherry.runtime.interpreter import ensure_protected
from wherry.runtime.oci.arguments import COMMANDS as OPTIONS
from wherry.runtime.oci.arguments import GLOBAL, Arguments, UsageError, parse_options
from wherry.runtime.oci.commands import COMMANDS, Settings, sentence
from wherry.runtime.oci.state import OCI_VERSION, RuntimeFailure

DEFAULT_ROOT = "/run/wherry-oci"
_LAUNCHING = frozenset({"create", "run", "exec"})
_USAGE = f"""usage: wherry-oci [global options] command [options] [arguments]

commands: {" ".join(OPTIONS)}

global options: --root DIR  --log FILE  --log-format text|json  --systemd-cgroup  --debug  --version
"""


def main() -> int:
    """The program."""
    return run_command(sys.argv[1:])


def run_command(words: Sequence[str]) -> int:
    """One command line; returns the exit code."""
    options = Arguments()
    try:
        options = parse_options(words, GLOBAL)
        if "version" in options.flags:
            sys.stdout.write(f"wherry-oci version {__version__}\nspec: {OCI_VERSION}\n")
            return 0
        if "help" in options.flags or not options.rest:
            sys.stdout.write(_USAGE)
            return 0
        name, *rest = options.rest
        if name not in OPTIONS:
            raise UsageError(f"no such command: {name}")
        if name in _LAUNCHING:
            ensure_protected(os.path.abspath(__file__), list(words))
        arguments = parse_options(rest, OPTIONS[name], name)
        settings = Settings(options.value("root", DEFAULT_ROOT), __version__)
        return COMMANDS[name](settings, arguments)
    except (
        JsonError,
        LaunchError,
        OSError,
        RuntimeFailure,
        SpecError,
        StepError,
        UsageError,
    ) as error:
        _report(options, sentence(error))
        return 1


def _report(options: Arguments, message: str) -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    path = options.value("log")
    if path:
        if options.value("log-format") == "json":
            line = json.dumps({"level": "error", "msg": message, "time": moment})
        else:
            line = f'time="{moment}" level=error msg={json.dumps(message)}'
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    sys.stderr.write(f"wherry-oci: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
