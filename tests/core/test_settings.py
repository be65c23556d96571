from activities.core.settings import NEWER_SETTINGS, PINNED_SETTINGS


def known(engine):
    return {row["name"]: row for row in engine.rows("SELECT name, type FROM system.settings")}


def test_every_pinned_setting_exists(engine):
    assert set(PINNED_SETTINGS) - set(known(engine)) == set()


def test_every_overflow_mode_of_the_engine_is_pinned_to_throw(engine):
    modes = {name for name, row in known(engine).items() if row["type"].startswith("OverflowMode")}
    assert modes == {name for name, value in PINNED_SETTINGS.items() if value == "throw"} - {"date_time_overflow_behavior"}


def test_newer_settings_are_pinned_ones():
    assert set(PINNED_SETTINGS) > NEWER_SETTINGS


PROFILE = {
    "limit": 10,
    "offset": 3,
    "max_result_rows": 10,
    "result_overflow_mode": "break",
    "max_rows_to_read": 10,
    "read_overflow_mode": "break",
    "max_rows_to_sort": 10,
    "sort_overflow_mode": "break",
    "additional_result_filter": "n < 5",
    "additional_table_filters": "{''default.plenty'': ''n < 5''}",
    "final": 1,
}


def test_a_profile_cannot_shorten_a_result(engine):
    engine.run("CREATE TABLE plenty (n UInt64) ENGINE = MergeTree ORDER BY n")
    engine.run("INSERT INTO plenty SELECT number FROM numbers(200000)")
    query = "SELECT n FROM plenty"
    assert len(engine.table(query, **PROFILE)) < 10
    for name, value in PROFILE.items():
        engine.run(f"SET {name} = {value}" if isinstance(value, int) else f"SET {name} = '{value}'")
    try:
        for limit in ("max_rows_to_read", "max_rows_to_sort"):
            engine.run(f"SET {limit} = 0")
        assert len(engine.table(query)) == 200_000
    finally:
        for name in PROFILE:
            engine.run(f"SET {name} = DEFAULT")
