"""What upkeep tells OpenTelemetry: sums by kind of table, so that few series say it of any number of tables."""

from activities import upkeep_metrics
from support.measured import measured


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
