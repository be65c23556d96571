"""Load and limits of config held against what a source allows: what is named, and that all of it is."""

from dataclasses import replace

import pytest

from activities.core.settings import PINNED_SETTINGS
from activities.core.source_load import Allowed, Load, check_load

LOAD = Load("here.default", workers=3, export_slots=4, lookup_slots=2, limits={"max_threads": 4})
OPEN = {name: Allowed("0") for name in ("readonly", "max_concurrent_queries_for_user", "max_threads")}
OPEN |= {name: Allowed(str(value)) for name, value in PINNED_SETTINGS.items()}


def problems(load: Load = LOAD, server: dict[str, str] | None = None, **changed: Allowed) -> list[str]:
    return [finding.problem for finding in check_load(load, OPEN | changed, server or {})]


def test_a_source_without_bounds_has_nothing_to_report():
    assert problems(server={"max_concurrent_queries": "0", "max_concurrent_select_queries": "0"}) == []


@pytest.mark.parametrize(("allowed", "said"), [("18", 0), ("17", 1), ("0", 0)])
def test_the_fleet_must_fit_within_what_the_user_may_run_at_once(allowed, said):
    assert len(problems(max_concurrent_queries_for_user=Allowed(allowed))) == said


def test_every_bound_is_named_with_what_the_fleet_can_send():
    found = problems(
        server={"max_concurrent_queries": "10", "max_concurrent_select_queries": "100"},
        max_concurrent_queries_for_user=Allowed("5"),
        max_concurrent_queries_for_all_users=Allowed("9"),
    )
    fleet = "and 3 workers x (4 export slots + 2 lookup slots) can send 18 at once"
    assert found == [
        f"the source here.default runs at most 5 queries at once (max_concurrent_queries_for_user), {fleet}",
        f"the source here.default runs at most 9 queries at once (max_concurrent_queries_for_all_users), {fleet}",
        f"the source here.default runs at most 10 queries at once (max_concurrent_queries), {fleet}",
    ]


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        (Allowed("2", high="4"), []),
        (Allowed("2", high="3"), ["allows max_threads up to 3, and queries send '4'"]),
        (Allowed("9", low="5"), ["allows max_threads from 5, and queries send '4'"]),
        (Allowed("auto(2)", fixed=True), ["does not let its user change max_threads from 'auto(2)', and queries"]),
        (Allowed("4", fixed=True), []),
    ],
)
def test_a_limit_that_the_user_may_not_set_so_is_named(allowed, said):
    found = problems(max_threads=allowed)
    assert len(found) == len(said)
    assert all(words in problem for words, problem in zip(said, found, strict=True))


def test_a_setting_that_keeps_results_whole_and_may_not_be_sent_is_named():
    (found,) = check_load(LOAD, OPEN | {"read_overflow_mode": Allowed("break", fixed=True)}, {})
    assert "does not let its user change read_overflow_mode from 'break', and queries send 'throw'" in found.problem
    assert "shorten" in found.way_out


def test_a_user_who_may_send_no_settings_at_all_is_one_finding():
    fixed = {name: replace(allowed, fixed=True) for name, allowed in OPEN.items()}
    (found,) = check_load(LOAD, fixed | {"readonly": Allowed("1")}, {})
    assert (
        found.problem == "the user of the source here.default is readonly = 1 and can send no settings with its queries"
    )
    assert "readonly = 2" in str(found)
