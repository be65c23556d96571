"""Small pieces of ClickHouse's SQL text: quoting what we write, and taking apart what the server tells us."""

import re
from dataclasses import dataclass

from activities.core.faults import BadConfig

_OPENING, _CLOSING = "([", ")]"
_QUOTES = "'`\""
_CALL = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*")


def quote_identifier(name: str) -> str:
    """A name in backticks, with escapes.

    Raises:
        BadConfig: The name is empty or holds control characters, which no column or table of ours has.
    """
    if not name or not name.isprintable():
        raise BadConfig(f"{name!r} is no identifier: it is empty or holds characters that cannot be printed")
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def quote_text(text: str) -> str:
    r"""A string literal: only for texts of our own or of the server's types, never for what people send."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def unquote(text: str) -> str:
    """The value of a quoted literal or identifier; any other text as it is."""
    if len(text) < len("''") or text[0] not in _QUOTES or text[-1] != text[0]:
        return text
    return re.sub(r"\\(.)|(['`\"])\2", lambda match: match[1] or match[2], text[1:-1])


def skip_quoted(text: str, start: int) -> int:
    """The position after the quoted piece that begins at `start`; the text's end when it is never closed."""
    quote, position = text[start], start + 1
    while position < len(text):
        if text[position] == "\\":
            position += 2
        elif text[position] != quote:
            position += 1
        elif text[position + 1 : position + 2] == quote:
            position += 2
        else:
            return position + 1
    return len(text)


def split_list(text: str) -> tuple[str, ...]:
    """The items of a comma-separated list, brackets and quotes respected: `a, f(b, c)` is `a` and `f(b, c)`."""
    items, depth, begin, position = [], 0, 0, 0
    while position < len(text):
        sign = text[position]
        if sign in _QUOTES:
            position = skip_quoted(text, position)
            continue
        if sign in _OPENING:
            depth += 1
        elif sign in _CLOSING:
            depth -= 1
        elif sign == "," and depth == 0:
            items.append(text[begin:position].strip())
            begin = position + 1
        position += 1
    items.append(text[begin:].strip())
    return tuple(item for item in items if item)


@dataclass(frozen=True)
class Call:
    """`name(arguments…)` and what follows it; `arguments` is None when there were no brackets at all."""

    name: str
    arguments: tuple[str, ...] | None
    rest: str


def split_call(text: str) -> Call | None:
    """Take apart a text that starts with a name and perhaps bracketed arguments; None when it does not."""
    match = _CALL.match(text)
    if match is None:
        return None
    begin = match.end()
    if text[begin : begin + 1] != "(":
        return Call(match[1], None, text[begin:].strip())
    depth, position = 0, begin
    while position < len(text):
        if text[position] in _QUOTES:
            position = skip_quoted(text, position)
            continue
        depth += (text[position] in _OPENING) - (text[position] in _CLOSING)
        position += 1
        if depth == 0:
            return Call(match[1], split_list(text[begin + 1 : position - 1]), text[position:].strip())
    return None


def identifiers_in(expression: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The (column-like names, function names) of an expression, each once, in order of appearance."""
    names: dict[str, None] = {}
    functions: dict[str, None] = {}
    position = 0
    while position < len(expression):
        sign = expression[position]
        if sign in _QUOTES:
            end = skip_quoted(expression, position)
            if sign != "'":
                names[unquote(expression[position:end])] = None
        elif match := re.compile(r"[A-Za-z_][A-Za-z0-9_.]*").match(expression, position):
            end = match.end()
            target = functions if expression[end:].lstrip().startswith("(") else names
            target[match[0]] = None
        else:
            end = position + 1
        position = end
    return tuple(names), tuple(functions)
