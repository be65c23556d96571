"""What PostgreSQL's catalogue says of the tables of a source: their columns, types, keys and replica identities."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import errors, sql

from activities.core.faults import BadRequest
from activities.core.names import near
from activities.core.sourcetables import SourceTable, parse_table

_ELEMENT: LiteralString = """
    CASE WHEN t.typtype = 'b' AND t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
"""
_KIND: LiteralString = """
    CASE e.typtype WHEN 'c' THEN 'composite' WHEN 'd' THEN 'domain' WHEN 'e' THEN 'enum' WHEN 'm' THEN 'multirange'
        WHEN 'p' THEN 'pseudo' WHEN 'r' THEN 'range' END
"""
_BASE: LiteralString = """
    (
        WITH RECURSIVE below (id, modifier) AS (
            SELECT e.typbasetype, e.typtypmod WHERE e.typtype = 'd'
            UNION ALL
            SELECT d.typbasetype, CASE WHEN b.modifier >= 0 THEN b.modifier ELSE d.typtypmod END
            FROM below b JOIN pg_catalog.pg_type d ON d.oid = b.id WHERE d.typtype = 'd'
        )
        SELECT pg_catalog.format_type(b.id, b.modifier)
        FROM below b JOIN pg_catalog.pg_type d ON d.oid = b.id WHERE d.typtype <> 'd'
    )
"""
_DESCRIPTION: LiteralString = """
    SELECT jsonb_build_object(
        'schema', n.nspname, 'table', c.relname, 'relid', c.oid::bigint,
        'columns', coalesce((
            SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                'name', a.attname,
                'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
                'id', (c.oid::bigint << 16) + a.attnum,
                'kind', {kind},
                'base', {base}
            )) ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
            JOIN pg_catalog.pg_type e ON e.oid = {element}
            WHERE a.attrelid = c.oid AND a.attnum = ANY (p.published)
        ), '[]'),
        'types', coalesce((
            SELECT jsonb_agg(jsonb_build_array(a.atttypid::bigint, a.atttypmod) ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (p.published)
        ), '[]'),
        'key', coalesce((
            SELECT CASE WHEN bool_and(a.attnum = ANY (p.published)) THEN jsonb_agg(a.attname ORDER BY k.place) END
            FROM pg_catalog.pg_index i
            CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (attnum, place)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
            WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate AND k.place <= i.indnkeyatts
                AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
        ), '[]')
    )
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
        SELECT array_agg(a.attnum) AS published FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (
            a.attgenerated = '' OR (a.attgenerated = 's' AND current_setting('server_version_num')::int >= 180000)
        )
    ) p
    WHERE c.oid = {relation}
"""
_TEXTS: LiteralString = """
    SELECT coalesce(pg_catalog.format_type(o.id, o.modifier), '???'), coalesce({kind}, 'base'), coalesce({base}, '')
    FROM unnest(%s::oid[], %s::int[]) WITH ORDINALITY o (id, modifier, place)
    LEFT JOIN pg_catalog.pg_type t ON t.oid = o.id
    LEFT JOIN pg_catalog.pg_type e ON e.oid = {element}
    ORDER BY o.place
"""
_PARTS = {"kind": sql.SQL(_KIND), "base": sql.SQL(_BASE), "element": sql.SQL(_ELEMENT)}
FACTS: LiteralString = """
    SELECT c.oid::bigint, c.relkind::text,
        CASE c.relreplident WHEN 'd' THEN 'default' WHEN 'i' THEN 'index' WHEN 'f' THEN 'full' ELSE 'nothing' END,
        c.relpersistence::text,
        EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate),
        coalesce((
            SELECT bool_or(a.attgenerated = 's') FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
        ), false),
        coalesce((
            SELECT bool_or(a.attgenerated = 'v') FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
        ), false),
        c.relispartition
    FROM pg_catalog.pg_class c WHERE c.oid = %s
"""


@dataclass(frozen=True)
class TableFacts:
    """What matters of a table besides its columns."""

    relid: int
    kind: str
    """`relkind`: `r` a table, `p` a partitioned one, `v` a view …"""
    identity: str
    """`default`, `index`, `full` or `nothing`: what is logged of old rows."""
    persistence: str
    """`p` permanent, `u` unlogged, `t` temporary."""
    has_key: bool
    """Whether it has a primary key by which rows can be told."""
    stored: bool
    """Whether PostgreSQL computes and stores a column of it."""
    computed: bool
    """Whether PostgreSQL computes a column whenever it is read."""
    partition: bool
    """Whether it is a part of a partitioned table."""


def description(relation: sql.Composable) -> sql.Composed:
    """A query for one table, by its oid, as JSON: what a schema event says, `relid`, and `types` (oid, modifier).

    Columns are those that the log can tell: none that are computed when read, and stored ones from PostgreSQL 18 on.
    Types have their schema's name unless they are PostgreSQL's own, provided that `search_path` is empty. A key that is
    checked only at the end of a transaction is none: PostgreSQL itself does not tell rows by it.
    """
    return sql.SQL(_DESCRIPTION).format(relation=relation, **_PARTS)


async def described(connection: psycopg.AsyncConnection[Any], relid: int) -> dict[str, Any] | None:
    """A table as `description` says it; None when there is none of that oid."""
    async with _bare_path(connection):
        found = await connection.execute(description(sql.Literal(relid)))
        row = await found.fetchone()
    return None if row is None else dict(row[0])


async def type_texts(
    connection: psycopg.AsyncConnection[Any], types: Sequence[tuple[int, int]]
) -> list[dict[str, str]]:
    """`type`, `kind` and `base` of types that are known by oid and modifier alone, as they are called now."""
    async with _bare_path(connection):
        found = await connection.execute(
            sql.SQL(_TEXTS).format(**_PARTS), ([one for one, _ in types], [modifier for _, modifier in types])
        )
        rows = await found.fetchall()
    return [{"type": text, "kind": kind, "base": base} for text, kind, base in rows]


@contextlib.asynccontextmanager
async def _bare_path(connection: psycopg.AsyncConnection[Any]) -> AsyncIterator[None]:
    """Have types named with their schemas; in a transaction of the caller's the path is as before afterwards."""
    async with connection.transaction():
        path = await connection.execute("SELECT current_setting('search_path'), set_config('search_path', '', true)")
        before = (await path.fetchone() or ("",))[0]
        yield
        await connection.execute("SELECT set_config('search_path', %s, true)", (before,))


async def relation_id(connection: psycopg.AsyncConnection[Any], schema: str, name: str) -> int | None:
    """The oid of a relation of exactly that name."""
    found = await connection.execute(
        "SELECT c.oid::bigint FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        (schema, name),
    )
    row = await found.fetchone()
    return None if row is None else int(row[0])


async def is_buffer(connection: psycopg.AsyncConnection[Any], schema: str) -> bool:
    """Whether a schema of the source is a buffer of ours."""
    found = await connection.execute(
        "SELECT count(*) = 3 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname IN ('events', 'dead_letters', 'pipeline') AND EXISTS "
        "(SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'refuse')",
        (schema,),
    )
    return bool((await found.fetchone() or (False,))[0])


async def source_table(connection: psycopg.AsyncConnection[Any], schema: str, name: str) -> SourceTable:
    """A table's columns and key, as the transaction of `connection` sees them.

    Raises:
        BadRequest: there is no such table; near names are told.
    """
    relid = await relation_id(connection, schema, name)
    told = None if relid is None else await described(connection, relid)
    if told is None:
        raise no_table(schema, name, await table_names(connection))
    return told_table(told)


def told_table(told: dict[str, Any]) -> SourceTable:
    """The table that `described` gave."""
    return parse_table(told["schema"], told["table"], told)


async def table_names(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    """Every table that may be followed, as `schema.table`."""
    found = await connection.execute(
        "SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') "
        "AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
    )
    return [row[0] for row in await found.fetchall()]


def no_table(schema: str, name: str, known: Sequence[str]) -> BadRequest:
    """What to say of a table that is not there."""
    return BadRequest(f"the source has no table {schema}.{name}{near(f'{schema}.{name}', known)}")


async def table_facts(connection: psycopg.AsyncConnection[Any], relid: int) -> TableFacts:
    """What the catalogue says of a relation, besides its columns."""
    found = await connection.execute(FACTS, (relid,))
    row = await found.fetchone()
    if row is None:
        raise BadRequest(f"the source's table of oid {relid} was dropped meanwhile; ask again")
    return TableFacts(*row)


async def split_name(connection: psycopg.AsyncConnection[Any], text: str) -> tuple[str, str]:
    """Schema and name of a table that a person named: `schema.table`, or `table` in `public`.

    Names are taken as they are, upper case too; with double quotes they are read as SQL reads them.

    Raises:
        BadRequest: it names no table.
    """
    parts = text.split(".", 1)
    if '"' in text:
        try:
            found = await connection.execute("SELECT parse_ident(%s)", (text,))
            parts = (await found.fetchone() or ([],))[0]
        except errors.InvalidParameterValue:
            parts = []
    if len(parts) == 1:
        parts = ["public", *parts]
    if len(parts) != 2 or not all(parts):  # noqa: PLR2004 - a schema and a name
        raise BadRequest(f'{text!r} names no table; write schema.table, or "schema"."table" as in SQL')
    return parts[0], parts[1]
