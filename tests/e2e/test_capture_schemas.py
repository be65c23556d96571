"""Changed tables are told with the identities of their columns, at their place among the rows."""

import pytest

from support.captures import captures

RELATIONS = ("DROP EVENT TRIGGER {0}", "DROP EVENT TRIGGER {0}_dropped")


@pytest.fixture
async def shop(postgres):
    return captures(postgres.settings)


async def told(shop, table="public.t"):
    """Schema events as name → (type, id), rows as they are; in order."""
    found = []
    for name, operation, _, _, _, new, _ in await shop.events():
        if name == table and operation == "schema":
            ids = {column["name"]: column.get("id") for column in new["columns"]}
            places = {column: place if place is None else place & 0xFFFF for column, place in ids.items()}
            found.append({column["name"]: (column["type"], places[column["name"]]) for column in new["columns"]})
        elif name == table:
            found.append(new)
    return found


async def test_columns_added_dropped_renamed_widened_and_made_anew_in_one_transaction(shop):
    """Cases 49 and 50."""
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY, a text, n int)")
    report = await shop.install("t")
    assert report.schema_events == "trigger"
    await shop.transact(
        "INSERT INTO t VALUES (1, 'a', 1)",
        "ALTER TABLE t ADD b bool",
        "INSERT INTO t VALUES (2, 'a', 2, true)",
        "ALTER TABLE t RENAME a TO c",
        "INSERT INTO t VALUES (3, 'c', 3, true)",
        "ALTER TABLE t ALTER n TYPE bigint",
        "INSERT INTO t VALUES (4, 'c', 4, true)",
        "ALTER TABLE t DROP b, ADD b text",
        "INSERT INTO t VALUES (5, 'c', 5, 'b')",
    )
    await shop.capture()
    i, a, n, b = ("integer", 1), ("text", 2), ("integer", 3), ("boolean", 4)
    assert await told(shop) == [
        {"id": i, "a": a, "n": n},
        {"id": "1", "a": "a", "n": "1"},
        {"id": i, "a": a, "n": n, "b": b},
        {"id": "2", "a": "a", "n": "2", "b": "t"},
        {"id": i, "c": a, "n": n, "b": b},
        {"id": "3", "c": "c", "n": "3", "b": "t"},
        {"id": i, "c": a, "n": ("bigint", 3), "b": b},
        {"id": "4", "c": "c", "n": "4", "b": "t"},
        {"id": i, "c": a, "n": ("bigint", 3), "b": ("text", 5)},
        {"id": "5", "c": "c", "n": "5", "b": "b"},
    ]


async def test_a_change_without_rows_is_told_once_also_after_the_capture_began_anew(shop):
    """Case 55."""
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)")
    await shop.install("t")
    await shop.source_run("ALTER TABLE t ADD a text", "ALTER TABLE t OWNER TO CURRENT_USER")
    await shop.capture()
    expected = [{"id": ("integer", 1)}, {"id": ("integer", 1), "a": ("text", 2)}]
    assert await told(shop) == expected
    await shop.source_run("ALTER TABLE t SET (fillfactor = 90)", "INSERT INTO t VALUES (1, 'x')")
    await shop.capture()
    assert await told(shop) == [*expected, {"id": "1", "a": "x"}]


async def test_ddl_of_a_user_without_rights_is_told_and_what_was_rolled_back_is_not(shop):
    role = f"{shop.source.database}_owner"
    await shop.source_run(
        f"CREATE ROLE {role}", "CREATE TABLE t (id int PRIMARY KEY)", f"ALTER TABLE t OWNER TO {role}"
    )
    try:
        await shop.install("t")
        await shop.transact(f"SET LOCAL ROLE {role}", "ALTER TABLE t ADD a text")
        await shop.transact(
            "SAVEPOINT s",
            "ALTER TABLE t ADD b text",
            "ROLLBACK TO s",
            "INSERT INTO t VALUES (1)",
            "SAVEPOINT s",
            "ALTER TABLE t ADD c text",
            "RELEASE s",
            "INSERT INTO t VALUES (2)",
        )
        await shop.capture()
        one, two = ("integer", 1), ("text", 2)
        assert await told(shop) == [
            {"id": one},
            {"id": one, "a": two},
            {"id": "1", "a": None},
            {"id": one, "a": two, "c": ("text", 3)},
            {"id": "2", "a": None, "c": None},
        ]
    finally:
        await shop.source_run("DROP TABLE t", f"DROP ROLE {role}")


async def test_types_of_ones_own_are_told_by_kind_and_follow_their_own_ddl(shop):
    await shop.source_run(
        "CREATE SCHEMA own",
        "CREATE TYPE own.mood AS ENUM ('ok')",
        "CREATE DOMAIN own.price AS numeric(10,2)",
        "CREATE TABLE t (id int PRIMARY KEY, m own.mood, ms own.mood[], p own.price)",
    )
    await shop.install("t")
    await shop.source_run("ALTER TYPE own.mood RENAME TO feeling", "DROP DOMAIN own.price CASCADE")
    await shop.capture()
    columns = [row[5]["columns"] for row in await shop.events()]
    for column in (column for told in columns for column in told):
        column["id"] &= 0xFFFF
    number = {"name": "id", "type": "integer", "id": 1}
    price = {"name": "p", "type": "own.price", "id": 4, "kind": "domain", "base": "numeric(10,2)"}

    def moods(name):
        types = {"m": f"own.{name}", "ms": f"own.{name}[]"}
        return [
            {"name": column, "type": kind, "id": place, "kind": "enum"}
            for place, (column, kind) in enumerate(types.items(), 2)
        ]

    assert columns == [[number, *moods("mood"), price], [number, *moods("feeling"), price], [number, *moods("feeling")]]


async def test_a_renamed_table_stops_and_goes_on_under_its_new_name_once_that_is_installed(shop):
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)")
    await shop.install("t")
    await shop.rows("UPDATE icefleet_cdc.tables SET state = 'active', copying_lsn = NULL RETURNING 1")
    await shop.transact("INSERT INTO t VALUES (1)", "ALTER TABLE t RENAME TO u", "INSERT INTO u VALUES (2)")
    await shop.capture()
    assert [new["id"] for _, _, new in await shop.changes()] == ["1"]
    ((state, cause),) = await shop.rows("SELECT state, cause FROM icefleet_cdc.tables")
    assert state == "stopped"
    assert "public.t was renamed to public.u; its changelog ends there" in cause
    report = await shop.install("u")
    assert [(table.table, table.state) for table in report.tables] == [("public.u", "copying")]
    await shop.source_run("INSERT INTO u VALUES (3)")
    await shop.capture()
    assert [row[5].get("id") for row in await shop.events() if row[0] == "public.u"] == [None, "3"]
    assert (await shop.rows("SELECT state FROM icefleet_cdc.tables WHERE source_table = 't'")) == [("stopped",)]


async def test_a_table_dropped_and_made_anew_is_copied_anew(shop):
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)")
    await shop.install("t")
    await shop.capture()
    await shop.rows("UPDATE icefleet_cdc.tables SET state = 'active', copying_lsn = NULL RETURNING 1")
    await shop.source_run("DROP TABLE t", "CREATE TABLE t (name text PRIMARY KEY)", "INSERT INTO t VALUES ('lost')")
    report = await shop.install("t")
    assert [table.state for table in report.tables] == ["copying"]
    await shop.source_run("INSERT INTO t VALUES ('kept')")
    await shop.capture()
    assert await told(shop) == [{"id": ("integer", 1)}, {"name": ("text", 1)}, {"name": "kept"}]
    assert await shop.rows("SELECT state FROM icefleet_cdc.tables") == [("copying",)]


async def test_a_table_made_anew_is_emptied_in_its_place_for_those_who_let_it_go_on(shop):
    """Whoever resumes it, as it is published all the time, has all of its events: the old rows do not stay."""
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)", f"CREATE PUBLICATION {shop.slot} FOR ALL TABLES")
    await shop.install("t")
    await shop.rows("UPDATE icefleet_cdc.tables SET state = 'active', copying_lsn = NULL RETURNING 1")
    await shop.source_run("INSERT INTO t VALUES (1)")
    await shop.capture()
    await shop.source_run("DROP TABLE t", "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (2)")
    await shop.capture()
    ((state, cause),) = await shop.rows("SELECT state, cause FROM icefleet_cdc.tables WHERE source_table = 't'")
    assert (state, "dropped and made anew" in cause) == ("stopped", True)
    assert [row[1] for row in await shop.events() if row[0] == "public.t"] == [
        *("schema", "insert", "truncate", "schema", "insert"),
    ]


async def test_without_the_trigger_rows_tell_of_changed_columns_with_identities_while_they_are_known(shop):
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY, a text)")
    await shop.install("t")
    await shop.capture()
    await shop.source_run(*(text.format(shop.slot) for text in RELATIONS))
    await shop.source_run(
        "ALTER TABLE t ADD b int",
        "INSERT INTO t VALUES (1, 'a', 1)",
        "ALTER TABLE t RENAME a TO c",
        "INSERT INTO t VALUES (2, 'c', 2)",
    )
    await shop.capture()
    # Of the columns as they were once, only names and types are known; of those as they are now, everything.
    assert (await told(shop))[1:] == [
        {"id": ("integer", None), "a": ("text", None), "b": ("integer", None)},
        {"id": "1", "a": "a", "b": "1"},
        {"id": ("integer", 1), "c": ("text", 2), "b": ("integer", 3)},
        {"id": "2", "c": "c", "b": "2"},
    ]


async def test_a_broken_trigger_fails_nobodys_ddl(shop):
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)")
    await shop.install("t")
    await shop.source_run(
        f"DROP FUNCTION {shop.slot}.describe(oid)", "ALTER TABLE t ADD a text", "INSERT INTO t VALUES (1)"
    )
    await shop.capture()
    assert (await told(shop))[1:] == [{"id": ("integer", 1), "a": ("text", 2)}, {"id": "1", "a": None}]
