"""A table held against its source: every partition is one thing, whatever duplicates and late rows there are."""

import json
import re

import pytest
from temporalio.exceptions import ApplicationError

from activities.contracts.export import table_identifier
from activities.core.coverage import Bounds
from activities.source import read_facts
from activities.surveys import Outside, Source
from support.direct import Hands
from worker.comparison import compare, compare_all

STATES = ("present", "missing", "stale", "shrunk", "empty", "open", "suspended")


def days(compared):
    """State → days of March that are in it, up to the 20th of it."""
    first = 19_783  # 2024-03-01
    return {
        name: [index - first + 1 for index in getattr(compared, name)] for name in STATES if getattr(compared, name)
    }


async def test_every_partition_is_one_thing_by_one_query_whatever_the_range(fleet):
    await fleet.make_days(days=6, rows=10)
    async with fleet.context() as context:
        await Hands(fleet, context).run(to="2024-03-19")
        await change_source(fleet)
        config = context.find_table("events", fleet.network)
        source = Source(fleet.clickhouse, config, fleet.network, await read_facts(fleet.clickhouse, config))
        seen = await compare(context.lake, source, config, fleet.network)
        part = await compare(context.lake, source, config, fleet.network, Bounds("2024-03-18"))
    assert days(seen) == {
        "present": [15, 17],
        "missing": [20],
        "stale": [18],
        "shrunk": [16, 19],
        "empty": [*range(1, 15)],
    }
    assert days(part) == {"missing": [20], "stale": [18], "shrunk": [19]}
    surveys = await fleet.queries(f"plan {table_identifier(fleet.network, 'events')}")
    assert len(surveys) == 3  # the first one planned the export


async def change_source(fleet):
    """Late rows for the 18th; the 16th lost, the 19th in part, also where a newer row came; the 17th doubled by rows
    that would be merged."""
    late = {"updated": "2024-04-02 00:00:00", "offset": 99}
    await fleet.run_sql(
        f"DELETE FROM {fleet.database}.events WHERE toDate(at) = '2024-03-16' "
        "OR (toDate(at) = '2024-03-19' AND number % 10 > 3)"
    )
    # Only now, since a deletion would wait for merges.
    await fleet.run_sql(f"SYSTEM STOP MERGES {fleet.database}.events")
    await fleet.insert("events", "toDateTime('2024-03-18 12:00:00', 'UTC')", 1, **late)
    await fleet.insert("events", "toDateTime('2024-03-19 12:00:00', 'UTC')", 1, **late)
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.events SELECT * FROM {fleet.database}.events WHERE toDate(at) = '2024-03-17'"
    )


async def test_tables_shows_what_the_source_says_and_a_source_that_says_nothing_hides_no_other_table(fleet):
    await fleet.make_days(days=3, rows=10)
    fleet.add_table("daily", "absent", "at")
    async with fleet.context() as context:
        await Hands(fleet, context).run(to="2024-03-19")
    await fleet.run_sql(f"DELETE FROM {fleet.database}.events WHERE toDate(at) = '2024-03-18' AND number % 10 > 3")
    settings = fleet.settings()
    seen = await compare_all(settings, fleet.name, settings.exports(fleet.name))
    assert [(one.table.rpartition(".")[2], bool(one.problem), len(one.shrunk)) for one in seen] == [
        ("events", False, 1),
        ("absent", True, 0),
    ]
    code, said, errors = await fleet.command("tables", "--source", "--all")
    assert (code, errors) == (3, "")
    heading, events, absent, shrunk, why = said.splitlines()
    assert heading.split() == ["table", "partitions", "rows", *STATES]
    assert events.split() == [f"{fleet.network}.events", "2", "20", "1", "1", "0", "1", "17", "0", "0"]
    assert absent.split() == [f"{fleet.network}.absent", "0", "0", *"???????"]
    assert shrunk.startswith(f"{fleet.network}.events: the source holds less than the table for 2024-03-18; nothing is")
    assert "has no table" in why
    code, said, _ = await fleet.command("tables", "events", "--source", "--json")
    assert code == 0
    [table] = json.loads(said)
    assert table["source"] == {
        "present": 1,
        "missing": 1,
        "stale": 0,
        "shrunk": 1,
        "empty": 17,
        "open": 0,
        "suspended": 0,
        "shrunk_ranges": [["2024-03-18", "2024-03-18"]],
        "rows_outside": 0,
    }


OUTSIDE = {
    "Nullable(DateTime)": ("NULL", (2, 0)),
    "DateTime64(3)": ("toDateTime64('1969-12-31 23:00:00', 3, 'UTC')", (0, 2)),
    "Nullable(Date32)": ("if(number % 2 = 0, NULL, toDate32('1950-01-01'))", (1, 1)),
    "Nullable(Int32)": ("if(number % 2 = 0, NULL, -5)", (1, 1)),
    "Int64": ("-1 - number", (0, 2)),
    "DateTime": ("toDateTime('2024-03-20 01:00:00', 'UTC')", (0, 0)),
    "UInt32": ("5", (0, 0)),
}


@pytest.mark.parametrize("kind", OUTSIDE)
async def test_rows_that_no_partition_can_hold_are_told_and_looked_for_only_where_there_can_be_any(fleet, kind):
    value, (nulls, before) = OUTSIDE[kind]
    chunks = "Int" in kind
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.events (at {kind}, network String) ENGINE = MergeTree ORDER BY network"
    )
    for of, rows in ((value, 2), ("7" if chunks else "toDateTime('2024-03-20 01:00:00', 'UTC')", 3)):
        for network in (fleet.network, "elsewhere"):
            await fleet.run_sql(f"INSERT INTO {fleet.database}.events SELECT {of}, '{network}' FROM numbers({rows})")
    more = {"partition": {"chunk_size": 1000}} if chunks else {"network": {"end_date": "2024-03-20"}}
    fleet.add_table("chunked" if chunks else "daily", "events", "at", **more)
    async with fleet.context() as context:
        config = context.find_table("events", fleet.network)
        source = Source(fleet.clickhouse, config, fleet.network, await read_facts(fleet.clickhouse, config))
        assert await source.outside() == Outside(nulls, before)
    asked = await fleet.queries(f"outside of {table_identifier(fleet.network, 'events')}")
    assert len(asked) == (1 if nulls or before else 0)
    code, said, errors = await fleet.command("tables", "events", "--source")
    assert (code, errors) == (0, "")
    lines = [line for line in said.splitlines() if "belong to no partition" in line]
    assert len(lines) == (1 if nulls or before else 0)
    column = "at lies below 0" if chunks else "at lies before 1970"
    for count, what in ((nulls, "at is NULL"), (before, column)):
        assert all((f"in {count} of them {what}" in line) == bool(count) for line in lines)


@pytest.mark.parametrize("stray", [10**12, 2**63 - 1, 2**64 - 1])
async def test_a_stray_row_far_behind_a_chain_is_named_with_the_way_out_and_holds_up_no_range_before_it(fleet, stray):
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.events (number UInt64, network String) ENGINE = MergeTree ORDER BY network"
    )
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.events SELECT number, '{fleet.network}' FROM numbers(3000) "
        f"UNION ALL SELECT {stray}, '{fleet.network}'"
    )
    fleet.add_table("chunked", "events", "number", partition={"chunk_size": 1000}, types={"number": "long"})
    named = f"the newest number at the source is {stray}, .*delete that row .*end_index"
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        with pytest.raises(ApplicationError, match=named) as refused:
            await hands.plan()
        report = await hands.run(from_="0", to="2999")
    assert (refused.value.type, refused.value.non_retryable, report.committed) == ("BadConfig", True, 3)
    code, said, _ = await fleet.command("tables", "events", "--source")
    assert code == 3
    assert re.search(named, " ".join(said.split()))
