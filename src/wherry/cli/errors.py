"""The one place that turns an exception into lines on standard error and an exit code.

125 is a command line that cannot be understood, or an engine that could not run; 126 and 127 a
program that cannot be executed or is not there; 128+n a signal; everything else is 1, or the code
that a verb chose itself.
"""

from __future__ import annotations

from wherry.cli.command import UsageError
from wherry.cli.output import line_error, write_error
from wherry.client.errors import ApiError, ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Verb

NOT_FOUND_PHRASES = (
    "executable file not found",
    "no such file or directory",
    "system cannot find the file specified",
)
NOT_EXECUTABLE_PHRASES = ("permission denied", "is a directory")


class CommandFailed(Exception):
    """A verb failed; the message is shown as it is, or nothing if it is empty."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RunFailed(CommandFailed):
    """run or create failed in the engine or before it; shown with the command's name and a hint."""

    def __init__(self, error: Exception, verb: str = "run", exit_code: int = 125) -> None:
        sentence = sentence_of(error)
        super().__init__(
            f"wherry: {sentence}\n\nRun 'wherry {verb} --help' for more information", exit_code
        )


class StartRefused(CommandFailed):
    """The engine could not start the program; the exit code tells why, as in a shell."""

    def __init__(self, error: Exception, verb: str = "run") -> None:
        sentence = sentence_of(error)
        super().__init__(
            f"wherry: {sentence}\n\nRun 'wherry {verb} --help' for more information",
            start_exit_code(sentence),
        )


def sentence_of(error: Exception) -> str:
    """What a person reads of an error."""
    if isinstance(error, ApiError):
        return f"Error response from daemon: {error.message}"
    if isinstance(error, OSError):
        return describe_os_error(error)
    return str(error)


def start_exit_code(sentence: str) -> int:
    """127, 126 or 125 for what the engine says about a program that did not start."""
    if any(phrase in sentence for phrase in NOT_FOUND_PHRASES):
        return 127
    if any(phrase in sentence for phrase in NOT_EXECUTABLE_PHRASES):
        return 126
    return 125


def describe_os_error(error: OSError, call: str = "open") -> str:
    """`open /x: no such file or directory`."""
    reason = (error.strerror or str(error)).lower()
    if error.filename is None:
        return reason
    return f"{call} {error.filename}: {reason}"


def report(error: Exception, path: str, verb: Verb | None) -> int:
    """Shows an error of the verb at `path` and gives its exit code."""
    if isinstance(error, UsageError):
        if not error.usage:
            line_error(str(error))
        else:
            usage = f" {verb.usage}" if verb is not None and verb.usage else ""
            prefix = f"wherry {path}".rstrip()
            line_error(
                f"{error}\n\nUsage:  {prefix}{usage}\n\nRun '{prefix} --help' for more information"
            )
        return error.exit_code
    if isinstance(error, CommandFailed):
        message = str(error)
        if message:
            line_error(message)
        return error.exit_code
    if isinstance(error, ClientError | OSError):
        line_error(sentence_of(error))
        return 1
    import traceback

    write_error("".join(traceback.format_exception(error)))
    line_error("wherry: this is a defect of wherry; please report the lines above")
    return 1
