"""Go's text/template, as far as people use it in --format.

Theory of operation: `parse` turns text into a tree of small nodes, `Template.execute` walks it over
plain values (dict, list, str, int, float, bool, None) and over `Row` objects, whose fields are
computed. Supported: actions with pipelines, parentheses, variables, trimming, comments; if, else
if, with, range (with index, break, continue), else; all comparison and logic functions; Docker's own
functions. Sentences of errors are Go's, since scripts and people search for them. Not supported:
define, template, block, call.
"""

from __future__ import annotations

from wherry.cli.gofmt import format_json, format_value, go_printf, quote_go

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SPACES = " \t\r\n"


class TemplateError(Exception):
    """The template cannot be parsed, or does not fit the value."""


class ParseError(TemplateError):
    """The template cannot be parsed."""


class Row:
    """A value with computed fields; the type name appears in errors."""

    __slots__ = ()
    type_name = "*formatter.Context"

    def field(self, name: str, arguments: list[object]) -> object:
        """The field, or the result of the method; raises KeyError if there is none."""
        raise KeyError(name, arguments)

    def as_json(self) -> dict[str, object]:
        """All fields for the json function."""
        return {}


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Missing:
    """The value that Go prints as <no value>."""


MISSING = _Missing()


# kind, text and offset
Token = tuple[str, str, int]


def _lex(text: str) -> list[tuple[str, str, int]]:
    """Splits into ('text', …) and ('action', …) parts, with trimming applied."""
    parts: list[tuple[str, str, int]] = []
    at = 0
    trim_next = False
    while True:
        start = text.find("{{", at)
        piece = text[at:] if start < 0 else text[at:start]
        if trim_next:
            piece = piece.lstrip(SPACES)
        if start < 0:
            if piece:
                parts.append(("text", piece, at))
            return parts
        begin = start + 2
        if text[begin : begin + 1] == "-" and text[begin + 1 : begin + 2] in {
            " ",
            "\t",
            "\n",
            "\r",
        }:
            piece = piece.rstrip(SPACES)
            begin += 2
        if piece:
            parts.append(("text", piece, at))
        end, trim_next = _find_end(text, begin)
        inner = text[begin:end]
        at = text.index("}}", end) + 2
        if trim_next:
            inner = inner[: inner.rindex("-")] if inner.rstrip().endswith("-") else inner
        if not inner.strip().startswith("/*"):
            parts.append(("action", inner, begin))


def _find_end(text: str, at: int) -> tuple[int, bool]:
    """Where the action that starts at `at` ends, and whether it trims what follows."""
    begin = at
    while at < len(text):
        character = text[at]
        if text.startswith("/*", at) and not text[begin:at].strip():
            close = text.find("*/", at)
            if close < 0:
                raise ParseError(f"template: :{_line(text, begin)}: unclosed comment")
            at = close + 2
        elif character in "\"'":
            at = _skip_quoted(text, at, begin)
        elif character == "`":
            close = text.find("`", at + 1)
            if close < 0:
                raise ParseError(f"template: :{_line(text, begin)}: unterminated raw quoted string")
            at = close + 1
        elif text.startswith("}}", at):
            return at, text[max(begin, at - 2) : at] in {" -", "\t-", "\n-", "\r-"}
        elif text.startswith("{{", at):
            raise ParseError(f'template: :{_line(text, begin)}: unexpected "{{" in command')
        else:
            at += 1
    raise ParseError(f"template: :{_line(text, begin)}: unclosed action")


def _skip_quoted(text: str, at: int, begin: int) -> int:
    quote = text[at]
    at += 1
    while at < len(text) and text[at] != quote:
        if text[at] == "\n":
            break
        at += 2 if text[at] == "\\" else 1
    if at >= len(text) or text[at] == "\n":
        what = "quoted string" if quote == '"' else "character constant"
        raise ParseError(f"template: :{_line(text, begin)}: unterminated {what}")
    return at + 1


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _tokenize(action: str, offset: int, text: str) -> list[Token]:
    tokens: list[Token] = []
    at = 0
    while at < len(action):
        character = action[at]
        start = at
        if character in SPACES:
            while at < len(action) and action[at] in SPACES:
                at += 1
            tokens.append(("space", " ", offset + start))
            continue
        if character in "\"'":
            at = _skip_quoted(action, at, 0)
            kind = "string" if character == '"' else "char"
        elif character == "`":
            at = action.index("`", at + 1) + 1
            kind = "raw"
        elif character in "|(),=":
            at += 1
            kind = character
        elif character == ":" and action[at : at + 2] == ":=":
            at += 2
            kind = ":="
        elif character in ".$":
            at += 1
            while at < len(action) and (action[at].isalnum() or action[at] == "_"):
                at += 1
            if character == "$":
                kind = "variable"
            else:
                kind = "field" if at - start > 1 else "."
                if kind == "field" and action[start + 1].isdigit():
                    kind = "number"
        elif character.isdigit() or (character in "+-" and action[at + 1 : at + 2].isdigit()):
            at += 1
            while at < len(action) and (action[at].isalnum() or action[at] in "._"):
                at += 1
            kind = "number"
        elif character.isalpha() or character == "_":
            while at < len(action) and (action[at].isalnum() or action[at] == "_"):
                at += 1
            kind = "word"
        else:
            raise ParseError(
                f"template: :{_line(text, offset + at)}: unexpected {quote_go(character)} in command"
            )
        tokens.append((kind, action[start:at], offset + start))
    return tokens


def unquote(text: str) -> str:
    """The value of a Go string or character literal."""
    if text[0] == "`":
        return text[1:-1]
    simple = {
        "n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'",
        "a": "\a", "b": "\b", "f": "\f", "v": "\v",
    }  # fmt: skip
    body = text[1:-1]
    parts = []
    at = 0
    while at < len(body):
        if body[at] != "\\":
            parts.append(body[at])
            at += 1
            continue
        code = body[at + 1]
        if code in simple:
            parts.append(simple[code])
            at += 2
        elif code in "xuU":
            digits = {"x": 2, "u": 4, "U": 8}[code]
            parts.append(chr(int(body[at + 2 : at + 2 + digits], 16)))
            at += 2 + digits
        else:
            parts.append(chr(int(body[at + 1 : at + 4], 8)))
            at += 4
    return "".join(parts)


# Nodes


class _Node:
    __slots__ = ("offset", "shown")

    def __init__(self, offset: int, shown: str) -> None:
        self.offset = offset
        self.shown = shown


class _Literal(_Node):
    __slots__ = ("value",)

    def __init__(self, offset: int, shown: str, value: object) -> None:
        super().__init__(offset, shown)
        self.value = value


class _Dot(_Node):
    __slots__ = ()


class _Path(_Node):
    """Fields of dot, of a variable, or of a parenthesised pipeline."""

    __slots__ = ("base", "names")

    def __init__(self, offset: int, shown: str, base: _Node | None, names: list[str]) -> None:
        super().__init__(offset, shown)
        self.base = base
        self.names = names


class _Variable(_Node):
    __slots__ = ("name",)

    def __init__(self, offset: int, name: str) -> None:
        super().__init__(offset, name)
        self.name = name


class _Function(_Node):
    __slots__ = ("name",)

    def __init__(self, offset: int, name: str) -> None:
        super().__init__(offset, name)
        self.name = name


class _Pipeline(_Node):
    __slots__ = ("assign", "commands", "declared")

    def __init__(self, offset: int) -> None:
        super().__init__(offset, "")
        self.commands: list[list[_Node]] = []
        self.declared: list[str] = []
        self.assign = False


class _Text(_Node):
    __slots__ = ()


class _Action(_Node):
    __slots__ = ("pipeline",)

    def __init__(self, pipeline: _Pipeline) -> None:
        super().__init__(pipeline.offset, "")
        self.pipeline = pipeline


class _Branch(_Node):
    """if, with or range."""

    __slots__ = ("body", "kind", "otherwise", "pipeline")

    def __init__(self, kind: str, pipeline: _Pipeline) -> None:
        super().__init__(pipeline.offset, kind)
        self.kind = kind
        self.pipeline = pipeline
        self.body: list[_Node] = []
        self.otherwise: list[_Node] = []


class _Jump(_Node):
    """break or continue."""

    __slots__ = ()


class _Parser:
    def __init__(self, text: str, functions: Mapping[str, object]) -> None:
        self.text = text
        self.parts = _lex(text)
        self.functions = functions
        self.at = 0
        self.tokens: list[Token] = []
        self.token_at = 0
        self.scopes: list[set[str]] = [{"$"}]

    def fail(self, sentence: str, offset: int) -> ParseError:
        return ParseError(f"template: :{_line(self.text, offset)}: {sentence}")

    def parse_list(self, *, inside: str) -> tuple[list[_Node], str]:
        """The nodes up to an end or else; gives which of them ended the list."""
        nodes: list[_Node] = []
        while self.at < len(self.parts):
            kind, content, offset = self.parts[self.at]
            self.at += 1
            if kind == "text":
                nodes.append(_Text(offset, content))
                continue
            self.tokens = _tokenize(content, offset, self.text)
            self.token_at = 0
            word = self._peek_word()
            if word in {"end", "else"}:
                if not inside:
                    raise self.fail(f"unexpected {{{{{word}}}}}", offset)
                self._next()
                return nodes, word
            if word in {"if", "with", "range"}:
                self._next()
                nodes.append(self._parse_branch(word))
            elif word in {"break", "continue"}:
                self._next()
                nodes.append(_Jump(offset, word))
            else:
                if not self._has_tokens():
                    raise self.fail("missing value for command", offset)
                nodes.append(_Action(self._parse_pipeline(")", declares=True)))
                self._expect_done(offset)
        if inside:
            raise self.fail("unexpected EOF", len(self.text))
        return nodes, ""

    def _parse_branch(self, kind: str) -> _Branch:
        self.scopes.append(set())
        if not self._has_tokens():
            raise self.fail(f"missing value for {kind}", self.parts[self.at - 1][2])
        pipeline = self._parse_pipeline(")", declares=True)
        branch = _Branch(kind, pipeline)
        branch.body, ended = self.parse_list(inside=kind)
        if ended == "else":
            word = self._peek_word()
            if word in {"if", "with"}:
                self._next()
                branch.otherwise = [self._parse_branch(word)]
                self.scopes.pop()
                return branch
            branch.otherwise, ended = self.parse_list(inside=kind)
            if ended == "else":
                raise self.fail("expected end; found {{else}}", branch.offset)
        self.scopes.pop()
        return branch

    def _peek(self) -> Token | None:
        return self.tokens[self.token_at] if self.token_at < len(self.tokens) else None

    def _next(self) -> Token | None:
        token = self._peek()
        self.token_at += 1
        return token

    def _skip_space(self) -> None:
        token = self._peek()
        while token is not None and token[0] == "space":
            self.token_at += 1
            token = self._peek()

    def _has_tokens(self) -> bool:
        self._skip_space()
        return self._peek() is not None

    def _peek_word(self) -> str:
        self._skip_space()
        token = self._peek()
        return token[1] if token is not None and token[0] == "word" else ""

    def _expect_done(self, offset: int) -> None:
        self._skip_space()
        token = self._peek()
        if token is not None:
            raise self.fail(f"unexpected {quote_go(token[1])} in command", offset)

    def _parse_declaration(self, pipeline: _Pipeline) -> None:
        saved = self.token_at
        names = []
        while True:
            self._skip_space()
            token = self._peek()
            if token is None or token[0] != "variable":
                break
            names.append(token[1])
            self._next()
            self._skip_space()
            token = self._peek()
            if token is not None and token[0] == ",":
                self._next()
                continue
            if token is not None and token[0] in {":=", "="}:
                self._next()
                pipeline.declared = names
                pipeline.assign = token[0] == "="
                for name in names:
                    self.scopes[-1].add(name)
                return
            break
        self.token_at = saved

    def _parse_pipeline(self, closing: str, *, declares: bool) -> _Pipeline:
        self._skip_space()
        first = self._peek()
        pipeline = _Pipeline(first[2] if first is not None else 0)
        if declares:
            self._parse_declaration(pipeline)
        while True:
            command = self._parse_command(closing)
            if not command:
                raise self.fail("missing value for command", pipeline.offset)
            if pipeline.commands and isinstance(command[0], _Literal | _Dot):
                raise self.fail(
                    f"non executable command in pipeline stage {len(pipeline.commands) + 1}",
                    pipeline.offset,
                )
            pipeline.commands.append(command)
            token = self._peek()
            if token is None or token[0] != "|":
                return pipeline
            self._next()

    def _parse_command(self, closing: str) -> list[_Node]:
        operands: list[_Node] = []
        while True:
            self._skip_space()
            token = self._peek()
            if token is None or token[0] == "|" or token[0] == closing:
                return operands
            operands.append(self._parse_operand())

    def _parse_operand(self) -> _Node:
        token = self._next()
        if token is None:
            raise self.fail("unexpected EOF", len(self.text))
        kind, shown, offset = token
        base: _Node | None = None
        names: list[str] = []
        if kind == "field":
            names.append(shown[1:])
        elif kind == ".":
            base = _Dot(offset, ".")
        elif kind == "variable":
            if not any(shown in scope for scope in self.scopes):
                raise self.fail(f"undefined variable {quote_go(shown)}", offset)
            base = _Variable(offset, shown)
        elif kind == "(":
            base = self._parse_pipeline(")", declares=False)
            closing = self._next()
            if closing is None or closing[0] != ")":
                raise self.fail("unclosed left paren", offset)
            base.shown = f"({self.text[offset + 1 : closing[2]]})"
        elif kind in {"string", "raw"}:
            base = _Literal(offset, shown, unquote(shown))
        elif kind == "char":
            base = _Literal(offset, shown, ord(unquote(shown)))
        elif kind == "number":
            base = _Literal(offset, shown, self._parse_number(shown, offset))
        elif kind == "word":
            constants = {"true": True, "false": False, "nil": None}
            if shown in constants:
                base = _Literal(offset, shown, constants[shown])
            elif shown in self.functions:
                base = _Function(offset, shown)
            else:
                raise self.fail(f'function "{shown}" not defined', offset)
        else:
            raise self.fail(f"unexpected {quote_go(shown)} in operand", offset)
        follow = self._peek()
        first_follow = follow[2] if follow is not None else offset
        chained = False
        while follow is not None and follow[0] == "field":
            names.append(follow[1][1:])
            chained = True
            self._next()
            follow = self._peek()
        if base is not None and not names:
            return base
        prefix = base.shown if base is not None and not isinstance(base, _Dot) else ""
        shown = prefix + "".join(f".{name}" for name in names)
        return _Path(first_follow if chained else offset, shown, base, names)

    def _parse_number(self, text: str, offset: int) -> object:
        try:
            return int(text.replace("_", ""), 0)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            raise self.fail(f"bad number syntax: {quote_go(text)}", offset) from None


class Template:
    """A parsed template; `name` is what errors call it."""

    def __init__(
        self, text: str, functions: Mapping[str, object] | None = None, *, name: str = ""
    ) -> None:
        self._name = name
        self.text = text
        self._functions = functions or FUNCTIONS
        try:
            self._nodes, _ = _Parser(text, self._functions).parse_list(inside="")
        except ParseError as exc:
            raise ParseError(str(exc).replace("template: :", f"template: {name}:", 1)) from exc

    def execute(self, value: object) -> str:
        """The text for `value`; raises TemplateError."""
        out: list[str] = []
        self._walk(self._nodes, value, [{"$": value}], out)
        return "".join(out)

    def _fail(self, node: _Node, sentence: str) -> TemplateError:
        line_start = self.text.rfind("\n", 0, node.offset) + 1
        line = _line(self.text, node.offset)
        column = len(self.text[line_start : node.offset].encode())
        return TemplateError(
            f"template: {self._name}:{line}:{column}: "
            f'executing "{self._name}" at <{node.shown}>: {sentence}'
        )

    def _walk(
        self, nodes: list[_Node], dot: object, scopes: list[dict[str, object]], out: list[str]
    ) -> None:
        for node in nodes:
            if isinstance(node, _Text):
                out.append(node.shown)
            elif isinstance(node, _Action):
                value = self._evaluate(node.pipeline, dot, scopes)
                if not node.pipeline.declared:
                    out.append("<no value>" if value is MISSING else format_value(value))
            elif isinstance(node, _Branch):
                self._walk_branch(node, dot, scopes, out)
            elif isinstance(node, _Jump):
                raise _Break if node.shown == "break" else _Continue

    def _walk_branch(
        self, node: _Branch, dot: object, scopes: list[dict[str, object]], out: list[str]
    ) -> None:
        inner = [*scopes, {}]
        if node.kind == "range":
            self._walk_range(node, dot, inner, out)
            return
        value = self._evaluate(node.pipeline, dot, inner)
        if is_true(value):
            self._walk(node.body, value if node.kind == "with" else dot, inner, out)
        else:
            self._walk(node.otherwise, dot, inner, out)

    def _walk_range(
        self, node: _Branch, dot: object, scopes: list[dict[str, object]], out: list[str]
    ) -> None:
        declared, node.pipeline.declared = node.pipeline.declared, []
        try:
            value = self._evaluate(node.pipeline, dot, scopes)
        finally:
            node.pipeline.declared = declared
        items: list[tuple[object, object]]
        if isinstance(value, dict):
            items = sorted(value.items(), key=lambda item: str(item[0]))
        elif isinstance(value, list | tuple):
            items = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            items = [(number, number) for number in range(value)]
        elif value is None or value is MISSING:
            items = []
        else:
            raise self._fail(node.pipeline, f"range can't iterate over {format_value(value)}")
        if not items:
            self._walk(node.otherwise, dot, scopes, out)
            return
        for key, item in items:
            scope: dict[str, object] = {}
            if len(declared) == 1:
                scope[declared[0]] = item
            elif len(declared) == 2:
                scope[declared[0]] = key
                scope[declared[1]] = item
            try:
                self._walk(node.body, item, [*scopes, scope], out)
            except _Break:
                return
            except _Continue:
                continue

    def _evaluate(
        self, pipeline: _Pipeline, dot: object, scopes: list[dict[str, object]]
    ) -> object:
        value: object = MISSING
        piped = False
        for command in pipeline.commands:
            value = self._run_command(command, dot, scopes, [value] if piped else [])
            piped = True
        for name in pipeline.declared:
            if pipeline.assign:
                for scope in reversed(scopes):
                    if name in scope:
                        scope[name] = value
                        break
            else:
                scopes[-1][name] = value
        return value

    def _run_command(
        self,
        command: list[_Node],
        dot: object,
        scopes: list[dict[str, object]],
        piped: list[object],
    ) -> object:
        head = command[0]
        if isinstance(head, _Function):
            if head.name in {"and", "or"}:
                return self._run_logic(head.name, command[1:], dot, scopes, piped)
            arguments = [self._operand(node, dot, scopes) for node in command[1:]] + piped
            try:
                return _call(self._functions[head.name], arguments)
            except TemplateError as exc:
                shown = " ".join(node.shown for node in command)
                raise self._fail(
                    _Node(head.offset, shown), f"error calling {head.name}: {exc}"
                ) from exc
            except TypeError as exc:
                shown = " ".join(node.shown for node in command)
                raise self._fail(
                    _Node(head.offset, head.name),
                    f"wrong number or type of args for {head.name}: {exc}",
                ) from exc
        if isinstance(head, _Path):
            arguments = [self._operand(node, dot, scopes) for node in command[1:]] + piped
            return self._path(head, dot, scopes, arguments)
        if len(command) > 1 or piped:
            raise self._fail(head, f"can't give argument to non-function {head.shown}")
        return self._operand(head, dot, scopes)

    def _run_logic(
        self,
        name: str,
        operands: list[_Node],
        dot: object,
        scopes: list[dict[str, object]],
        piped: list[object],
    ) -> object:
        value: object = MISSING
        for node in operands:
            value = self._operand(node, dot, scopes)
            if is_true(value) == (name == "or"):
                return value
        for value in piped:
            if is_true(value) == (name == "or"):
                return value
        return value

    def _operand(self, node: _Node, dot: object, scopes: list[dict[str, object]]) -> object:
        if isinstance(node, _Literal):
            return node.value
        if isinstance(node, _Dot):
            return dot
        if isinstance(node, _Path):
            return self._path(node, dot, scopes, [])
        if isinstance(node, _Variable):
            for scope in reversed(scopes):
                if node.name in scope:
                    return scope[node.name]
        if isinstance(node, _Pipeline):
            return self._evaluate(node, dot, scopes)
        if isinstance(node, _Function):
            return self._run_command([node], dot, scopes, [])
        raise self._fail(node, "can't evaluate command")

    def _path(
        self,
        node: _Path,
        dot: object,
        scopes: list[dict[str, object]],
        arguments: list[object],
    ) -> object:
        value = dot if node.base is None else self._operand(node.base, dot, scopes)
        last = len(node.names) - 1
        for index, name in enumerate(node.names):
            value = self._field(node, value, name, arguments if index == last else [])
        return value

    def _field(self, node: _Path, value: object, name: str, arguments: list[object]) -> object:
        if isinstance(value, Row):
            try:
                return value.field(name, arguments)
            except KeyError:
                raise self._fail(
                    node, f"can't evaluate field {name} in type {value.type_name}"
                ) from None
        if isinstance(value, dict):
            if name in value:
                return value[name]
            return self._near_field(node, value, name)
        if value is None or value is MISSING:
            raise self._fail(node, f"nil data; no entry for key {quote_go(name)}")
        raise self._fail(node, f"can't evaluate field {name} in type interface {{}}")

    def _near_field(self, node: _Path, value: dict[str, object], name: str) -> object:
        """Go's own names of fields differ from JSON's in case: NanoCPUs, DNS."""
        lower = name.lower()
        for key, item in value.items():
            if key.lower() == lower:
                return item
        if name in OPTIONAL_FIELDS:
            return None
        raise self._fail(node, f"map has no entry for key {quote_go(name)}")


# Fields that the engine leaves out when they are empty; templates test them with if and with.
OPTIONAL_FIELDS = frozenset(
    {
        "Annotations", "ArgsEscaped", "DeviceRequests", "Health", "Healthcheck", "Init",
        "MacAddress", "Mounts", "NetworkDisabled", "Options", "Shell", "SizeRootFs", "StopSignal",
        "StopTimeout", "StorageOpt", "Sysctls", "Tmpfs", "UsageData", "Variant", "OnBuild",
        "ExposedPorts", "Volumes", "Labels", "Entrypoint", "Cmd", "Env",
    }
)  # fmt: skip


def is_true(value: object) -> bool:
    """Go's truth: not zero, not empty, not nil."""
    if isinstance(value, Row):
        return True
    return bool(value) and value is not MISSING


# Functions


def _call(function: object, arguments: list[object]) -> object:
    if not callable(function):
        raise TypeError("not a function")
    result: object = function(*arguments)
    return result


def _same(left: object, *rights: object) -> bool:
    if not rights:
        raise TemplateError("missing argument for comparison")
    for right in rights:
        if left is None or right is None:
            if left is right:
                return True
            continue
        kinds = {_kind(left), _kind(right)}
        if len(kinds) > 1 and kinds != {"int", "float"}:
            raise TemplateError("incompatible types for comparison")
        if left == right:
            return True
    return False


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else "other"


def _less(left: object, right: object) -> bool:
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left < right
    if isinstance(left, str) and isinstance(right, str):
        return left < right
    raise TemplateError("incompatible types for comparison")


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise TemplateError(f"value has type {_kind(key)}; should be string")
            value = value.get(key, MISSING)
            if value is MISSING:
                return ""
        elif isinstance(value, list | tuple | str):
            if not isinstance(key, int):
                raise TemplateError(f"cannot index slice/array with type {_kind(key)}")
            if not 0 <= key < len(value):
                raise TemplateError(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        elif value is None or value is MISSING:
            raise TemplateError("index of untyped nil")
        else:
            raise TemplateError(f"can't index item of type {_kind(value)}")
    return value


def _slice(value: object, *bounds: object) -> object:
    numbers = [bound for bound in bounds if isinstance(bound, int)]
    if not isinstance(value, list | str) or len(numbers) != len(bounds) or len(numbers) > 2:
        raise TemplateError("can't slice item")
    start = numbers[0] if numbers else 0
    stop = numbers[1] if len(numbers) > 1 else len(value)
    if not 0 <= start <= stop <= len(value):
        raise TemplateError(f"index out of range: {stop}")
    return value[start:stop]


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | tuple | dict):
        return len(value)
    if value is None:
        return 0
    raise TemplateError(f"len of type {_kind(value)}")


def _print(*values: object) -> str:
    parts: list[str] = []
    for at, value in enumerate(values):
        # Go separates operands of print only when neither is a string.
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            parts.append(" ")
        parts.append(format_value(value))
    return "".join(parts)


def _join(values: object, separator: str) -> str:
    if values is None:
        return ""
    if not isinstance(values, list | tuple):
        raise TemplateError("wrong type for value; expected []string")
    return separator.join(format_value(value) for value in values)


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TemplateError(f"wrong type for value; expected string; got {_kind(value)}")
    return value


def _html(*values: object) -> str:
    text = _print(*values)
    for character, escaped in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ('"', "&#34;"),
        ("'", "&#39;"),
    ):
        text = text.replace(character, escaped)
    return text


def _json(value: object) -> str:
    if isinstance(value, Row):
        # Rows pass through Go's Marshal, which escapes for HTML; other values do not.
        return format_json(value.as_json(), escape_html=True, sort=True)
    return format_json(value)


def _title(value: object) -> str:
    text = _text(value)
    return "".join(
        character.upper() if at == 0 or text[at - 1] in SPACES else character
        for at, character in enumerate(text)
    )


FUNCTIONS: dict[str, object] = {
    "and": lambda *values: values[-1],
    "or": lambda *values: values[-1],
    "not": lambda value: not is_true(value),
    "eq": _same,
    "ne": lambda left, right: not _same(left, right),
    "lt": _less,
    "le": lambda left, right: left == right or _less(left, right),
    "gt": lambda left, right: left != right and not _less(left, right),
    "ge": lambda left, right: not _less(left, right),
    "index": _index,
    "slice": _slice,
    "len": _length,
    "print": _print,
    "printf": go_printf,
    "println": lambda *values: " ".join(format_value(value) for value in values) + "\n",
    "html": _html,
    "urlquery": lambda *values: _quote_url(_print(*values)),
    "json": _json,
    "split": lambda text, separator: (
        _text(text).split(separator) if separator else list(_text(text))
    ),
    "join": _join,
    "title": _title,
    "lower": lambda text: _text(text).lower(),
    "upper": lambda text: _text(text).upper(),
    "pad": lambda text, before, after: (
        " " * before + _text(text) + " " * after if _text(text) else ""
    ),
    "truncate": lambda text, length: _text(text)[:length],
}


def _quote_url(text: str) -> str:
    from wherry.client.transport import quote

    return quote(text).replace("/", "%2F").replace(":", "%3A")
