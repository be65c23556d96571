"""Tables on a terminal: what stands in them is what there is, and all of it."""

import pytest
from rich.console import Console

from starter import common
from starter.cdc_shown import show_letters, show_status
from starter.mirrors_shown import show_all, show_one
from starter.sql import table_of
from worker.cdc_status import PipelineReport, TableLine
from worker.loop_status import LoopStatus
from worker.mirror_status import MirrorReport, TablesStatus

LETTER = {
    "event_id": 7,
    "schema": "public",
    "name": "orders",
    "operation": "insert",
    "key": {"id": "[/red]"},
    "commit_lsn": "0/1",
    "ordinal": 0,
    "state": "waiting",
    "reason": "",
    "behind": None,
    "cause": "column at: [bold]infinity[/bold] is no [/time]",
}


@pytest.fixture
def shown(monkeypatch, capsys):
    """What a command says to a terminal of so many columns."""

    def said(width, work):
        monkeypatch.setattr(common, "console", Console(width=width))
        work()
        return capsys.readouterr().out

    return said


def test_brackets_in_rows_and_keys_are_text_and_neither_vanish_nor_end_the_command(shown):
    rows = shown(80, lambda: common.show_table(table_of(["a", "b"], [("[/x]", "[bold]hi[/bold]")])))
    letters = shown(250, lambda: show_letters([LETTER], 100))
    assert rows.split() == ["a", "b", "[/x]", "[bold]hi[/bold]"]
    assert "id=[/red]" in letters
    assert LETTER["cause"] in letters


def test_states_names_and_lags_are_whole_in_a_terminal_that_is_too_narrow_for_them(shown):
    tables = TablesStatus(rows=1234567, watermark="7345404537953498266", lag_events=42, lag_seconds=600)
    mirror = MirrorReport("shop.orders", "cdc.public_orders_changelog", tables, LoopStatus("merge", "waiting"))
    table = TableLine("public.orders", "cdc.c", "stopped", "", "0/D09CD10", "0/BB92868", 3, 0, 2, 705, 6.4, 0, 0)
    listed = shown(60, lambda: show_all([mirror])).splitlines()
    status = shown(60, lambda: show_status(PipelineReport("shop", {}, None, tables=[table])))
    assert listed[1].split() == [
        *("shop.orders", "cdc.public_orders_changelog", "waiting", "7345404537953498266", "never"),
        *("1,234,567", "42", "10", "min"),
    ]
    assert "public.orders  cdc.c      stopped  0/D09CD10" in status


def test_a_mirror_is_not_said_to_have_no_lag_where_nobody_can_tell_what_waits(shown):
    tables = TablesStatus("WatermarkLost: its changelog was rolled back", watermark="7", rows=3)
    mirror = MirrorReport("shop.orders", "cdc.c", tables, LoopStatus("merge", "waiting"))
    listed = shown(250, lambda: show_all([mirror])).splitlines()
    one = shown(250, lambda: show_one(mirror)).splitlines()
    assert listed[1].split()[-3:] == ["3", "unknown", "unknown"]
    assert "  lag       unknown" in one


def test_a_mirror_whose_loop_is_gone_says_what_starts_it_though_its_tables_are_well(shown):
    loop = LoopStatus("merge", "absent", "its last run is terminated; `icefleet mirrors resume` starts it")
    mirror = MirrorReport("shop.orders", "cdc.c", TablesStatus(rows=3), loop)
    listed = shown(250, lambda: show_all([mirror])).splitlines()
    assert listed[-1] == f"shop.orders is absent: {loop.cause}"


def test_a_value_that_is_wider_than_the_terminal_is_folded_and_not_cut(shown):
    said = shown(80, lambda: common.show_table(table_of(["n", "text"], [(12345678901234567890, "x" * 300)])))
    assert "12345678901234567890" in said
    assert said.count("x") == 300 + len("text") - 3
    assert max(len(line) for line in said.splitlines()) <= 80
