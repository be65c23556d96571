"""What people see of a pipeline."""

import pytest

from starter.cdc_shown import show_status
from worker.cdc_status import PipelineReport, SourceStatus, TableLine
from worker.loop_status import LoopStatus

LINE = TableLine("public.t", "cdc.t", "active", "", "0/10", "0/10", 3, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("state", "lag_bytes", "shown"),
    [("paused", 4096, True), ("retrying", 1, True), ("running", 4096, False), ("paused", 0, False)],
)
def test_a_table_is_not_said_to_have_no_lag_while_what_changes_at_the_source_is_not_captured(
    state, lag_bytes, shown, monkeypatch, capsys
):
    monkeypatch.setenv("COLUMNS", "250")
    loops = {"capture": LoopStatus("c", state), "ingest": LoopStatus("i", "running")}
    source = SourceStatus("slot", log_lsn="0/2000", confirmed_lsn="0/1000", lag_bytes=lag_bytes)
    show_status(PipelineReport("shop", loops, source, captured_lsn="0/1000", tables=[LINE]))
    said = capsys.readouterr().out
    assert "captured to" in said
    assert ("none + uncaptured" in said) == shown


def test_what_an_installation_left_is_said_below_the_source(capsys):
    source = SourceStatus("new", problem="there is no such slot", note="the buffer was filled from slot old")
    show_status(PipelineReport("shop", {}, source))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:3] == ["source   slot new: there is no such slot", "the buffer was filled from slot old"]
