"""Values as Go's fmt and encoding/json print them: what --format shows."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.document import Json

ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f",
}  # fmt: skip


def format_value(value: object) -> str:
    """%v: `[a b]`, `map[k:v]`, `true`, `<nil>`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, list | tuple):
        return f"[{' '.join(format_value(item) for item in value)}]"
    if isinstance(value, dict):
        items = sorted(value.items())
        return (
            f"map[{' '.join(f'{format_value(key)}:{format_value(item)}' for key, item in items)}]"
        )
    as_json = getattr(value, "as_json", None)
    if as_json is not None:
        return format_value(as_json())
    return str(value)


def _format_float(value: float) -> str:
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def quote_go(text: str) -> str:
    """%q of a string."""
    parts = ['"']
    for character in text:
        if character in ESCAPES and character not in "\b\f":
            parts.append(ESCAPES[character])
        elif character.isprintable():
            parts.append(character)
        elif ord(character) < 128:
            parts.append(f"\\x{ord(character):02x}")
        else:
            parts.append(f"\\u{ord(character):04x}")
    parts.append('"')
    return "".join(parts)


def format_json(value: object, *, escape_html: bool = False, sort: bool = False) -> str:
    """Compact JSON as Go's encoder writes it."""
    if isinstance(value, str):
        return _json_text(value, escape_html=escape_html)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, list | tuple):
        inner = ",".join(format_json(item, escape_html=escape_html) for item in value)
        return f"[{inner}]"
    if isinstance(value, dict):
        items = sorted(value.items()) if sort else value.items()
        inner = ",".join(
            f"{_json_text(str(key), escape_html=escape_html)}:"
            f"{format_json(item, escape_html=escape_html)}"
            for key, item in items
        )
        return f"{{{inner}}}"
    as_json = getattr(value, "as_json", None)
    if as_json is not None:
        return format_json(as_json(), escape_html=True, sort=True)
    return _json_text(str(value), escape_html=escape_html)


def indent_json(value: Json, indent: str = "    ", level: int = 0) -> str:
    """JSON on many lines as Go's Indent writes it (empty containers stay on one)."""
    if isinstance(value, dict):
        if not value:
            return "{}"
        inside = ",\n".join(
            f"{indent * (level + 1)}{_json_text(key)}: {indent_json(item, indent, level + 1)}"
            for key, item in value.items()
        )
        return f"{{\n{inside}\n{indent * level}}}"
    if isinstance(value, list):
        if not value:
            return "[]"
        inside = ",\n".join(
            f"{indent * (level + 1)}{indent_json(item, indent, level + 1)}" for item in value
        )
        return f"[\n{inside}\n{indent * level}]"
    return format_json(value)


def _json_text(text: str, *, escape_html: bool = False) -> str:
    plain = text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
    if plain and not (escape_html and ("<" in text or ">" in text or "&" in text)):
        return f'"{text}"'
    parts = ['"']
    for character in text:
        code = ord(character)
        if character in ESCAPES:
            parts.append(ESCAPES[character])
        elif code < 32 or code in {0x2028, 0x2029} or (escape_html and character in "<>&"):
            parts.append(f"\\u{code:04x}")
        elif 0xD800 <= code <= 0xDFFF:
            parts.append("\\ufffd")
        else:
            parts.append(character)
    parts.append('"')
    return "".join(parts)


def go_printf(layout: str, *values: object) -> str:
    """fmt.Sprintf for the verbs that make sense in a template."""
    parts: list[str] = []
    at = 0
    used = 0
    while at < len(layout):
        percent = layout.find("%", at)
        if percent < 0:
            parts.append(layout[at:])
            break
        parts.append(layout[at:percent])
        at = percent + 1
        start = at
        while at < len(layout) and layout[at] in "+-# 0123456789.":
            at += 1
        if at >= len(layout):
            parts.append("%!(NOVERB)")
            break
        options, verb = layout[start:at], layout[at]
        at += 1
        if verb == "%":
            parts.append("%")
            continue
        if used >= len(values):
            parts.append(f"%!{verb}(MISSING)")
            continue
        parts.append(_format_verb(options, verb, values[used]))
        used += 1
    if used < len(values):
        extra = ", ".join(f"{_type_name(value)}={format_value(value)}" for value in values[used:])
        parts.append(f"%!(EXTRA {extra})")
    return "".join(parts)


def _format_verb(options: str, verb: str, value: object) -> str:
    flags = options[: len(options) - len(options.lstrip("+-# 0"))]
    width, _, precision = options[len(flags) :].partition(".")
    has_precision = "." in options
    text = None
    if verb == "v" or (verb == "s" and not isinstance(value, int | float)):
        text = format_value(value)
        if has_precision and verb == "s":
            text = text[: int(precision or 0)]
    elif verb == "q" and isinstance(value, str):
        text = quote_go(value)
    elif verb == "t" and isinstance(value, bool):
        text = format_value(value)
    elif verb in "dbxXoc" and isinstance(value, int) and not isinstance(value, bool):
        text = chr(value) if verb == "c" else format(value, verb)
        if "+" in flags and value >= 0:
            text = f"+{text}"
    elif verb in "xX" and isinstance(value, str):
        text = value.encode().hex()
        text = text.upper() if verb == "X" else text
    elif verb in "feEgG" and isinstance(value, float):
        text = format(value, f".{int(precision or 0) if has_precision else 6}{verb}")
    if text is None:
        return f"%!{verb}({_type_name(value)}={format_value(value)})"
    if not width:
        return text
    if "-" in flags:
        return text.ljust(int(width))
    if "0" in flags and verb not in "svq":
        return text.zfill(int(width))
    return text.rjust(int(width))


def _type_name(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    return "interface {}"
