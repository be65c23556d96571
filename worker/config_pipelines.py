"""What must hold among pipelines beyond the shape of each: names that PostgreSQL takes, and nothing that two share."""

import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from activities.core.changelogs import LOWER
from worker.config_cdc import Pipeline
from worker.config_checks import bad_name
from worker.config_files import Node, Problem
from worker.config_models import Environment

PLACES = ("schema", "table")
_SLOT = re.compile(r"[a-z0-9_]{1,63}")
_LONGEST_NAME = 63
"""Bytes of a name in PostgreSQL."""
_NOT_IN_NAMES = "./\\*>"


@dataclass(frozen=True)
class _Use:
    """Something of which two pipelines may not have the same."""

    what: str
    place: tuple[object, ...]
    node: Node


def pipeline_problems(environment: Environment, node: Node, others: Iterable[Environment]) -> Iterator[Problem]:
    """The problems of one environment's pipelines, also with those of environments that were read before."""
    taken: dict[tuple[object, ...], str] = {}
    for other in others:
        for name, pipeline in other.cdc.items():
            for use in _uses(other.name, name, pipeline, Node(None)):
                taken.setdefault(use.place, f"{other.name}.{name}")
    for name, pipeline in environment.cdc.items():
        own = node.get("cdc", name) or node
        yield from bad_name(name, own)
        yield from _name_problems(pipeline, own)
        yield from _column_problems(pipeline, own)
        yield from _source_problems(environment.name, name, pipeline, own)
        for use in _uses(environment.name, name, pipeline, own):
            if use.place in taken:
                yield use.node.problem(
                    f"pipeline {taken[use.place]} has the same {use.what} there; give one of them another"
                )
            taken.setdefault(use.place, f"{environment.name}.{name}")


def _uses(environment: str, name: str, pipeline: Pipeline, node: Node) -> Iterator[_Use]:
    buffer = pipeline.buffer
    at = (buffer.host, buffer.port, buffer.database, buffer.schema_)
    yield _Use("buffer schema", ("buffer", *at), node.get("buffer", "schema") or node.get("buffer") or node)
    source = pipeline.source
    if source is None:
        return
    # Slots are the server's, publications a database's.
    slot, own = source.slot_of(environment, name), node.get("source") or node
    yield _Use("slot", ("slot", source.host, source.port, slot), own.get("slot") or own)
    if source.publication:
        database = (source.host, source.port, source.database)
        yield _Use("publication", ("publication", *database, source.publication), own.get("publication") or own)


def _name_problems(pipeline: Pipeline, node: Node) -> Iterator[Problem]:
    """The template of changelogs' names, and the buffer's schema."""
    template = node.get("name") or node
    try:
        parts = list(string.Formatter().parse(pipeline.name))
    except ValueError as wrong:
        yield template.problem(f"{pipeline.name!r} is no template: {wrong}; write {{schema}} and {{table}} alone")
        return
    fields = [field for _, field, _, _ in parts if field is not None]
    odd = [
        field for _, field, spec, conversion in parts if field is not None and (spec not in {"", LOWER} or conversion)
    ]
    unknown = [field for field in fields if field not in PLACES]
    if unknown or odd:
        shown = ", ".join(f"{{{field}}}" for field in [*unknown, *odd])
        yield template.problem(
            f"{pipeline.name!r} has {shown}, and only {{schema}} and {{table}} are known, alone or with :lower"
        )
    elif "table" not in fields:
        yield template.problem(f"{pipeline.name!r} names every table alike: it needs {{table}}")
    literal = "".join(text for text, _, _, _ in parts)
    if wrong_signs := sorted({sign for sign in literal if sign in _NOT_IN_NAMES or sign.isspace()}):
        yield template.problem(f"{pipeline.name!r} has {''.join(wrong_signs)!r}, which no name of a table may have")
    schema = pipeline.buffer.schema_
    if len(schema) > _LONGEST_NAME or schema.startswith("pg_"):
        place = node.get("buffer", "schema") or node
        yield place.problem(f"{schema!r} cannot be a schema: at most 63 characters, not beginning with `pg_`")


def _column_problems(pipeline: Pipeline, node: Node) -> Iterator[Problem]:
    """Our columns must differ from each other, also for engines to which upper and lower case are the same."""
    seen: dict[str, str] = {}
    for key, column in pipeline.system_columns.model_dump().items():
        place = node.get("system_columns", key) or node.get("system_columns") or node
        if column.lower() in seen:
            yield place.problem(f"{column!r} is what `{seen[column.lower()]}` is called; give one of them another name")
        seen.setdefault(column.lower(), key)
        if column != column.strip() or "." in column:
            yield place.problem(f"{column!r} cannot be a column: no dots, and no blanks at its ends")


def _source_problems(environment: str, name: str, pipeline: Pipeline, node: Node) -> Iterator[Problem]:
    source = pipeline.source
    if source is None:
        return
    own = node.get("source") or node
    slot = source.slot_of(environment, name)
    if not _SLOT.fullmatch(slot):
        rule = "1 to 63 lower-case letters, digits and `_`"
        if source.slot is None:
            yield own.problem(f"its slot would be {slot!r}, which PostgreSQL does not take ({rule})", "slot")
        else:
            yield (own.get("slot") or own).problem(f"{slot!r} is no name that PostgreSQL takes: {rule}")
    if source.publication and len(source.publication) > _LONGEST_NAME:
        yield (own.get("publication") or own).problem("is longer than the 63 characters that PostgreSQL takes")
    if source.warn_retained_wal_bytes >= source.max_retained_wal_bytes:
        place = own.get("warn_retained_wal_bytes") or own.get("max_retained_wal_bytes") or own
        yield place.problem(
            f"warn_retained_wal_bytes {source.warn_retained_wal_bytes} must be below max_retained_wal_bytes "
            f"{source.max_retained_wal_bytes}, where the slot is given up"
        )
