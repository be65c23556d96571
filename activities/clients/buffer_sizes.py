"""What a buffer holds: as captures ask for it, and as other producers do, who know nothing of config."""

from typing import LiteralString

HELD: LiteralString = """
    SELECT e.source_schema, e.source_table, CASE WHEN t.captured IS NULL OR t.state = 'active' THEN 'carried'
        WHEN t.state = 'copying' THEN 'copying' WHEN t.copying_lsn = '0/0' THEN 'needless' ELSE 'stopped' END AS kind,
        count(*) AS events, coalesce(sum({event_bytes}), 0) AS bytes,
        least(1.0, 1000 / greatest(1, pg_relation_size('{schema}.events'::regclass) / 8192.0))::float8 AS part
    FROM {schema}.events e TABLESAMPLE SYSTEM (
        least(100.0, 100.0 * 1000 / greatest(1, pg_relation_size('{schema}.events'::regclass) / 8192.0))
    ) LEFT JOIN {schema}.tables t ON (t.source_schema, t.source_table) = (e.source_schema, e.source_table)
    GROUP BY 1, 2, 3
"""
"""Of a thousand pages, without reading any long value; `part` is what these are of all."""
_ROOM: LiteralString = """
    CREATE OR REPLACE FUNCTION {schema}.room()
    RETURNS TABLE (wait boolean, events bigint, bytes bigint, max_events bigint, max_bytes bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
        WITH held AS (HELD), carried AS (
            SELECT coalesce(sum(events / part), 0)::bigint AS events, coalesce(sum(bytes / part), 0)::bigint AS bytes
            FROM held WHERE kind IN ('carried', 'copying')
        )
        SELECT coalesce(c.events >= p.max_events OR c.bytes >= p.max_bytes, false), c.events, c.bytes,
            p.max_events, p.max_bytes
        FROM {schema}.pipeline p CROSS JOIN carried c
    $$
"""
ROOM = _ROOM.replace("HELD", HELD)
"""By its owner's rights: a producer need not be able to read."""
LIMITS = """
    UPDATE {schema}.pipeline SET max_events = %(events)s, max_bytes = %(bytes)s
    WHERE (max_events, max_bytes) IS DISTINCT FROM (%(events)s, %(bytes)s)
"""
"""What config says, for whoever asks the buffer alone."""
