"""Text that is no text stops its partition, by the column's name and with a way out that works."""

import pytest

from support.fleet import Fleet

BAD = "unhex('61ff')"
COLUMNS = {
    "plain": ("String", "'añ'", BAD, "binary"),
    "cheap": ("LowCardinality(String)", "'añ'", BAD, "binary"),
    "maybe": ("Nullable(String)", "NULL", BAD, "binary"),
    "many": ("Array(String)", "['a', 'ñ']", f"['a', {BAD}]", "list<binary>"),
    "named": ("Map(String, Array(String))", "map('a', ['ñ'])", f"map('a', [{BAD}])", "map<binary, list<binary>>"),
    "fixed": ("FixedString(2)", "'ab'", BAD, "fixed[2]"),
}


async def make(fleet: Fleet, profile: str, *, types: dict[str, str] | None = None) -> None:
    columns = ", ".join(f"{name} {kind}" for name, (kind, *_) in COLUMNS.items())
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.texts (at DateTime, network String, {columns}) ENGINE = MergeTree ORDER BY at"
    )
    network = {"start_date": "2024-03-19", "end_date": "2024-03-20"}
    fleet.add_table("daily", "texts", "at", network=network, profile=profile, types=types or {})


async def insert(fleet: Fleet, day: str, *wrong: str) -> None:
    values = ", ".join(bad if name in wrong else good for name, (_, good, bad, _) in COLUMNS.items())
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.texts SELECT toDateTime('{day} 00:00:00', 'UTC'), '{fleet.network}', {values}"
    )


@pytest.mark.parametrize("profile", ["portable", "as_published"])
async def test_text_that_is_not_utf8_is_refused_by_column_and_count_and_the_way_out_carries_it(fleet, profile):
    # Under as_published a FixedString is bytes anyway.
    refused = [name for name in COLUMNS if name != "fixed" or profile == "portable"]
    await make(fleet, profile)
    await insert(fleet, "2024-03-19")
    await insert(fleet, "2024-03-20", *COLUMNS)
    await insert(fleet, "2024-03-20", *COLUMNS)
    await insert(fleet, "2024-03-20")
    async with fleet.worker():
        report = await fleet.request("texts")
        assert (report.status, report.exported, report.failed) == ("partial", 1, 1)
        (failure,) = report.failures
        assert (failure.partition, failure.cause, failure.who) == ("2024-03-20", "UnsupportedType", "operator")
        for name in refused:
            assert f"column {name} in 2 rows (write `{name}: {COLUMNS[name][3]}`)" in failure.message
        assert ("column fixed" in failure.message) == ("fixed" in refused)
    assert fleet.files("texts") == [("2024/3/19.parquet", 1)]


async def test_the_ways_out_carry_text_that_is_not_utf8_as_it_is(fleet):
    await make(fleet, "portable", types={name: way_out for name, (*_, way_out) in COLUMNS.items()})
    await insert(fleet, "2024-03-20", *COLUMNS)
    async with fleet.worker():
        assert (await fleet.request("texts")).status == "complete"
    (row,) = fleet.table("texts").scan().to_arrow().select(list(COLUMNS)).to_pylist()
    bad = b"a\xff"
    assert row == {
        "plain": bad,
        "cheap": bad,
        "maybe": bad,
        "many": [b"a", bad],
        "named": [(b"a", [bad])],
        "fixed": bad,
    }
