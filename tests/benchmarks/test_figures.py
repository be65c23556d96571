"""The figures of the documents come from what was measured, and from nowhere else."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path("benchmarks").resolve()))

import backfill
import export
import fleet
import ingest
import soak
from figures import ALL_FIGURES, BEGIN, END, MAIN, README, lines_of, main_figures, rewrite
from harness import RESULTS, Figure, report

from support.manifests import KINDS

MACHINE = {"cores": 2, "memory_gb": 25.3, "processor": "x86_64", "python": "3.11.7", "scale": 1.0}
FIGURE = {
    "name": "export.x",
    "value": 1.2345,
    "unit": "times",
    "better": "lower",
    "aim": 1.15,
    "command": "make bench-x",
}


def test_figures_stand_between_the_markers_with_aim_and_command():
    text = rewrite(f"before\n{BEGIN}\nold\n{END}\nafter\n", [{"machine": MACHINE, "figures": [FIGURE]}])
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "| `export.x` | 1.23 times | ≤ 1.15 (missed) | `make bench-x` |" in text
    assert "On 2 cores and 25.3 GB (x86_64), Python 3.11.7; medians:" in text


def test_a_second_writing_changes_nothing():
    documents = [
        {"machine": {**MACHINE, "scale": 0.1}, "figures": [FIGURE, {**FIGURE, "aim": None, "better": "higher"}]}
    ]
    once = rewrite(f"{BEGIN}\n{END}", documents)
    assert rewrite(once, documents) == once
    assert "at 0.1 of the full size" in once


def test_what_one_machine_measured_is_one_table():
    documents = [{"machine": MACHINE, "figures": [{**FIGURE, "name": name}]} for name in ("export.x", "fleet.y")]
    other = {"machine": {**MACHINE, "cores": 64}, "figures": [FIGURE]}
    assert len([line for line in lines_of(documents) if line.startswith("On ")]) == 1
    assert [line for line in lines_of([*documents, other]) if line.startswith("On ")] == [
        "On 2 cores and 25.3 GB (x86_64), Python 3.11.7; medians:",
        "On 64 cores and 25.3 GB (x86_64), Python 3.11.7; medians:",
    ]


def test_the_readme_shows_what_has_an_aim_and_what_people_ask_for_and_nothing_else():
    figures = [FIGURE, {**FIGURE, "name": "a.detail", "aim": None}, {**FIGURE, "name": MAIN[0], "aim": None}]
    documents = [{"machine": MACHINE, "figures": figures}, {"machine": MACHINE, "figures": figures[1:2]}]
    assert main_figures(documents) == [{"machine": MACHINE, "figures": [figures[0], figures[2]]}]


def test_a_document_without_markers_is_refused():
    with pytest.raises(ValueError, match="lacks the markers"):
        rewrite("nothing", [])


def test_the_readme_has_each_figure_that_people_ask_for_and_the_other_document_has_all_of_the_readme():
    short, whole = (path.read_text().partition(BEGIN)[2].partition(END)[0] for path in (README, ALL_FIGURES))
    rows = [line for line in short.splitlines() if line.startswith("| `")]
    assert {row.split("`")[1] for row in rows}.issuperset(MAIN)
    assert set(rows) <= set(whole.splitlines())


def test_a_run_writes_machine_and_figures_with_unit_aim_and_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SCALE", "0.1")
    figures = [
        Figure("export.x", 1.2, "times", "lower", 1.15, "make bench-x"),
        Figure("y", 3, "MB", "lower", None, "c"),
    ]
    report("some", figures, results=tmp_path)
    written = json.loads((tmp_path / "scaled" / "some.json").read_text())
    assert written["machine"]["scale"] == 0.1
    assert written["figures"] == [
        {"name": "export.x", "value": 1.2, "unit": "times", "better": "lower", "aim": 1.15, "command": "make bench-x"},
        {"name": "y", "value": 3, "unit": "MB", "better": "lower", "aim": None, "command": "c"},
    ]
    assert "missed" in capsys.readouterr().out


def test_a_part_of_a_run_takes_the_places_of_its_figures_and_leaves_the_others(tmp_path):
    first, second = (Figure(name, 1, "times", "lower", 1.15, "c") for name in ("export.x", "export.y"))
    report("some", [first, second], results=tmp_path)
    report("some", [replace(second, value=2)], whole=False, results=tmp_path)
    written = json.loads((tmp_path / "some.json").read_text())["figures"]
    assert [(one["name"], one["value"]) for one in written] == [("export.x", 1), ("export.y", 2)]


def test_a_part_of_a_run_is_not_written_beside_what_was_measured_elsewhere(tmp_path, monkeypatch, capsys):
    figure = Figure("export.x", 1, "times", "lower", 1.15, "c")
    report("some", [figure], whole=False, results=tmp_path)
    assert list(tmp_path.iterdir()) == []
    report("some", [figure], results=tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    report("some", [replace(figure, value=2)], whole=False, results=tmp_path)
    assert json.loads((tmp_path / "some.json").read_text())["figures"][0]["value"] == 1
    assert capsys.readouterr().out.count("not written") == 2


def test_the_documents_show_what_the_results_say_and_no_older_figures():
    documents = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    assert rewrite(ALL_FIGURES.read_text(), documents) == ALL_FIGURES.read_text()
    assert rewrite(README.read_text(), main_figures(documents)) == README.read_text()


def test_the_export_benchmark_measures_what_its_aims_are_for():
    measured = set(re.findall(r'_figure\(\s*"([\w.]+)"', Path(export.__file__).read_text()))
    assert measured == {
        "export.5m.time_ratio_vs_native",
        "export.50m.time_ratio_vs_native",
        "export.5m.time_ratio_vs_arrow",
        "export.5m.time_ratio_vs_in_memory",
        "export.50m.worker_growth_mb",
        "export.worker_idle_rss_mb",
        "export.small_partitions_per_second",
        "adopt.files_per_second",
        "export.direct.time_ratio_vs_native",
        "export.direct.time_ratio_vs_stream",
        "export.workers_1.partitions_per_second",
        "export.workers_2.partitions_per_second",
        "export.workers_4.partitions_per_second",
        "export.workers_4.speedup",
    }
    assert measured > export.AIMS.keys()
    assert export.AIMS["export.workers_4.speedup"] == 3


def test_the_memory_of_an_idle_worker_is_measured_for_each_kind_of_deployment_under_names_of_its_own():
    assert {kind.partition(".")[0] for kind in fleet.KINDS} == {*KINDS, ""}
    of_export, of_fleet = (
        set(re.findall(r'_figure\(\s*"([\w.]+)"', Path(module.__file__).read_text())) for module in (export, fleet)
    )
    assert "worker.idle_rss_mb" in of_fleet
    assert of_export & of_fleet == set()


def test_a_soak_exports_and_merges_and_holds_the_longest_history_of_all_loops_against_what_it_was():
    samples = [soak.Sample(n / 12, 300, 40, 30, 100 if n < 39 else 230, 9, n * 10, n * 41) for n in range(1, 41)]
    found = {figure.name: figure for figure in soak._figures(samples)}
    assert {name: (figure.value, figure.met) for name, figure in found.items()} == {
        "soak.resident_mb_growth": (1, True),
        "soak.open_files_growth": (1, True),
        "soak.history_events_growth": (2.3, False),
        "soak.history_kb_growth": (1, True),
        "soak.partitions_per_second": (2, None),
        "soak.changes_per_second": (8.2, None),
    }


def test_the_backfill_benchmark_measures_what_its_aims_are_for():
    measured = set(re.findall(r'figure\(\s*"([\w.]+)"', Path(backfill.__file__).read_text()))
    assert measured == backfill.AIMS.keys()
    assert backfill.AIMS == {
        "backfill.partitions_per_second": 50,
        "backfill.snapshots_per_partition": 0.02,
        "plan.20k_files_seconds": 2,
    }


def test_the_ingest_benchmark_measures_what_its_aims_are_for():
    peers = {1_000: (1e-4, 60.0), 10_000: (6e-5, 130.0), 100_000: (2e-5, 450.0)}
    throughput = {one.name: one.value for one in ingest.compared("ingest", 1e-5, peers)}
    # One that is faster with more memory than is allowed to us is no measure.
    assert throughput["ingest.speedup_vs_plain_loop"] == 6
    assert throughput["ingest.speedup_vs_plain_loop_by_100000"] == 2
    assert throughput["ingest.plain_loop_by_100000_growth_mb"] == 450
    assert peers.keys() == ingest.BATCHES.keys()
    others = {"ingest.worker_growth_mb", "ingest.latency_p50_seconds"}
    assert ingest.AIMS.keys() - throughput.keys() == others
    assert ingest.AIMS == {
        "ingest.events_per_second": 50_000,
        "ingest.speedup_vs_plain_loop": 5,
        "ingest.worker_growth_mb": 200,
        "ingest.latency_p50_seconds": 2,
    }
