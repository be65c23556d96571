"""What upkeep tells OpenTelemetry: sums by kind of table, so that few series say it of any number of tables."""

import importlib

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from activities import upkeep_metrics


def test_what_was_done_is_counted_and_what_was_not_makes_no_series(monkeypatch):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "get_meter", provider.get_meter)
        importlib.reload(upkeep_metrics)
    upkeep_metrics.count("changelog", expired=3, compacted=9, problems=True)
    upkeep_metrics.count("changelog", expired=2, deleted=4, freed=700)
    data = reader.get_metrics_data()
    assert data is not None
    [resource] = data.resource_metrics
    [scope] = resource.scope_metrics
    found = {
        metric.name: [(dict(point.attributes), point.value) for point in metric.data.data_points]
        for metric in scope.metrics
    }
    importlib.reload(upkeep_metrics)
    provider.shutdown()
    place = {"kind": "changelog"}
    assert found == {
        "icefleet.upkeep.snapshots_expired": [(place, 5)],
        "icefleet.upkeep.files_deleted": [(place, 4)],
        "icefleet.upkeep.bytes_freed": [(place, 700)],
        "icefleet.upkeep.files_compacted": [(place, 9)],
        "icefleet.upkeep.problems": [(place, 1)],
    }
