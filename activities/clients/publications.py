"""What an installation makes in a source's database: publication, replica identities, the trigger that tells of DDL.

Everything is named as the slot: two pipelines may follow one database.
"""

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import errors, sql
from psycopg.types.json import Jsonb

from activities.clients.catalogue import TableFacts, description
from activities.core.capture import SCHEMA_PREFIX
from activities.core.faults import PostgresUnavailable

LOCK_TIMEOUT = "10s"
MARK = "made by icefleet"
STORED_COLUMNS = 180_000
"""The version of PostgreSQL from which on stored generated columns can be published."""

_DESCRIBE: LiteralString = """
    CREATE OR REPLACE FUNCTION {home}.describe(relation oid) RETURNS jsonb LANGUAGE sql STABLE SET search_path = ''
    AS {body}
"""
_TELL: LiteralString = """
    CREATE OR REPLACE FUNCTION {home}.tell() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
    DECLARE
        changed oid[];
        everything boolean := TG_EVENT = 'ddl_command_end' AND TG_TAG <> 'ALTER TABLE';
        relation oid;
    BEGIN
        -- Nobody's DDL may fail for our sake: what is missed here shows when the next row of the table comes.
        BEGIN
            IF TG_EVENT = 'sql_drop' THEN
                changed := ARRAY(
                    SELECT d.objid FROM pg_event_trigger_dropped_objects() d
                    WHERE d.classid = 'pg_class'::regclass AND d.objsubid > 0
                );
            ELSIF NOT everything THEN
                changed := ARRAY(
                    SELECT d.objid FROM pg_event_trigger_ddl_commands() d WHERE d.classid = 'pg_class'::regclass
                );
            END IF;
            FOR relation IN
                SELECT t.relid FROM pg_publication p CROSS JOIN LATERAL pg_get_publication_tables(p.pubname) t
                WHERE p.pubname = {publication} AND (everything OR t.relid = ANY (changed))
            LOOP
                PERFORM pg_logical_emit_message(
                    true, {prefix}, (jsonb_build_object('slot', {slot}) || {home}.describe(relation))::text
                );
            END LOOP;
            -- A message has the position where it ends, which is where the next change begins, and of a subtransaction
            -- (this block is one) PostgreSQL sends the later of two equals. Something between them tells them apart.
            PERFORM pg_logical_emit_message(false, {prefix}, '');
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'icefleet: the change of a published table could not be logged: %', SQLERRM;
        END;
    END
    $$
"""
_TRIGGERS: tuple[LiteralString, ...] = (
    "DROP EVENT TRIGGER IF EXISTS {changed}",
    "DROP EVENT TRIGGER IF EXISTS {dropped}",
    """
    CREATE EVENT TRIGGER {changed} ON ddl_command_end
        WHEN TAG IN ('ALTER TABLE', 'ALTER TYPE', 'ALTER DOMAIN', 'ALTER SCHEMA', 'ALTER EXTENSION')
        EXECUTE FUNCTION {home}.tell()
    """,
    "CREATE EVENT TRIGGER {dropped} ON sql_drop EXECUTE FUNCTION {home}.tell()",
    # Also where changes come in with session_replication_role = replica.
    "ALTER EVENT TRIGGER {changed} ENABLE ALWAYS",
    "ALTER EVENT TRIGGER {dropped} ENABLE ALWAYS",
)


@dataclass(frozen=True)
class Source:
    """A session with a source's database, to set it up; names are those of one pipeline."""

    connection: psycopg.AsyncConnection[Any]
    slot: str
    publication: str

    async def install_trigger(self) -> bool:
        """Have DDL of published tables logged; False: there is no right to, and nobody with it has done so before."""
        try:
            async with self.connection.transaction():
                await self._run("CREATE SCHEMA IF NOT EXISTS {home}")
                await self._run(_DESCRIBE)
                await self._run(_TELL)
                for text in _TRIGGERS:
                    await self._run(text)
        except errors.InsufficientPrivilege:
            found = await self.connection.execute(
                "SELECT count(*) FROM pg_event_trigger WHERE evtname = ANY (%s) AND evtenabled <> 'D'",
                (list(self._trigger_names()),),
            )
            return (await found.fetchone() or (0,))[0] == len(self._trigger_names())
        return True

    async def make_publication(self) -> int:
        """The oid of the publication, which is made if it is not there."""
        number = self.connection.info.server_version
        more: LiteralString = ", publish_generated_columns = stored" if number >= STORED_COLUMNS else ""
        async with self.connection.transaction():
            found = await self.connection.execute(
                "SELECT 1 FROM pg_publication WHERE pubname = %s", (self.publication,)
            )
            if await found.fetchone() is None:
                await self._run("CREATE PUBLICATION {publication_name}")
                await self._run("COMMENT ON PUBLICATION {publication_name} IS {mark}")
            # Of a publication that somebody else made, too: without these, changes would be missing.
            await self._run(
                "ALTER PUBLICATION {publication_name} SET ("
                "publish = 'insert, update, delete, truncate', publish_via_partition_root = true" + more + ")"
            )
            found = await self.connection.execute(
                "SELECT oid::bigint FROM pg_publication WHERE pubname = %s", (self.publication,)
            )
            return int((await found.fetchone() or (0,))[0])

    async def published(self) -> dict[int, bool]:
        """The oids of the tables of the publication, and whether it leaves out rows or columns of them."""
        found = await self.connection.execute(
            """
            SELECT r.prrelid::bigint, r.prqual IS NOT NULL OR r.prattrs IS NOT NULL FROM pg_publication_rel r
            JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = %s
            UNION
            SELECT t.relid::bigint, false FROM pg_publication p
            CROSS JOIN LATERAL pg_get_publication_tables(p.pubname) t WHERE p.pubname = %s
            """,
            (self.publication, self.publication),
        )
        published: dict[int, bool] = {}
        for relid, partly in await found.fetchall():
            published[relid] = published.get(relid, False) or partly
        return published

    async def publish(self, schema: str, name: str, facts: TableFacts, identity: str, *, new: bool) -> dict[str, Any]:
        """Let a table's changes be logged from here on; as what it is then described, in the log and as answered.

        Whoever writes to a table that is new in the publication is waited for: no transaction is half published.

        Raises:
            PostgresUnavailable: others held locks on it for too long.
        """
        try:
            return await self._publish(schema, name, facts, identity, new=new)
        except errors.LockNotAvailable as busy:
            raise PostgresUnavailable(
                f"source table {schema}.{name}: others have held locks on it for too long; try again when long "
                "transactions on it have ended"
            ) from busy

    async def _publish(self, schema: str, name: str, facts: TableFacts, identity: str, *, new: bool) -> dict[str, Any]:
        table = sql.Identifier(schema, name)
        async with self.connection.transaction():
            await self._run("SET LOCAL lock_timeout = {timeout}")
            await self._run("SET LOCAL search_path = ''")
            if new:
                await self.connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table))
                await self.connection.execute(
                    sql.SQL("ALTER PUBLICATION {} ADD TABLE ONLY {}").format(sql.Identifier(self.publication), table)
                )
            if identity in {"full", "default"}:
                await self._identify(facts.relid, identity)
            asked = await self.connection.execute(description(sql.Literal(facts.relid)))
            told = dict((await asked.fetchone() or ({},))[0])
            await self.connection.execute(
                sql.SQL(
                    "SELECT pg_logical_emit_message(true, {}, (jsonb_build_object('slot', {}::text) || %s)::text)"
                ).format(SCHEMA_PREFIX, self.slot),
                (Jsonb(told),),
            )
        return told

    async def _identify(self, relid: int, identity: str) -> None:
        """Set the replica identity of a table and of all its partitions, where it is another."""
        letter = identity[0]
        found = await self.connection.execute(
            """
            SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relreplident <> %s
                AND (c.oid = %s OR c.oid IN (SELECT relid FROM pg_partition_tree(%s::oid::regclass)))
            """,
            (letter, relid, relid),
        )
        for one in await found.fetchall():
            await self.connection.execute(
                sql.SQL("ALTER TABLE ONLY {} REPLICA IDENTITY {}").format(
                    sql.Identifier(*one), sql.SQL("FULL" if identity == "full" else "DEFAULT")
                )
            )

    async def remove(self) -> list[str]:
        """Drop trigger and publication; what somebody else made stays.

        What was dropped, and in parentheses what was not.
        """
        try:
            async with self.connection.transaction():
                removed = await self._remove_triggers()
        except errors.InsufficientPrivilege:
            # Without the publication they tell nothing.
            changed, dropped = self._trigger_names()
            drops = f'DROP EVENT TRIGGER "{changed}"; DROP EVENT TRIGGER "{dropped}"; DROP SCHEMA "{self.slot}" CASCADE'
            removed = [f"(event triggers stay: whoever made them must drop them, {drops})"]
        marked = await self.connection.execute(
            "SELECT 1 FROM pg_publication WHERE pubname = %s AND obj_description(oid, 'pg_publication') = %s",
            (self.publication, MARK),
        )
        if await marked.fetchone():
            try:
                async with self.connection.transaction():
                    await self._run("DROP PUBLICATION {publication_name}")
                removed.append(f"publication {self.publication}")
            except errors.InsufficientPrivilege:
                removed.append(f"(publication {self.publication} stays: its owner must drop it)")
        return removed

    async def _remove_triggers(self) -> list[str]:
        found = await self.connection.execute(
            "SELECT evtname FROM pg_event_trigger WHERE evtname = ANY (%s)", (list(self._trigger_names()),)
        )
        removed = []
        for (name,) in await found.fetchall():
            await self.connection.execute(sql.SQL("DROP EVENT TRIGGER {}").format(sql.Identifier(name)))
            removed.append(f"event trigger {name}")
        await self._run("DROP FUNCTION IF EXISTS {home}.tell(), {home}.describe(oid)")
        try:
            async with self.connection.transaction():
                await self._run("DROP SCHEMA IF EXISTS {home}")
        except errors.DependentObjectsStillExist:
            removed.append(f"(schema {self.slot} stays: it holds something of somebody else)")
        return removed

    def _trigger_names(self) -> tuple[str, str]:
        # PostgreSQL cuts names after 63 bytes.
        return self.slot, f"{self.slot[:55]}_dropped"

    async def _run(self, text: LiteralString) -> None:
        changed, dropped = map(sql.Identifier, self._trigger_names())
        body = description(sql.SQL("$1")).as_string(self.connection)
        await self.connection.execute(
            sql.SQL(text).format(
                home=sql.Identifier(self.slot),
                body=sql.Literal(body),
                publication=sql.Literal(self.publication),
                publication_name=sql.Identifier(self.publication),
                prefix=sql.Literal(SCHEMA_PREFIX),
                slot=sql.Literal(self.slot),
                mark=sql.Literal(MARK),
                timeout=sql.Literal(LOCK_TIMEOUT),
                changed=changed,
                dropped=dropped,
            )
        )
