"""What a buffer is told when a slot is made anew, of which nobody knows what was changed before it.

Each table is told to wait in the transaction that names the slot: an installation may end after any step, and no table
goes on as if nothing were missing. Copies may begin once the slot is there, since it sends what they do not see.
"""

from collections.abc import Sequence
from typing import LiteralString

from activities.clients.capture_sink import Sink
from activities.core.changelogs import lsn_text

Name = tuple[str, str]

WAIT: LiteralString = """
    UPDATE {schema}.tables SET state = 'stopped', copying_lsn = '0/0', cause = %(cause)s
    WHERE captured IS NOT NULL
        AND (source_schema, source_table) IN (SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[]))
"""
BEGIN: LiteralString = """
    UPDATE {schema}.pipeline SET slot = %(slot)s, publication_id = %(publication_id)s, captured_lsn = NULL,
        ended = NULL, lineage = NULL, captured_at = clock_timestamp()
"""
# Those of another timeline may have later positions than the copy.
FORGET: LiteralString = """
    DELETE FROM {schema}.events
    WHERE (source_schema, source_table) IN (SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[]))
"""
DROP_LETTERS: LiteralString = """
    UPDATE {schema}.dead_letters SET state = 'dropped', reason = %(cause)s, resolved_at = clock_timestamp()
    WHERE state = 'waiting'
        AND (source_schema, source_table) IN (SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[]))
"""
COPY: LiteralString = """
    UPDATE {schema}.tables SET state = 'copying', copying_lsn = '0/0', asked = asked + 1, cause = ''
    WHERE captured IS NOT NULL
        AND (source_schema, source_table) IN (SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[]))
"""
BEGUN: LiteralString = """
    UPDATE {schema}.pipeline SET captured_lsn = %(lsn)s, ended = NULL, lineage = NULL, captured_at = clock_timestamp()
"""
CAUSE = (
    "its slot is made anew, and what was changed before is lost; `icefleet cdc install --again` copies it anew and "
    "goes on from there"
)


async def begin_slot(sink: Sink, slot: str, publication_id: int, tables: Sequence[Name]) -> None:
    """Say that a slot is about to be made, and that `tables` have to be copied before they go on.

    What waits of them in the buffer is let go, dead letters too: their copies replace it.
    """
    about = {**_named(tables), "cause": CAUSE}
    # Only once the position has moved can no capture bring any more from the slot before.
    begin = (BEGIN, {"slot": slot, "publication_id": publication_id})
    await sink.change((WAIT, about), begin, (FORGET, about), (DROP_LETTERS, about))


async def slot_begun(sink: Sink, lsn: int, tables: Sequence[Name]) -> None:
    """Say where the slot begins, and let `tables` be copied."""
    await sink.change((COPY, _named(tables)), (BEGUN, {"lsn": lsn_text(lsn)}))


def _named(tables: Sequence[Name]) -> dict[str, list[str]]:
    return {"schemas": [schema for schema, _ in tables], "names": [name for _, name in tables]}
