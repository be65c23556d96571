import pytest

from activities.core.settings import NEWER_SETTINGS, PINNED_SETTINGS


def known(engine):
    return {row["name"]: row for row in engine.rows("SELECT name, type FROM system.settings")}


def test_every_pinned_setting_exists(engine):
    assert set(PINNED_SETTINGS) - set(known(engine)) == set()


def test_every_overflow_mode_of_the_engine_is_pinned_to_throw(engine):
    modes = {name for name, row in known(engine).items() if row["type"].startswith("OverflowMode")}
    assert modes == {name for name, value in PINNED_SETTINGS.items() if value == "throw"} - {
        "date_time_overflow_behavior"
    }


def test_newer_settings_are_pinned_ones():
    assert set(PINNED_SETTINGS) > NEWER_SETTINGS


@pytest.fixture(scope="module")
def plenty(engine):
    engine.run("CREATE TABLE plenty (n UInt64) ENGINE = MergeTree ORDER BY n")
    engine.run("INSERT INTO plenty SELECT number FROM numbers(200000)")
    return engine


def unpinned(profile):
    """The profile's own values in place of the pinned ones."""
    return {name: value for name, value in profile.items() if name in PINNED_SETTINGS}


BREAKING = [
    {"limit": 10},
    {"offset": 199_990},
    {"max_result_rows": 10, "result_overflow_mode": "break", "max_block_size": 10},
    {"additional_result_filter": "n < 5"},
    {"additional_table_filters": "{\\'default.plenty\\': \\'n < 5\\'}"},
]


@pytest.mark.parametrize("profile", BREAKING, ids=lambda profile: next(iter(profile)))
def test_a_profile_that_shortens_results_shortens_none_of_ours(plenty, profile):
    cut = plenty.table("SELECT n FROM plenty", profile=profile, **unpinned(profile))
    assert len(cut) < 200_000
    assert len(plenty.table("SELECT n FROM plenty", profile=profile)) == 200_000


@pytest.mark.parametrize(
    "profile",
    [
        {"max_rows_to_read": 10, "read_overflow_mode": "break", "max_block_size": 10},
        {"max_rows_to_sort": 10, "sort_overflow_mode": "break", "max_block_size": 10},
    ],
    ids=lambda profile: next(iter(profile)),
)
def test_a_limit_of_the_profile_becomes_an_error_instead_of_fewer_rows(plenty, profile):
    query = "SELECT n FROM plenty ORDER BY n + 1"
    assert len(plenty.table(query, profile=profile, **unpinned(profile))) < 200_000
    with pytest.raises(RuntimeError, match=r"Limit for (rows|result) "):
        plenty.table(query, profile=profile)
