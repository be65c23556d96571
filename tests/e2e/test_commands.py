"""Commands as a user types them: what they print, where, and the exit code that a script goes by."""

import asyncio
import json
import re
import signal
import sys
from datetime import timedelta
from pathlib import Path

import yaml
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest

from support.fleet import eventually
from support.tcpproxy import TcpFaults
from worker.running import running
from worker.serving import export_rooms

REPORT_FIELDS = {
    "removed",
    "moved",
    "cursor",
    "put_off",
    "suspended",
    "suspensions",
    "status",
    "message",
    "expected",
    "present",
    "missing",
    "stale",
    "forced",
    "shrunk",
    "empty",
    "open",
}
REPORT_FIELDS |= {"exported", "already_there", "rows", "bytes", "snapshots", "failed", "failures", "cause", "who"}


async def test_an_export_says_what_it_did_and_a_second_one_that_nothing_is_left(fleet):
    table = await fleet.make_days(days=3, rows=100)
    async with fleet.worker():
        code, said, _ = await fleet.command("export", "events", "-n", fleet.network, "--dry-run", "--json")
        plan = json.loads(said)
        assert (code, plan["status"], plan["missing"], plan["snapshots"]) == (0, "dry_run", 3, [])
        assert fleet.table() is None, "a dry run makes no table"

        code, said, errors = await fleet.command("export", "events", "-n", fleet.network, "--wait")
        assert (code, errors) == (0, "")
        assert f"{table}: 3/3 partitions, 300 rows" in said
        assert f"3 partitions with 300 rows committed to {table}" in said
        assert "\x1b" not in said, "no colours and bars without a terminal"

        code, said, errors = await fleet.command("export", "events", "-n", fleet.network, "--wait", "--json")
        report = json.loads(said)
        assert (code, errors, set(report)) == (0, "", REPORT_FIELDS)
        assert (report["status"], report["present"]) == ("nothing_to_do", 3)

        code, said, _ = await fleet.command("export", "events", "-n", fleet.network, "--date", "2024-03-19", "--json")
        asked = json.loads(said)
        assert (code, asked["loop"]) == (0, f"export/{fleet.name}/{table}")
        report = await fleet.temporal.get_workflow_handle(asked["workflow_id"]).result()
        assert report["status"] == "nothing_to_do"

    as_json, shown, none = await asyncio.gather(
        *(fleet.command("tables", *words) for words in (("--json",), (), ("nonesuch",)))
    )
    [seen] = json.loads(as_json[1])
    wanted = {"table": table, "exists": True, "partitions": 3, "rows": 300, "newest": "2024-03-20", "empty": 17}
    assert as_json[0] == 0
    assert wanted.items() <= seen.items()
    assert (shown[0], len(shown[1].splitlines())) == (0, 2)
    assert re.search(rf"^{re.escape(table)} +3 +300 +17 +0 +0 +2024-03-18 +2024-03-20", shown[1], re.MULTILINE)
    assert none == (2, "", f"error: no table of environment {fleet.name} has 'nonesuch' in its name\n")


async def test_a_partition_that_fails_is_named_and_the_exit_code_is_3(fleet):
    await fleet.make_days(days=3, rows=10, types={"number": "long"})
    at = "toDateTime('2024-03-19 05:00:00', 'UTC')"
    await fleet.insert("events", at, 1, offset=2**63)
    async with fleet.worker():
        code, said, errors = await fleet.command("export", "events", "-n", fleet.network, "--wait")
    assert (code, errors) == (3, "")
    assert "2 partitions with 20 rows committed" in said
    assert re.search(
        r"^  failed 2024-03-19: UnsupportedType: \S+ partition 2024-03-19: column number holds a value that does not",
        said,
        re.MULTILINE,
    ), said


async def test_a_forced_export_names_what_has_shrunk_and_follows_the_source_only_with_leave_to_do_so(fleet):
    table = await fleet.make_days(days=2, rows=10)
    asked = ("export", "events", "-n", fleet.network, "--from", "2024-03-01", "--force", "--wait")
    async with fleet.worker():
        await fleet.request()
        await fleet.run_sql(
            f"ALTER TABLE {fleet.database}.events DELETE WHERE number >= 14 SETTINGS mutations_sync = 1"
        )
        code, said, errors = await fleet.command(*asked)
        assert (code, errors, [rows for _, rows in fleet.files()]) == (0, "", [10, 10])
        assert "the source holds less than the table for 2024-03-19; nothing was replaced\n" in said
        assert "`--force --allow-shrink` makes the table follow the source" in said
        code, said, errors = await fleet.command(*asked, "--allow-shrink")
    assert (code, errors, [rows for _, rows in fleet.files()]) == (0, "", [4, 10])
    assert f"14 rows committed to {table}" in said
    assert "the source holds less than the table for 2024-03-19\n" in said
    assert "nothing was replaced" not in said


async def test_what_cannot_be_is_refused_by_name_with_exit_code_2(fleet):
    await fleet.make_days(days=1, rows=1)
    async with fleet.worker():
        asked = {
            "no table 'event' in config; did you mean `events`?": ("event", "-n", fleet.network),
            "table 'events' has no network 'nonet'": ("events", "-n", "nonet"),
            "'2024-13-01' is not a date": ("events", "-n", fleet.network, "--date", "2024-13-01"),
            "the range ends before it starts": (
                *("events", "-n", fleet.network),
                *("--from", "2024-03-20", "--to", "2024-03-19"),
            ),
        }
        answers = await asyncio.gather(*(fleet.command("export", *words, "--wait") for words in asked.values()))
    for wrong, (code, said, errors) in zip(asked, answers, strict=True):
        assert (code, said) == (2, ""), errors
        assert wrong in errors
        assert len(errors.splitlines()) == 1


async def test_a_queue_that_nobody_serves_is_named_by_the_command_whose_work_waits_there(fleet):
    await fleet.make_days(days=1, rows=1)
    async with fleet.context() as context, running(fleet.workers(["control"], export_rooms(context))):
        code, said, errors = await fleet.command("export", "events", "-n", fleet.network)
    assert code == 0
    # Nobody waits for it, so what follows it is said as it can be typed.
    assert said.endswith(f"' --follow --address {fleet.settings().environment(fleet.name).temporal.address}\n")
    assert errors == (
        f"no worker listens on task queue {fleet.queue}-default: the request waits for one "
        "(icefleet worker --serve export.default)\n"
    )


async def test_without_a_worker_there_is_a_hint_and_ctrl_c_withdraws_the_request(fleet):
    await fleet.make_days(days=1, rows=1)
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("icefleet")),
        *("export", "events", "-n", fleet.network, "--wait"),
        env=fleet.variables(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    hint = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
    assert hint == f"no worker listens on task queue {fleet.queue}: the request waits for one (icefleet worker)\n"
    process.send_signal(signal.SIGINT)
    output, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, output) == (130, b"")
    assert b"withdrawing" in errors
    assert b"Traceback" not in errors
    async with fleet.worker():
        [request] = [found async for found in fleet.temporal.list_workflows(f"TaskQueue = '{fleet.queue}'")]

        async def ended() -> str:
            status = (await fleet.temporal.get_workflow_handle(request.id).describe()).status
            return status.name if status is not None and status.name != "RUNNING" else ""

        assert await eventually(ended) == "CANCELED"
    assert fleet.files() == []


async def test_watch_prints_what_was_and_what_comes_and_ends_after_as_many_as_asked(fleet):
    table = await fleet.make_days(days=1, rows=5)
    async with TcpFaults(fleet.stack.ports["nats"]) as wire, fleet.worker():
        await fleet.request()
        code, said, _ = await fleet.command("watch", table, "--all", "--count", "1", "--json")
        event = json.loads(said)
        assert (code, event["table"], event["partitions"][0]["rows"]) == (0, table, "5")
        code, said, _ = await fleet.command("watch", f"{fleet.network}.*", "--all", "--count", "1")
        assert code == 0
        assert re.fullmatch(rf"\S+  {re.escape(table)}  append #1  1 files, 5 rows: 2024-03-20\n", said)

        # NATS goes away under a watcher, which says so instead of waiting for ever or ending as if all were well.
        fleet.point(nats=wire.port)
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("icefleet")),
            *("watch", table, "--all"),
            env=fleet.variables(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert table.encode() in await asyncio.wait_for(process.stdout.readline(), 30)
        await wire.refuse()
        wire.cut()
        _, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 1
        assert re.fullmatch(rf"error: NATS nats://127\.0\.0\.1:{wire.port}.*\n", errors.decode())


async def test_sql_answers_rows_and_refuses_what_is_wrong(fleet):
    table = await fleet.make_days(days=1, rows=5)
    async with fleet.worker():
        await fleet.request()
    asked = [
        (f'SELECT count(*) AS n, max(number) AS top, min("at") AS oldest FROM {table}', "--json"),
        (f"SELECT count(*) AS n FROM {table}",),
        (f"SELECT nonsense FROM {table}",),
        (f"SELECT count(*) FROM {fleet.network}.nothing",),
        (f"SELECT count(*) FROM {table}", "--as-of", "2020-01-01 00:00:00"),
        (f"SELECT count(*) FROM {table}", "--as-of", "12"),
        (f"SELECT count(*) FROM {table}", "--as-of", "last week"),
        (f"SELECT count(*) FROM lake.{table}", "--as-of", "2030-01-01 00:00:00"),
    ]
    said = await asyncio.gather(*(fleet.command("sql", *words) for words in asked))
    assert said[0][0] == 0
    assert json.loads(said[0][1]) == [{"n": 5, "top": "4", "oldest": "2024-03-20 00:00:00+00:00"}]
    assert said[1][:2] == (0, "n\n5\n")
    wrong = [
        "nonsense",
        "nothing",
        "has no snapshot 2020-01-01",
        "has no snapshot 12",
        "'last week' is neither",
        "--as-of",
    ]
    for words, (code, output, errors) in zip(wrong, said[2:], strict=True):
        assert (code, output) == (2, ""), errors
        assert words in errors
        assert errors.startswith("error: ")
        assert "Traceback" not in errors


async def test_config_check_says_what_is_wrong_and_where(fleet):
    await fleet.make_days(days=1, rows=1)
    code, said, _ = await fleet.command("config", "check", "-e", fleet.name, "--json")
    assert (code, json.loads(said)["ok"]) == (0, True)
    tables = fleet.directory / "tables.yaml"
    tables.write_text(tables.read_text().replace("start_date: '2024-03-01'", "start_date: '2024-03-41'"))
    code, said, errors = await fleet.command("config", "check")
    assert (code, said) == (1, "")
    assert re.search(r"tables\.yaml:\d+ .*start_date.*2024-03-41", errors), errors
    code, said, errors = await fleet.command("tables")
    assert (code, said) == (2, "")
    assert "2024-03-41" in errors
    assert "Traceback" not in errors


async def test_a_worker_in_a_namespace_that_is_not_prepared_names_the_command_that_prepares_it(fleet):
    namespace = f"bare-{fleet.name}"
    await fleet.temporal.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=_duration(timedelta(days=1)))
    )
    path = fleet.directory / "environments.yaml"
    written = yaml.safe_load(path.read_text())
    written["environments"][fleet.name]["temporal"]["namespace"] = namespace
    path.write_text(yaml.safe_dump(written))

    async def refusal() -> str:
        code, _, errors = await fleet.command("worker")
        assert code == 1
        return errors if "search attributes" in errors else ""

    errors = await eventually(refusal)  # a new namespace is known everywhere after a while
    assert "lacks the search attributes IcefleetEnvironment, IcefleetTable, IcefleetNetwork" in errors
    assert "icefleet temporal init" in errors
    assert "Traceback" not in errors
    said = [await fleet.command("temporal", "init") for _ in range(2)]
    assert said == [
        (0, "registered IcefleetEnvironment, IcefleetTable, IcefleetNetwork\n", ""),
        (0, "all search attributes are registered\n", ""),
    ]


def _duration(time: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(time)
    return duration


async def test_a_second_seed_changes_nothing(sample):
    before = await sample.sql("SELECT sum(total_rows) AS n FROM system.tables WHERE name LIKE '%_local'")
    code, said, errors = await sample.command("seed", "--scale", "0.34", "--json")
    assert (code, json.loads(said)["created"]) == (0, False), errors
    code, said, errors = await sample.command("seed", "--scale", "2")
    assert (code, said) == (2, "")
    assert "--replace" in errors
    assert await sample.sql("SELECT sum(total_rows) AS n FROM system.tables WHERE name LIKE '%_local'") == before
