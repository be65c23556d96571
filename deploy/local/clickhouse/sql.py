"""The little that the endpoint must know of a statement before the engine reads it.

ClickHouse's own parser lives in the engine and is not reachable before a statement runs. Four things are needed
earlier: whether there is a result to stream, where its FORMAT clause stands, where the data of an INSERT begins, and
what a KILL QUERY asks for. Tokens are enough for all of them; nothing here understands expressions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from deploy.local.clickhouse.faults import EngineError

_TOKEN = re.compile(
    rb"""(?P<blank>\s+|--[^\n]*|/\*.*?\*/|\#[!\s][^\n]*)
    |(?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<other>\d[\d.]*|.)""",
    re.DOTALL | re.VERBOSE,
)
_LOGGED_TABLES = re.compile(
    rb"""('(?:[^'\\]|\\.|'')*'|--[^\n]*|/\*.*?\*/)|\b[`"]?system[`"]?\s*\.\s*[`"]?(processes|query_log)\b[`"]?""",
    re.DOTALL,
)
# EXPLAIN is not among them: an INTO OUTFILE after it would belong to the query that it explains.
_READING = {b"SELECT", b"WITH", b"FROM", b"SHOW", b"DESCRIBE", b"DESC", b"EXISTS", b"CHECK", b"("}
_OPENING, _CLOSING = frozenset((b"(", b"[", b"{")), frozenset((b")", b"]", b"}"))
_WITHOUT_DATA = {b"SELECT", b"WITH", b"FROM", b"WATCH"}
MULTI_STATEMENT = "Syntax error (Multi-statements are not allowed): only one statement is served per request"


class Token(NamedTuple):
    """A word, string or sign outside comments; `depth` counts the brackets around it."""

    text: bytes
    start: int
    end: int
    depth: int
    is_word: bool

    def says(self, *words: bytes) -> bool:
        """Whether this is one of the upper-case `words`, at the top level."""
        return self.depth == 0 and self.text.upper() in words


@dataclass(frozen=True)
class InsertHead:
    """An INSERT that carries data: the statement without its FORMAT clause, the format, and where the data starts."""

    statement: bytes
    format: str
    data_start: int


@dataclass(frozen=True)
class Reading:
    """A statement with a result: what stands before FORMAT, the format ("" for the default), and what follows it."""

    body: bytes
    format: str
    tail: bytes

    def into(self, path: str) -> bytes:
        """The same statement with its result sent to the file `path`."""
        # A line break before it, since the statement may end in a comment; the views of the engine take it out again.
        output = f"\nINTO OUTFILE '{path}' APPEND ".encode()
        return self.body + output + (f"FORMAT {self.format}".encode() if self.format else b"") + self.tail


@dataclass(frozen=True)
class Kill:
    """A KILL QUERY: its condition, SYNC, ASYNC or TEST, and the output format ("" for the default)."""

    condition: bytes
    mode: str
    format: str


def tokens(text: bytes) -> Iterator[Token]:
    """The tokens of a statement, one at a time, so that a scan can stop where the data of an INSERT begins."""
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "blank":
            continue
        found = match.group()
        is_word = kind == "word"
        if is_word or kind == "string":
            yield Token(found, match.start(), match.end(), depth, is_word)
            continue
        depth -= found in _CLOSING
        yield Token(found, match.start(), match.end(), depth, is_word)
        depth += found in _OPENING


def first_word(text: bytes) -> bytes:
    """The statement's first token in upper case, empty when there is none."""
    return next((token.text.upper() for token in tokens(text)), b"")


def insert_head(text: bytes, *, complete: bool) -> InsertHead | None:
    """The head of an INSERT with data, or None when it has none (INSERT ... SELECT) or `text` is too short to tell."""
    awaiting_format = False
    start = 0
    for token in tokens(text):
        if token.end == len(text) and not complete:
            return None
        if awaiting_format:
            return InsertHead(text[:start], token.text.decode(), _data_start(text, token.end))
        if token.says(b"VALUES"):
            return InsertHead(text[: token.start], "Values", token.end)
        if token.says(*_WITHOUT_DATA):
            return None
        if token.says(b"FORMAT"):
            awaiting_format, start = True, token.start
    return None


def _data_start(text: bytes, position: int) -> int:
    """Where the data starts after a format's name: after the blanks and the first line break, if there is one."""
    match = re.compile(rb"[ \t]*(?:;[ \t]*)?(?:\r?\n)?").match(text, position)
    return match.end() if match else position


def reading(text: bytes) -> Reading | None:
    """The statement split around its FORMAT clause when it returns rows; None for DDL, SET, SYSTEM and the like.

    Raises:
        EngineError: no statement, or more than one (62).
    """
    parts = single_statement(text)
    if parts[0].text.upper() not in _READING or any(part.says(b"INSERT") for part in parts):
        return None
    end = parts[-1].end
    for here, following, after in zip(
        reversed(parts[:-1]), reversed(parts[1:]), [None, *reversed(parts[2:])], strict=True
    ):
        if not here.says(b"FORMAT") or not following.is_word or here is parts[0]:
            continue
        if after is None or after.says(b"SETTINGS"):
            return Reading(text[: here.start], following.text.decode(), text[following.end : end])
    return Reading(text[:end], "", b"")


def single_statement(text: bytes) -> list[Token]:
    """The tokens of the one statement in `text`, without closing semicolons.

    Raises:
        EngineError: no statement, or more than one (62).
    """
    parts = list(tokens(text))
    while parts and parts[-1].says(b";"):
        parts.pop()
    if any(part.says(b";") for part in parts):
        raise EngineError(62, f"{MULTI_STATEMENT}. (SYNTAX_ERROR)")
    if not parts:
        raise EngineError(62, "Syntax error: Empty query. (SYNTAX_ERROR)")
    return parts


def kill_query(text: bytes) -> Kill | None:
    """What a KILL QUERY asks for, or None for any other statement."""
    if first_word(text) != b"KILL":
        return None
    parts = single_statement(text)
    if len(parts) < 4 or not (parts[0].says(b"KILL") and parts[1].says(b"QUERY")):  # noqa: PLR2004 - KILL QUERY WHERE x
        return None
    where = next((i for i, part in enumerate(parts) if part.says(b"WHERE")), None)
    if where is None:
        return None
    rest, format_, mode = parts[where + 1 :], "", "ASYNC"
    if len(rest) > 2 and rest[-2].says(b"FORMAT"):  # noqa: PLR2004 - a condition, FORMAT and its name
        format_, rest = rest[-1].text.decode(), rest[:-2]
    if rest and rest[-1].says(b"SYNC", b"ASYNC", b"TEST"):
        mode, rest = rest[-1].text.upper().decode(), rest[:-1]
    return Kill(text[rest[0].start : rest[-1].end], mode, format_) if rest else None


def through_views(text: bytes) -> bytes:
    """The statement with system.processes and system.query_log replaced by the views that know HTTP query ids."""
    return _LOGGED_TABLES.sub(lambda m: m.group(1) or b"system.http_" + m.group(2).lower(), text)
