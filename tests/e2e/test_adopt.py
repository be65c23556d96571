"""What was published before icefleet becomes part of its table, where it lies, and the daily export goes on from there."""

import pytest

from support.published import adopt, day_table, parquet, publish, reasons


@pytest.fixture
async def published(fleet):
    """The small table at the source under the profile of the public files, and its three days as others wrote them."""
    fleet.set_export(orphan_age_seconds=1)
    await fleet.make_days(days=3, rows=10, profile="as_published")
    publish(fleet, {f"2024/3/{day}.parquet": parquet(day_table(fleet.network, day)) for day in (18, 19, 20)})
    return fleet


async def test_published_files_are_adopted_read_by_three_engines_and_nothing_of_them_is_exported_again(published):
    fleet = published
    async with fleet.worker():
        dry = await adopt(fleet, dry_run=True)
        assert (dry.status, dry.adopted, dry.rows, dry.refused) == ("dry_run", 3, 30, 0)
        assert fleet.table() is None
        report = await adopt(fleet)
        assert (report.status, report.adopted, report.rows, report.refused) == ("complete", 3, 30, 0), report
        assert len(report.snapshots) == 1
        again = await adopt(fleet)
        assert (again.status, again.adopted, again.already_there, again.snapshots) == ("complete", 0, 3, [])
        export = await fleet.request(from_="2024-03-18", to="2024-03-20")
        assert (export.status, export.present) == ("nothing_to_do", 3), export
    assert reasons(report, fleet) == {}
