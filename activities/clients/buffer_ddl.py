"""The buffer's own tables, in a PostgreSQL schema of the pipeline's; docs/formats/cdc-buffer.md is the contract.

`{schema}` is a quoted identifier, `{channel}` a quoted literal. Every statement may run again where it has run.
Producers take turns (`one_by_one`), so that ids are in the order in which events become visible: whoever has read up to
an id has missed nothing below it. Processed events are deleted; the mark of that is `tables.processed_id`.
"""

from activities.clients.buffer_sizes import ROOM

VERSION = 1

STATEMENTS = (
    "CREATE SCHEMA IF NOT EXISTS {schema}",
    """
    CREATE TABLE IF NOT EXISTS {schema}.pipeline (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        version integer NOT NULL,
        buffer_id uuid NOT NULL DEFAULT gen_random_uuid(),
        epoch bigint NOT NULL DEFAULT 0,
        slot text,
        publication_id bigint,
        captured_lsn pg_lsn,
        captured_at timestamptz,
        lineage text,
        ended text,
        max_events bigint,
        max_bytes bigint,
        purged_at timestamptz NOT NULL DEFAULT '-infinity'
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS {schema}.events (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        source_schema text NOT NULL,
        source_table text NOT NULL,
        operation text NOT NULL CHECK (operation IN ('insert', 'update', 'delete', 'truncate', 'schema')),
        commit_lsn pg_lsn NOT NULL,
        ordinal bigint NOT NULL CHECK (ordinal >= 0),
        committed_at timestamptz NOT NULL,
        key_columns text[] NOT NULL DEFAULT '{{}}',
        old_row jsonb,
        new_row jsonb,
        unchanged text[] NOT NULL DEFAULT '{{}}',
        received_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE INDEX IF NOT EXISTS events_of_table ON {schema}.events (source_schema, source_table, id)",
    """
    ALTER TABLE {schema}.events SET (
        autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.5,
        toast.autovacuum_vacuum_scale_factor = 0.05
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS {schema}.tables (
        source_schema text NOT NULL,
        source_table text NOT NULL,
        state text NOT NULL DEFAULT 'active' CHECK (state IN ('copying', 'active', 'stopped')),
        cause text NOT NULL DEFAULT '',
        copied_lsn pg_lsn,
        copying_lsn pg_lsn,
        asked bigint NOT NULL DEFAULT 0,
        captured jsonb,
        let_go boolean NOT NULL DEFAULT false,
        memberships bigint[],
        processed_id bigint NOT NULL DEFAULT 0,
        sent_id bigint NOT NULL DEFAULT 0,
        landed_id bigint NOT NULL DEFAULT 0,
        processed_at timestamptz,
        last_lsn pg_lsn,
        last_committed_at timestamptz,
        written bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (source_schema, source_table)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS {schema}.dead_letters (
        event_id bigint PRIMARY KEY,
        source_schema text NOT NULL,
        source_table text NOT NULL,
        operation text NOT NULL,
        commit_lsn pg_lsn NOT NULL,
        ordinal bigint NOT NULL,
        committed_at timestamptz NOT NULL,
        key_columns text[] NOT NULL,
        old_row jsonb,
        new_row jsonb,
        unchanged text[] NOT NULL,
        received_at timestamptz NOT NULL,
        key jsonb,
        cause text NOT NULL,
        behind bigint REFERENCES {schema}.dead_letters (event_id),
        state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'requeued', 'dropped')),
        reason text NOT NULL DEFAULT '',
        failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        resolved_at timestamptz
    )
    """,
    """
    CREATE INDEX IF NOT EXISTS dead_letters_waiting ON {schema}.dead_letters (source_schema, source_table, event_id)
        WHERE state = 'waiting'
    """,
    "CREATE INDEX IF NOT EXISTS dead_letters_behind ON {schema}.dead_letters (behind)",
    """
    CREATE OR REPLACE FUNCTION {schema}.one_by_one() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock('{schema}.events'::regclass::oid::bigint);
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION {schema}.say_so() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify({channel}, '');
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION {schema}.refuse(why text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = 'IF001', MESSAGE = why;
    END
    $$
    """,
    ROOM,
    # Which events a query fails for, and why; its parameters are the ids after which and up to which it reads. It is
    # run for all of them, and after a failure for half of them, until it is one. Its parts tell which column it is;
    # the one that failed last is tried first.
    """
    CREATE OR REPLACE FUNCTION {schema}.misfits(ids bigint[], query text, names text[], parts text[])
    RETURNS TABLE (event_id bigint, cause text) LANGUAGE plpgsql AS $$
    DECLARE
        low integer := 1;
        high integer;
        size integer := cardinality(ids);
        part integer := 1;
        guess integer;
        named boolean;
        ignored record;
    BEGIN
        WHILE low <= cardinality(ids) LOOP
            high := least(low + size - 1, cardinality(ids));
            BEGIN
                FOR ignored IN EXECUTE query USING ids[low] - 1, ids[high] LOOP END LOOP;
                low := high + 1;
                size := size * 2;
                CONTINUE;
            EXCEPTION WHEN data_exception OR program_limit_exceeded OR SQLSTATE 'IF001' THEN
                event_id := ids[low];
                cause := SQLERRM;
                named := SQLSTATE = 'IF001';
            END;
            IF low < high THEN
                size := (high - low + 1) / 2;
                CONTINUE;
            END IF;
            BEGIN
                guess := part;
                FOR turn IN 0 .. CASE WHEN named THEN -1 ELSE cardinality(parts) END LOOP
                    part := CASE turn WHEN 0 THEN guess ELSE turn END;
                    FOR ignored IN EXECUTE parts[part] USING ids[low] - 1, ids[low] LOOP END LOOP;
                END LOOP;
            EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
                cause := 'column ' || names[part] || ': ' || SQLERRM;
            END;
            cause := left(regexp_replace(cause, '"(.{{60}}).+"', '"\\1…"'), 500);
            RETURN NEXT;
            low := low + 1;
        END LOOP;
    END
    $$
    """,
    "CREATE OR REPLACE TRIGGER one_by_one BEFORE INSERT ON {schema}.events EXECUTE FUNCTION {schema}.one_by_one()",
    "CREATE OR REPLACE TRIGGER say_so AFTER INSERT ON {schema}.events EXECUTE FUNCTION {schema}.say_so()",
)
DROPS = (
    "DROP TABLE {schema}.dead_letters, {schema}.events, {schema}.tables, {schema}.pipeline CASCADE",
    """
    DROP FUNCTION {schema}.one_by_one(), {schema}.say_so(), {schema}.refuse(text), {schema}.room(),
        {schema}.misfits(bigint[], text, text[], text[]) CASCADE
    """,
)
"""All that there is of a buffer but its schema, which may be that of others."""
