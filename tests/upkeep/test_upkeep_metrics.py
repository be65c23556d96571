"""What upkeep tells OpenTelemetry: sums by kind of table, so that few series say it of any number of tables."""

from temporalio.testing import ActivityEnvironment

from activities import sweeping, upkeep_metrics
from activities.contracts.cdc import KEEP_STEPS
from activities.contracts.upkeep import ManifestsInput
from activities.export import Export
from activities.lake.fewermanifests import MERGE_AT
from support.changelogs import opened as changelog
from support.direct import Hands
from support.keeping import announce, keep, with_pipeline
from support.measured import measured
from support.upkeep import AT_ONCE, Late, expire


def test_what_was_done_is_counted_and_what_was_not_makes_no_series():
    with measured(upkeep_metrics) as points:
        upkeep_metrics.count("changelog", expired=3, compacted=9, problems=True)
        upkeep_metrics.count("changelog", expired=2, deleted=4, freed=700)
        found = points()
    place = {"kind": "changelog"}
    assert found == {
        "icefleet.upkeep.snapshots_expired": [(place, 5)],
        "icefleet.upkeep.files_deleted": [(place, 4)],
        "icefleet.upkeep.bytes_freed": [(place, 700)],
        "icefleet.upkeep.files_compacted": [(place, 9)],
        "icefleet.upkeep.problems": [(place, 1)],
    }


async def test_what_upkeep_of_a_changelog_did_is_counted_as_it_reports_it_and_a_dry_run_counts_nothing(
    fleet, monkeypatch
):
    monkeypatch.setattr(sweeping, "SKEW_SECONDS", -2)  # the store counts in whole seconds
    async with changelog(fleet) as found:
        orders = with_pipeline(found)
        await orders.create()
        for number in range(1, 19, 2):
            await orders.append(number, number + 1)
        await announce(orders)
        with measured(upkeep_metrics) as points:
            for step in KEEP_STEPS:
                await keep(orders, step, dry_run=True)
            dry = points()
            pages = [await keep(orders, step) for step in (*KEEP_STEPS, "delete")]
            counted = points()
    assert dry == {}
    sums = {
        "snapshots_expired": sum(page.expired for page in pages),
        "files_deleted": sum(page.deleted for page in pages),
        "bytes_freed": sum(page.freed for page in pages),
        "files_compacted": 9,
    }
    assert {name: count for name, count in sums.items() if not count} == {}
    place = {"kind": "changelog"}
    assert counted == {f"icefleet.upkeep.{name}": [(place, count)] for name, count in sums.items()}


async def test_what_upkeep_of_an_export_did_is_counted_as_it_reports_it_and_a_dry_run_counts_nothing(fleet):
    fleet.set_export(**AT_ONCE)
    await fleet.make_days(days=1, rows=5)
    await fleet.make_days("many", days=MERGE_AT, rows=1)
    async with fleet.context() as context:
        hands, many = Hands(fleet, context), Hands(fleet, context, table="many")
        await hands.run()
        await Late(fleet, hands).replace()
        for planned in (await many.plan()).todo:
            await many.commit([await many.export(planned)])

        async def merge(**more):
            task = ManifestsInput(fleet.name, "many", fleet.network, **more)
            return await ActivityEnvironment().run(Export(context).merge_manifests, task)

        with measured(upkeep_metrics) as points:
            await expire(fleet, context, dry_run=True)
            await merge(dry_run=True)
            dry = points()
            expired, merged = await expire(fleet, context), await merge()
            counted = points()
    assert (dry, expired.expired, merged.before - merged.after) == ({}, 1, MERGE_AT - 1)
    place = {"kind": "export"}
    assert counted == {
        "icefleet.upkeep.snapshots_expired": [(place, 1)],
        "icefleet.upkeep.manifests_merged": [(place, MERGE_AT - 1)],
        # From its beginning, so that its first step is an increase.
        "icefleet.upkeep.problems": [(place, 0)],
    }
