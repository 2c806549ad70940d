"""The entry of `wherry`: global options, then one verb, then its exit code.

Only the verb that was asked for is imported; nothing here may import what a verb alone needs.
"""

from __future__ import annotations

import os
import sys

from wherry.cli.command import HelpWanted, UsageError, Verb, check_count, parse
from wherry.cli.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from wherry.cli.command import Arguments
else:
    import _signal

GLOBAL_OPTIONS = (
    ("config", "", "string", "", "Location of client config files"),
    ("context", "c", "string", "", "Accepted for Docker's sake; only default exists, use --host"),
    ("debug", "D", "bool", "", "Enable debug mode"),
    ("host", "H", "list", "", "Daemon socket to connect to"),
    (
        "log-level",
        "l",
        "string",
        '"info"',
        'Set the logging level ("debug", "info", "warn", "error", "fatal")',
    ),
    ("tls", "", "bool", "", "Use TLS; implied by --tlsverify"),
    ("tlscacert", "", "string", "", "Trust certs signed only by this CA"),
    ("tlscert", "", "string", "", "Path to TLS certificate file"),
    ("tlskey", "", "string", "", "Path to TLS key file"),
    ("tlsverify", "", "bool", "", "Use TLS and verify the remote"),
    ("version", "v", "bool", "", "Print version information and quit"),
)

LOG_LEVELS = frozenset({"debug", "info", "warn", "warning", "error", "fatal", "panic", "trace"})


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    _open_standard_descriptors()
    # Nothing is left to flush or to clean up; ending without it saves half a millisecond.
    os._exit(run(sys.argv[1:]))


def _open_standard_descriptors() -> None:
    """Where one of them was closed, the next connection would become it, and output go to the engine."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)


def run(words: list[str]) -> int:
    """Runs a command line and gives its exit code."""
    path = ""
    verb: Verb | None = None
    session = Session()
    try:
        if words and words[0][:1] == "-":
            words = _read_globals(session, words)
        if words and words[0] in {"completion", "__complete"}:
            return _complete(session, words)
        path, module, words = _find_verb(words)
        if not module:
            return 0
        # sys.modules after __import__ spares importlib.
        __import__(f"wherry.cli.{module}")
        verb = sys.modules[f"wherry.cli.{module}"].VERB
        if not isinstance(verb, Verb):
            raise TypeError(module)
        try:
            arguments = parse(verb, words)
        except HelpWanted as wanted:
            from wherry.cli.help import show_verb

            return show_verb(path, verb, wanted)
        check_count(verb, path, len(arguments.positional))
        return verb.run(session, arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _die_of_broken_pipe()
    except Exception as exc:  # noqa: BLE001 - the edge: everything becomes a message and an exit code
        from wherry.cli.errors import report

        return report(exc, path, verb)
    finally:
        session.close()


def _read_globals(session: Session, words: list[str]) -> list[str]:
    verb = Verb(
        _no_run,
        usage="[OPTIONS] COMMAND [ARG...]",
        options=GLOBAL_OPTIONS,
        interspersed=False,
    )
    try:
        arguments = parse(verb, words)
    except HelpWanted:
        return ["--help"]
    except UsageError as exc:
        raise UsageError(
            f"{exc}\n\nUsage:  wherry {verb.usage}\n\nRun 'wherry --help' for more information",
            usage=False,
        ) from exc
    if arguments.flag("version"):
        return ["--version"]
    level = arguments.text("log-level", "info")
    if level not in LOG_LEVELS:
        raise UsageError(f"Unable to parse logging level: {level}", usage=False, exit_code=1)
    context = arguments.text("context", "default")
    if context != "default":
        raise UsageError(
            f'context "{context}": context not found: name the engine with --host',
            usage=False,
            exit_code=1,
        )
    hosts = arguments.many("host")
    if len(hosts) > 1:
        raise UsageError("specify only one -H", usage=False, exit_code=1)
    session.host = hosts[0] if hosts else ""
    session.debug = arguments.flag("debug")
    session.tls = arguments.flag("tls")
    session.verify = arguments.flag("tlsverify", default=session.verify)
    session.ca = arguments.text("tlscacert")
    session.cert = arguments.text("tlscert")
    session.key = arguments.text("tlskey")
    session.config_dir = arguments.text("config", session.config_dir)
    return arguments.positional


def _find_verb(words: list[str]) -> tuple[str, str, list[str]]:
    """The path of the verb, its module, and the words after it; shows help itself."""
    from wherry.cli.commands import ALIASES, COMMON, GROUPS, OTHERS

    name = words[0] if words else ""
    if name in COMMON:
        return name, COMMON[name][0], words[1:]
    if name in OTHERS:
        return name, OTHERS[name][0], words[1:]
    if name == "--version":
        from wherry.cli.help import show_version

        show_version()
        return "", "", []
    if name == "help":
        words = words[1:]
        if not words:
            words = ["--help"]
        elif words[0] in GROUPS or words[0] in COMMON or words[0] in OTHERS:
            return _find_verb([*words, "--help"])
        else:
            raise UsageError(f"unknown help topic: {' '.join(words)}", usage=False, exit_code=1)
        name = words[0]
    if name in {"", "--help", "-h"}:
        from wherry.cli.help import show_program

        show_program(GLOBAL_OPTIONS)
        return "", "", []
    if name not in GROUPS:
        raise UsageError(
            f"wherry: unknown command: wherry {name}\n\nRun 'wherry --help' for more information",
            usage=False,
            exit_code=1,
        )
    verbs, summary = GROUPS[name]
    rest = words[1:]
    if not rest or rest[0] in {"--help", "-h"}:
        from wherry.cli.help import show_group

        show_group(name, summary, verbs, as_error=not rest)
        return "", "", []
    chosen = ALIASES.get(name, {}).get(rest[0], rest[0])
    if chosen not in verbs:
        if chosen.startswith("-"):
            raise UsageError(
                f"unknown flag: {chosen}\n\nUsage:  wherry {name} COMMAND\n\n"
                f"Run 'wherry {name} --help' for more information",
                usage=False,
            )
        raise UsageError(
            f"wherry: unknown command: wherry {name} {rest[0]}\n\nUsage:  wherry {name}\n\n"
            f"Run 'wherry {name} --help' for more information",
            usage=False,
            exit_code=1,
        )
    return f"{name} {chosen}", verbs[chosen][0], rest[1:]


def _complete(session: Session, words: list[str]) -> int:
    from wherry.cli.completion import complete, script
    from wherry.cli.output import write_out

    if words[0] == "completion":
        write_out(script(words[1] if len(words) > 1 else ""))
    else:
        write_out("".join(f"{word}\n" for word in complete(session, words[1:])))
    return 0


def _no_run(_session: Session, _arguments: Arguments) -> int:
    return 0


def _die_of_broken_pipe() -> int:
    """Ends as a program ends whose reader went away: by the signal, without a word."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    os.kill(os.getpid(), _signal.SIGPIPE)
    return 141
