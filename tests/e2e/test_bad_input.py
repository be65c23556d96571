"""What cannot be ends as Failed within seconds, with words that say what is wrong and what to do."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from activities.contracts.export import LOOP_WORKFLOW
from support.fleet import Fleet
from support.refusals import asking, refusal

FIELDS = (
    "table, network, environment, from, to, force, allow_shrink, dry_run, oldest_first, priority, max_partitions, after"
)
ONE_OBJECT = f"the input must be one JSON object with the fields {FIELDS}"

MEND_NAMES = (
    "correct the names in config, or take out what the source has dropped (never a partition or network column: bring "
    "it back, or export to a new table)"
)


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
async def busy(stack, tmp_path_factory, monkeypatch_module) -> AsyncIterator[Fleet]:
    """One fleet with a good table and many bad ones, and a worker."""
    monkeypatch_module.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
    async with Fleet(stack, tmp_path_factory.mktemp("config")) as fleet:
        await fleet.make_days(days=2, rows=10)
        await add_bad_tables(fleet)
        async with fleet.worker():
            yield fleet


async def add_bad_tables(fleet: Fleet) -> None:
    columns = {
        "no_partition_column": "at DateTime",
        "no_redacted_column": "at DateTime",
        "no_policy": "at DateTime, total AggregateFunction(sum, UInt64)",
        "undecided": "at DateTime, meta_client_ip IPv6",
        "text_partition": "at String",
        "by_hour": "at DateTime",
        "by_day_only": "at Date",
        "unsigned": "at UInt64",
        "by_number": "at UInt32",
    }
    for name, shape in columns.items():
        await fleet.run_sql(
            f"CREATE TABLE {fleet.database}.{name} ({shape}, network String) ENGINE = MergeTree ORDER BY tuple()"
        )
    for name in ("no_policy", "undecided", "text_partition", "absent"):
        fleet.add_table("daily", name, "at")
    fleet.add_table("daily", "no_partition_column", "slot_start_date_time")
    fleet.add_table("daily", "no_redacted_column", "at", redacted_columns=["meta_client_ip"])
    for name in ("by_hour", "by_day_only"):
        fleet.add_table("hourly", name, "at")
    for name in ("unsigned", "by_number"):
        fleet.add_table("chunked", name, "at", types={"at": "long"} if name == "by_number" else {})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], f"{ONE_OBJECT}; it is None"),
        ([None], f"{ONE_OBJECT}; it is None"),
        (["events"], f"{ONE_OBJECT}; it is 'events'"),
        ([["events", "mainnet"]], f"{ONE_OBJECT}; it is ['events', 'mainnet']"),
        ([7], f"{ONE_OBJECT}; it is 7"),
        (["events", "mainnet"], f"{ONE_OBJECT}; there are 2 inputs"),
        ([{"table": "a", "network": "b"}] * 2, f"{ONE_OBJECT}; there are 2 inputs"),
    ],
    ids=["nothing", "null", "a text", "a list", "a number", "two texts", "two objects"],
)
async def test_a_request_that_is_not_one_object_fails_with_the_fields_that_it_should_have(busy, inputs, message):
    assert await refusal(busy, *inputs) == ("BadRequest", message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": None}, "field 'network' is missing; it must be a text"),
        ({"table": 7}, "field 'table' must be a text; it is 7"),
        ({"force": "yes"}, "field 'force' must be true or false; it is 'yes'"),
        ({"from": 1.5}, "field 'from' must be a text or a whole number; it is 1.5"),
        ({"dryrun": True}, "unknown field 'dryrun': did you mean 'dry_run'?"),
        ({"when": "2024-03-20"}, f"unknown field 'when': the fields are {FIELDS}"),
        (
            {"table": None, "tabel": "events", "priority": "high"},
            (
                "unknown field 'tabel': did you mean 'table'?; field 'table' is missing; it must be a text; "
                "field 'priority' must be a whole number or null; it is 'high'"
            ),
        ),
    ],
    ids=str,
)
async def test_a_wrong_field_is_named(busy, fields, message):
    assert await refusal(busy, asking(busy, **fields)) == ("BadRequest", message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"table": "evnets"}, "no table 'evnets' in config; did you mean `events`?"),
        ({"network": "mainnet"}, "table 'events' has no network 'mainnet'; known: `{network}`"),
        (
            {"environment": "staging"},
            (
                "environment 'staging': the workers of this task queue serve '{environment}'; mend the field "
                "'environment', or start the request where workers run with --environment staging"
            ),
        ),
        (
            {"from": "2024-03-20", "to": "2024-03-19"},
            "the range ends before it starts: from 2024-03-20 to 2024-03-19; exchange the two",
        ),
        ({"from": "20.03.2024"}, "'20.03.2024' is not a date: write it as 2024-03-20 (UTC)"),
        ({"to": "2024-02-30"}, "'2024-02-30' is not a date: write it as 2024-03-20 (UTC)"),
        ({"from": "2024-03-20T05"}, "'2024-03-20T05' is not a date: write it as 2024-03-20 (UTC)"),
        ({"from": 20240320}, "'20240320' is not a date: write it as 2024-03-20 (UTC)"),
        (
            {"table": "by_hour", "to": "2024-03-20T24"},
            "'2024-03-20T24' is not an hour: write it as 2024-03-20T05 (UTC)",
        ),
        (
            {"table": "by_number", "from": "2024-03-20"},
            "'2024-03-20' is not a value of at: write a whole number from 0, such as 20000000",
        ),
        ({"table": "by_number", "to": -1}, "'-1' is not a value of at: write a whole number from 0, such as 20000000"),
        (
            {"table": "by_number", "from": 1999, "to": 1998},
            "the range ends before it starts: from 1999 to 1998; exchange the two",
        ),
    ],
    ids=str,
)
async def test_what_the_config_does_not_have_or_the_table_cannot_mean_is_refused_at_the_door(busy, fields, message):
    expected = message.format(network=busy.network, environment=busy.name)
    assert await refusal(busy, asking(busy, **fields)) == ("BadRequest", expected)
    loop = asking(busy, **fields)
    started = [found async for found in busy.temporal.list_workflows(f"WorkflowId = '{loop_of(busy, loop['table'])}'")]
    assert started == []


def loop_of(fleet: Fleet, table: str) -> str:
    return f"export/{fleet.name}/{fleet.network}.{table}"


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        (
            "no_partition_column",
            "BadConfig",
            f"no_partition_column: the source has no partition column slot_start_date_time; {MEND_NAMES}",
        ),
        (
            "no_redacted_column",
            "BadConfig",
            f"no_redacted_column: the source has no redacted column meta_client_ip; {MEND_NAMES}",
        ),
        (
            "no_policy",
            "UnsupportedType",
            (
                "no_policy: column total: AggregateFunction(sum, UInt64) has no lossless way into Iceberg: "
                "leave the column out of the source's table, or convert it there"
            ),
        ),
        (
            "undecided",
            "PrivacyUndecided",
            (
                "undecided: meta_client_ip may say who or where somebody is, and nobody decided; "
                "name each under redacted_columns or allowed_columns"
            ),
        ),
        (
            "text_partition",
            "BadConfig",
            (
                "text_partition: partition column at is String, but partitions that are daily need "
                "Date, Date32, DateTime or DateTime64"
            ),
        ),
        (
            "by_day_only",
            "BadConfig",
            "by_day_only: partition column at is Date, but partitions that are hourly need DateTime or DateTime64",
        ),
        (
            "unsigned",
            "BadConfig",
            (
                "unsigned: partition column at would be decimal(20, 0) in Iceberg, and integer partitions need int or "
                "long; write `types: {{at: long}}` for the table in tables.yaml"
            ),
        ),
        (
            "absent",
            "SourceRefused",
            (
                "table absent: the source {environment}.default has no table {database}.absent that this user may see; "
                "mend name or database in tables.yaml, or grant the user its rights"
            ),
        ),
    ],
    ids=lambda value: value if str(value).isidentifier() else "",
)
async def test_a_table_that_cannot_be_exported_fails_its_request_with_table_column_and_way_out(
    busy, table, kind, message
):
    expected = message.format(environment=busy.name, database=busy.database)
    assert await refusal(busy, asking(busy, table=table)) == (kind, expected)
    assert busy.table(table) is None


async def test_a_loop_started_by_hand_under_another_id_names_the_door(busy):
    state = {"environment": busy.name, "table": "events", "network": busy.network}
    assert await refusal(busy, state, workflow=LOOP_WORKFLOW, identity="my-export") == (
        "WrongDoor",
        (
            f"ExportTable runs only as '{loop_of(busy, 'events')}', so that a table has one writer; this is "
            "'my-export'. Start RequestExport: it brings your request to that loop"
        ),
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            [],
            "the input must be one JSON object with the fields environment, table, network, active, served, looks; it",
        ),
        (
            ["a", "b"],
            "the input must be one JSON object with the fields environment, table, network, active, served, looks; ",
        ),
        ([{"environment": "local", "table": "t"}], "field 'network' is missing; it must be a text"),
        ([{"environment": "e", "table": "t", "network": "n", "served": 1}], "field 'served' must be a list; it is 1"),
    ],
    ids=["nothing", "two", "a field missing", "a field mistyped"],
)
async def test_a_loop_started_by_hand_with_a_bad_input_fails_too(busy, inputs, message):
    kind, said = await refusal(busy, *inputs, workflow=LOOP_WORKFLOW)
    assert (kind, said[: len(message)]) == ("BadRequest", message)


@pytest.mark.parametrize("active", [1, {"request": "due"}, {"submitted": {"id": "1"}}], ids=str)
async def test_a_loop_started_by_hand_with_requests_that_are_none_fails_too(busy, active):
    state = {"environment": busy.name, "table": "events", "network": busy.network, "active": [active]}
    kind, said = await refusal(busy, state, workflow=LOOP_WORKFLOW, identity=loop_of(busy, "events"))
    assert kind == "BadRequest"
    assert said.startswith("field 'active' is what a loop hands to its successor, and this is not: ")


async def test_the_command_says_what_cannot_be_in_one_line_and_leaves_with_2(busy):
    cases = {
        ("evnets", "-n", busy.network): "no table 'evnets' in config; did you mean `events`?",
        ("events", "-n", "mainnet"): f"table 'events' has no network 'mainnet'; known: `{busy.network}`",
        ("events", "-n", busy.network, "--from", "2024-03-20", "--to", "2024-03-19"): (
            "the range ends before it starts: from 2024-03-20 to 2024-03-19; exchange the two"
        ),
        ("events", "-n", busy.network, "--date", "soon"): ("'soon' is not a date: write it as 2024-03-20 (UTC)"),
        ("events", "-n", busy.network, "-e", "staging"): f"no environment 'staging'; known: `{busy.name}`",
        ("events", "-n", busy.network, "--date", "2024-03-20", "--to", "2024-03-20"): (
            "say either --date, or --from and --to"
        ),
    }
    answers = await asyncio.gather(*(busy.command("export", *words, "--wait") for words in cases))
    for (code, output, errors), expected in zip(answers, cases.values(), strict=True):
        assert (code, output, errors) == (2, "", f"error: {expected}\n")


async def test_a_tables_file_with_a_tab_is_refused_with_its_line_by_every_command(fleet):
    await fleet.make_days(days=1, rows=10)
    file = fleet.directory / "tables.yaml"
    file.write_text("groups:\n  daily:\n\ttables: []\n")
    answers = await asyncio.gather(
        fleet.command("export", "events", "-n", fleet.network),
        fleet.command("worker"),
        fleet.command("config", "check"),
    )
    # A check that finds something has done its work: 1. For the others the config cannot be: 2.
    assert [code for code, _, _ in answers] == [2, 2, 1]
    for _, output, errors in answers:
        said = errors or output
        assert "Traceback" not in said
        assert "tables.yaml:3" in said
        assert "tab" in said


async def test_a_refused_request_is_no_report_for_a_script_either(busy):
    code, output, errors = await busy.command(
        "export", "events", "-n", busy.network, "--to", "soon", "--wait", "--json"
    )
    assert (code, output) == (2, "")
    assert errors == "error: 'soon' is not a date: write it as 2024-03-20 (UTC)\n"


async def test_a_good_request_is_a_report_for_a_script(busy):
    code, output, errors = await busy.command("export", "events", "-n", busy.network, "--wait", "--json")
    report = json.loads(output)
    assert (code, errors) == (0, "")
    assert (report["status"], report["exported"], report["rows"], report["failures"]) == ("complete", 2, 20, [])
