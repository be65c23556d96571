"""What documents have people type for others than us runs as it stands: `temporal`, and SQL of three engines."""

import os
import re
import sys

import pytest

from activities.clients.buffer import Buffer
from activities.core.faults import Fault
from deploy.local.parts import program
from support.astyped import block_of, by_clickhouse, filled, ran
from support.buffers import SCHEMA
from support.documents import ROOT, documents, shell_lines, words_of
from support.fences import blocks
from support.lakereaders import open_pyiceberg
from support.publicreaders import anonymous_duckdb

README, PUBLIC = ROOT / "README.md", ROOT / "docs/guides/public.md"
RUNBOOKS = ROOT / "docs/runbooks"
SAYS = {
    "operator cluster health$": "SERVING",
    "task-queue describe --task-queue icefleet-export$": r"workflow +\S+@\S+ +\d+ seconds ago",
    "workflow start .*--type RequestExport ": "blocks-of-march-20",
    "workflow result --workflow-id blocks-of-march-20$": "nothing_to_do",
    "workflow start .*--type Backfill ": "first-half-of-2024",
    "workflow start .*--type ExportDue ": "ExportDue",
    "workflow list .*Running": "",
    "workflow list .*Failed": "",
    "workflow describe --workflow-id export/": "ExportTable",
    "workflow show .*--output json$": '"eventType"',
    "workflow show ": "WorkflowExecutionStarted",
}
"""Beginning of a command of Temporal's, in the order in which they are typed → what is found in its answer."""
ELSEWHERE = {
    "worker deployment describe": "tests/docs/test_commands_run.py, where workers have versions",
    "workflow start .*--type SettleLetters": "tests/workflows/test_ingest_changelog.py: the sample has no dead letter",
}


def typed():
    """Each command of Temporal's that documents have, once."""
    lines = [line for path in documents() for line in shell_lines(path) if line.text.startswith("temporal ")]
    return {" ".join(words): words for words in (words_of(line)[1:] for line in lines)}


def form_of(text):
    return next((form for form in (*SAYS, *ELSEWHERE) if re.match(form, text)), "")


def test_every_command_of_temporal_s_in_a_document_is_run_here_or_elsewhere():
    assert [text for text in typed() if not form_of(text)] == []
    assert {form_of(text) for text in typed()} == {*SAYS, *ELSEWHERE}


async def test_commands_of_temporal_s_answer_what_documents_take_for_granted(sample):
    address = f"127.0.0.1:{sample.stack.ports['temporal']}"
    variables = {**os.environ, "TEMPORAL_ADDRESS": address}
    wrong = []
    for form, says in SAYS.items():
        for words in (words for text, words in typed().items() if form_of(text) == form):
            said = await ran(str(program("temporal")), *words, **variables)
            if not re.search(says, said):
                wrong.append(f"temporal {' '.join(words)}: no {says!r} in\n{said}")
    assert wrong == []


@pytest.fixture
def held(sample):
    """Rows of the table that documents read."""
    return open_pyiceberg(sample.environment).load_table("mainnet.canonical_execution_block").scan().count()


async def test_duckdb_and_clickhouse_read_what_the_readme_and_the_guide_to_public_tables_say(sample, held):
    def here(document, mark):
        return filled(block_of(document, "sql", mark), sample.stack, sample.environment)

    with anonymous_duckdb() as duck:
        for block in (here(README, "iceberg_scan"), here(README, "ATTACH"), here(PUBLIC, "read_json")):
            answers = [duck.execute(one).fetchall() for one in block.split(";\n") if one.strip()]
            counted = answers[0 if "read_json" in block else -1]
            assert counted == [(held,)], block
        listed = str(answers[-1])
    assert "canonical_execution_block" in listed
    for document, mark in ((README, "DataLakeCatalog"), (PUBLIC, "icebergS3")):
        assert (await by_clickhouse(here(document, mark))).split()[-1] == str(held)


async def test_pyiceberg_reads_what_the_readme_says(sample, held):
    text = filled(block_of(README, "python", "load_catalog"), sample.stack, sample.environment)
    await ran(sys.executable, "-c", text)


async def test_who_committed_is_shown_by_the_lines_that_the_runbook_has(sample):
    [text] = [one for one in blocks((RUNBOOKS / "commit-conflicts.md").read_text(), "console") if "python -c" in one]
    code = text.partition('"')[2].rpartition('"')[0].replace("'production'", "'local'")
    said = await ran(sys.executable, "-c", code, **sample.variables)
    assert "icefleet.workflow-id" in said


async def test_clickhouse_s_statements_of_runbooks_show_what_failed_and_what_a_trace_asked(sample):
    with pytest.raises(Fault, match="as a test"):
        await sample.sql("SELECT throwIf(1, 'as a test')")
    await sample.clickhouse.command("SYSTEM FLUSH LOGS")
    failed, running = statements(RUNBOOKS / "faults/source.md")
    of_ours = ("user = 'icefleet'", "user = 'default'")  # the embedded engine has one user
    assert "as a test" in (await sample.sql(failed.replace(*of_ours)))[0]["exception"]
    [asking] = await sample.sql(running.replace(*of_ours))
    assert {"query_id", "elapsed", "memory_usage"} < set(asking)
    [by_trace] = [
        line.text for line in shell_lines(ROOT / "docs/guides/telemetry.md") if line.text.startswith("SELECT ")
    ]
    [one] = await sample.sql(
        "SELECT extract(log_comment, 'trace ([0-9a-f]{32})$') AS trace FROM system.query_log "
        "WHERE match(log_comment, 'trace [0-9a-f]{32}$') LIMIT 1"
    )
    found = await sample.sql(by_trace.replace("<id>", one["trace"]))
    assert found
    assert set(found[0]) == {"query_id", "query_duration_ms", "read_rows"}


def statements(document):
    """The SQL of a document, one statement each."""
    every = ";\n".join(blocks(document.read_text(encoding="utf-8"), "sql"))
    return [one.strip() for one in every.split(";\n") if one.strip()]


async def test_postgresql_s_statements_of_runbooks_and_formats_show_the_slot_and_the_room(postgres):
    await Buffer(postgres.settings, SCHEMA).install()
    await postgres.rows("SELECT pg_create_logical_replication_slot('typed', 'pgoutput')")
    asked = [one for name in ("slot-lag.md", "faults/postgresql.md") for one in statements(RUNBOOKS / name)]
    answers = {one: await postgres.rows(one) for one in asked}
    slots = [rows for one, rows in answers.items() if "pg_replication_slots" in one]
    assert [[row[:2] for row in rows if row[0] == "typed"] for rows in slots] == [[("typed", False)]] * 2
    [wait] = statements(ROOT / "docs/formats/cdc-buffer.md")
    assert await postgres.rows(wait) == [(False,)]


async def test_clickhouse_understands_the_statements_of_the_guide_to_transfers(sample):
    for one in statements(ROOT / "docs/guides/transfer.md"):
        assert await sample.sql("SELECT formatQuery({statement:String})", statement=one)
