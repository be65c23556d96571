"""`icefleet coverage` against a real table and its real source."""

import asyncio
import json
import re
import socket
from datetime import UTC, datetime


async def test_each_state_is_seen_for_what_it_is_and_without_the_source_what_the_table_knows(fleet, tmp_path):
    """Days 18, 19 and 20 are exported, 16 follows at the source, 20 is changed, 19 loses rows; nothing else has any."""
    table = await fleet.make_days(days=3, rows=10, network={})
    async with fleet.worker():
        assert (await fleet.request()).exported == 3
        await fleet.loop_ended()
    await fleet.insert("events", "toDateTime('2024-03-16 05:00:00', 'UTC')", 10, offset=100)
    await fleet.insert(
        "events", "toDateTime('2024-03-20 05:00:00', 'UTC')", 1, updated="2024-05-01 00:00:00", offset=200
    )
    lost = "toDate(at) = '2024-03-19' AND number % 2"
    await fleet.run_sql(f"ALTER TABLE {fleet.database}.events DELETE WHERE {lost} SETTINGS mutations_sync = 1")

    page = tmp_path / "coverage.html"
    page.write_text("an older page")
    code, said, errors = await fleet.command("coverage", "--from", "2024-03-14", "--html", str(page), "--json")
    assert (code, errors) == (0, "")
    [seen] = json.loads(said)
    today = datetime.now(UTC).date().isoformat()
    assert (seen["table"], seen["source_asked"], seen["newest"]) == (table, True, "2024-03-20")
    assert (seen["first"], seen["last"]) == ("2024-03-14", today)
    ranges = seen["ranges"]
    assert ranges.pop("empty")[:2] == [["2024-03-14", "2024-03-15"], ["2024-03-17", "2024-03-17"]]
    assert ranges == {
        "missing": [["2024-03-16", "2024-03-16"]],
        "there": [["2024-03-18", "2024-03-18"]],
        "shrunk": [["2024-03-19", "2024-03-19"]],
        "stale": [["2024-03-20", "2024-03-20"]],
        "open": [[today, today]],
    }
    assert re.search(r'"rows":\[\[0,86400,\d+,\d+,"E2METLSE\w+O"\]\]', page.read_text(encoding="utf-8"))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [page.name], "nothing is left beside it"

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = probe.getsockname()[1]
    fleet.point(clickhouse=nobody)
    code, said, errors = await fleet.command("coverage", "events", "--from", "2024-03-14", "--to", "2024-03-20")
    assert (code, said) == (3, f"{table}: 3 of 3 there; 4 empty; newest 2024-03-20; source not asked\n")
    assert errors.startswith(f"{table}: the source was not asked: ClickHouse {fleet.name}.default (127.0.0.1:{nobody})")
    assert len(errors.splitlines()) == 1


async def test_hours_and_chunks_are_seen_up_to_the_head_of_the_chain_and_no_table_is_nothing_there(fleet):
    hours = await fleet.make_hours(hours=6, rows=10, network={"start_date": "2024-03-20", "end_date": "2024-03-20"})
    await fleet.run_sql(f"CREATE TABLE {fleet.database}.blocks AS {fleet.database}.events")
    fleet.add_table("chunked", "blocks", "number", lag=500)
    await fleet.insert("blocks", "toDateTime('2024-03-20 00:00:00', 'UTC')", 4400, offset=1000)
    asked, unasked = await asyncio.gather(
        fleet.command("coverage", "--json"),
        fleet.command("coverage", "net*.[ae]vents", "--no-source", "--to", "2024-03-20"),
    )
    code, said, errors = asked
    assert (code, errors) == (0, "")
    assert unasked == (0, f"{hours}: 0 of 24 there; 24 missing: 2024-03-20T00 … 2024-03-20T23; source not asked\n", "")
    seen = {one["table"]: one for one in json.loads(said)}
    assert seen[hours]["ranges"] == {
        "empty": [["2024-03-20T00", "2024-03-20T17"]],
        "missing": [["2024-03-20T18", "2024-03-20T23"]],
    }
    blocks = seen[f"{fleet.network}.blocks"]
    assert blocks["ranges"] == {"empty": [["0", "0"]], "missing": [["1000", "3000"]], "open": [["4000", "5000"]]}
