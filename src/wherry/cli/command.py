"""Verbs as tables of options, and the parser that reads argv by such a table.

Theory of operation: an option is a plain tuple, so that the table of a verb is one constant that is
loaded, not built. Semantics are pflag's, since people and scripts rely on them: `--flag=value`,
`--flag value`, clusters of short options whose last may take a value (`-itp8080`, `-p=8080`),
booleans only with `=`, `--` ends the options, and a verb with `interspersed=False` (run, exec)
leaves everything after its first argument alone. Sentences of errors are Docker's.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from wherry.cli.session import Session

    # name, short name, kind, default as the help shows it, help (hidden if empty)
    Option: TypeAlias = tuple[str, str, str, str, str]

MANY = frozenset(
    {"list", "map", "filter", "mount", "network", "ulimit", "strings", "stringArray", "gpu-request"}
)
TRUE_WORDS = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE_WORDS = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class UsageError(Exception):
    """The command line cannot be understood; `usage` asks for the usage lines after the sentence."""

    def __init__(self, sentence: str, *, usage: bool = True, exit_code: int = 125) -> None:
        super().__init__(sentence)
        self.usage = usage
        self.exit_code = exit_code


class HelpWanted(Exception):
    """--help was given."""

    def __init__(self, *, deprecated_short: bool = False) -> None:
        super().__init__("help")
        self.deprecated_short = deprecated_short


class ValueRefused(ValueError):
    """A value does not fit its option; the message says why, in Docker's words."""


class Arguments:
    """What the parser read: values by option name, and positional arguments."""

    __slots__ = ("_values", "changed", "positional")

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self.changed: set[str] = set()
        self.positional: list[str] = []

    def add(self, name: str, value: str, *, many: bool) -> None:
        """Takes a value for an option; without `many` the last one counts."""
        self.changed.add(name)
        if many:
            self._values.setdefault(name, []).append(value)
        else:
            self._values[name] = [value]

    def text(self, name: str, default: str = "") -> str:
        """The value of an option, or `default`."""
        values = self._values.get(name)
        return values[-1] if values else default

    def flag(self, name: str, *, default: bool = False) -> bool:
        """The truth of a boolean option."""
        values = self._values.get(name)
        return values[-1] in TRUE_WORDS if values else default

    def many(self, name: str) -> list[str]:
        """All values of an option that may be repeated."""
        return self._values.get(name, [])

    def number(self, name: str, default: int = 0) -> int:
        """The value of an integer option."""
        values = self._values.get(name)
        return parse_int(values[-1]) if values else default


class Verb:
    """A command: what it accepts and what it does.

    `checks` names, by option, the function of wherry.cli.flags that refuses bad values.
    """

    __slots__ = (
        "aliases",
        "checks",
        "description",
        "interspersed",
        "maximum",
        "minimum",
        "options",
        "run",
        "usage",
    )

    def __init__(
        self,
        run: Callable[[Session, Arguments], int],
        *,
        usage: str,
        description: str = "",
        options: Sequence[Option] = (),
        minimum: int = 0,
        maximum: int | None = None,
        aliases: str = "",
        interspersed: bool = True,
        checks: Mapping[str, str] | None = None,
    ) -> None:
        self.run = run
        self.usage = usage
        self.description = description
        self.options = options
        self.minimum = minimum
        self.maximum = maximum
        self.aliases = aliases
        self.interspersed = interspersed
        self.checks = checks or {}


def parse(verb: Verb, words: Sequence[str]) -> Arguments:
    """Reads the words after the verb's name; raises UsageError or HelpWanted."""
    long_options: dict[str, Option] = {}
    short_options: dict[str, Option] = {}
    for option in verb.options:
        long_options[option[0]] = option
        if option[1]:
            short_options[option[1]] = option
    arguments = Arguments()
    positional = arguments.positional
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word[:1] != "-" or word == "-":
            positional.append(word)
            if not verb.interspersed:
                positional.extend(words[at:])
                break
        elif word == "--":
            positional.extend(words[at:])
            break
        elif word[1] == "-":
            at = _parse_long(verb, arguments, long_options, word, words, at)
        else:
            at = _parse_short(verb, arguments, short_options, word, words, at)
    return arguments


def _parse_long(
    verb: Verb,
    arguments: Arguments,
    options: dict[str, Option],
    word: str,
    words: Sequence[str],
    at: int,
) -> int:
    name, separator, value = word[2:].partition("=")
    if not name or name[0] in "-=":
        raise UsageError(f"bad flag syntax: {word}")
    option = options.get(name)
    if name == "help":
        raise HelpWanted
    if option is None:
        raise UsageError(f"unknown flag: --{name}")
    if not separator:
        if option[2] == "bool":
            value = "true"
        elif at < len(words):
            value = words[at]
            at += 1
        else:
            raise UsageError(f"flag needs an argument: --{name}")
    _store(verb, arguments, option, value)
    return at


def _parse_short(
    verb: Verb,
    arguments: Arguments,
    options: dict[str, Option],
    word: str,
    words: Sequence[str],
    at: int,
) -> int:
    letters = word[1:]
    while letters:
        letter, rest = letters[0], letters[1:]
        option = options.get(letter)
        if option is None:
            if letter == "h":
                raise HelpWanted(deprecated_short=True)
            raise UsageError(f"unknown shorthand flag: '{letter}' in -{letters}")
        if rest[:1] == "=" and len(rest) > 1:
            _store(verb, arguments, option, rest[1:])
            return at
        if option[2] == "bool":
            _store(verb, arguments, option, "true")
            letters = rest
            continue
        if rest:
            _store(verb, arguments, option, rest)
        elif at < len(words):
            _store(verb, arguments, option, words[at])
            at += 1
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in -{letters}")
        return at
    return at


def _store(verb: Verb, arguments: Arguments, option: Option, value: str) -> None:
    name, short, kind, _, _ = option
    try:
        if kind == "bool":
            if value not in TRUE_WORDS and value not in FALSE_WORDS:
                raise ValueRefused(f'strconv.ParseBool: parsing "{value}": invalid syntax')
        elif kind in {"int", "uint", "uint16"}:
            parse_int(value, kind)
        check = verb.checks.get(name)
        if check is not None:
            # Named, not given: the grammars are imported only when an option that has one is used.
            from wherry.cli import flags

            getattr(flags, check)(value)
        elif kind == "filter":
            check_filter(value)
    except ValueRefused as exc:
        shown = f"-{short}, --{name}" if short else f"--{name}"
        from wherry.cli.gofmt import quote_go

        raise UsageError(f'invalid argument {quote_go(value)} for "{shown}" flag: {exc}') from exc
    if kind == "strings":
        for item in value.split(","):
            arguments.add(name, item, many=True)
    else:
        arguments.add(name, value, many=kind in MANY)


def check_filter(value: str) -> None:
    """Refuses a filter that is not name=value."""
    if value and "=" not in value:
        raise ValueRefused("bad format of filter (expected name=value)")


def parse_int(value: str, kind: str = "int") -> int:
    """An integer as Go's strconv reads it with base 0; raises ValueRefused."""
    call = "ParseInt" if kind == "int" else "ParseUint"
    bits = 16 if kind == "uint16" else 64
    try:
        number = int(value, 0) if value.strip() == value else None
    except ValueError:
        try:
            # Go takes a leading zero for octal, Python refuses it.
            number = int(value, 8) if value.lstrip("+-")[:1] == "0" else None
        except ValueError:
            number = None
    if number is None or (kind != "int" and value[:1] in "+-"):
        raise ValueRefused(f'strconv.{call}: parsing "{value}": invalid syntax')
    low, high = (-(1 << 63), (1 << 63) - 1) if kind == "int" else (0, (1 << bits) - 1)
    if not low <= number <= high:
        raise ValueRefused(f'strconv.{call}: parsing "{value}": value out of range')
    return number


def check_count(verb: Verb, path: str, count: int) -> None:
    """Refuses a wrong number of positional arguments with Docker's sentence."""
    minimum, maximum = verb.minimum, verb.maximum
    if count >= minimum and (maximum is None or count <= maximum):
        return
    see = "Run"
    if maximum == 0:
        what = "accepts no arguments"
    elif maximum is None:
        what = f"requires at least {minimum} argument{'s' if minimum != 1 else ''}"
        see = "See"
    elif minimum == maximum:
        what = f"requires {minimum} argument{'s' if minimum != 1 else ''}"
    elif minimum == 0:
        what = f"requires at most {maximum} argument{'s' if maximum != 1 else ''}"
    else:
        what = (
            f"requires at least {minimum} and at most {maximum} "
            f"argument{'s' if maximum != 1 else ''}"
        )
    raise UsageError(
        f"wherry: 'wherry {path}' {what}\n\nUsage:  wherry {path}{verb.usage and ' ' + verb.usage}"
        f"\n\n{see} 'wherry {path} --help' for more information",
        usage=False,
        exit_code=1,
    )
