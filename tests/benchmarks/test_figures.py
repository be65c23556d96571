"""The README's figures come from what was measured, and from nowhere else."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path("benchmarks").resolve()))

from figures import BEGIN, END, rewrite

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


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="lacks the markers"):
        rewrite("nothing", [])


def test_the_readme_has_the_markers():
    assert Path("README.md").read_text().index(BEGIN) < Path("README.md").read_text().index(END)
