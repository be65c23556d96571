from pathlib import Path

from support.spreading import FIRST, TOGETHER, place_of, scope_of

ROOT = Path(__file__).parents[2]


def test_files_that_share_what_is_expensive_run_in_one_process_and_every_other_file_in_any():
    types = {scope_of(f"tests/types/test_{name}.py::test_it[a::b]") for name in ("bounds", "deep")}
    assert types == {"a table of every type, exported"}
    assert scope_of("tests/e2e/test_export.py::test_it") == "tests/e2e/test_export.py"


def test_what_takes_longest_is_handed_out_first():
    files = ["core/test_types.py", "e2e/test_ingest.py", "types/test_deep.py", "e2e/test_demo.py"]
    places = [place_of(f"tests/{file}::test_it") for file in files]
    assert places == sorted(set(places), reverse=True)


def test_all_that_is_named_is_there():
    files = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/*/**/test_*.py")]
    named = [*TOGETHER, *(first for first in FIRST if first not in TOGETHER.values())]
    assert [path for path in named if not any(file.startswith(path) for file in files)] == []
    assert set(TOGETHER.values()) <= set(FIRST)
