from support.ownpostgres import fresh_database, server


async def test_a_database_of_a_test_is_gone_at_its_end_with_its_clients_and_slots(stack):
    async with fresh_database(stack) as own, fresh_database(stack) as other:
        await own.run("CREATE TABLE seen (n integer)")
        await own.transact("INSERT INTO seen VALUES (1)", "INSERT INTO seen VALUES (2)")
        assert await own.rows("SELECT sum(n) FROM seen WHERE n < %s", 10) == [(3,)]
        await own.run(f"SELECT pg_create_logical_replication_slot('{own.database}', 'pgoutput')")
        left = await own.settings.connect()
        kept = other.database
        assert await other.rows("SELECT current_database()") == [(kept,)]
    async with await server(stack).connect() as asked:
        names = await (await asked.execute("SELECT datname FROM pg_database")).fetchall()
        slots = await (await asked.execute("SELECT slot_name FROM pg_replication_slots")).fetchall()
    assert {(own.database,), (kept,)}.isdisjoint(names)
    assert (own.database,) not in slots
    await left.close()
